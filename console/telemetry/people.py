"""Whose a process is: user, command, and which run or service of ours; and what those take."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import psutil

from console.processes import children_of_all, descendants
from console.telemetry.rates import Rate
from console.telemetry.reading import GpuProcess, ProcessTree
from console.text import MASK, clean, redact

COMMAND_CAP = 400
_TOKENS = re.compile(r"(--(?:http-restricted-api|grpc-restricted-protocol)[= ]\S*?=)\S+")
"""Triton takes its endpoints' token on the command line."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who a process is. `problem` says why user and command are empty."""

    created: float | None = None
    user: str = ""
    command: str = ""
    problem: str = ""


class People:
    """Kept by pid and start time: command and user of a process are read once.

    `read` runs on one thread; `describe` may be called from another.
    """

    def __init__(
        self,
        owners: Callable[[], Mapping[int, str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owners = owners
        self._clock = clock
        self._kept: dict[int, tuple[psutil.Process, Person]] = {}
        self._members: dict[int, psutil.Process] = {}
        self._rates: dict[int, Rate] = {}
        self.people: Mapping[int, Person] = {}
        self.owner_of: Mapping[int, str] = {}
        self.trees: tuple[ProcessTree, ...] = ()

    def read(self, pids: Iterable[int]) -> None:
        """Look at the processes of `pids` (those on GPUs) and at every tree of ours."""
        self.people = {pid: self._person(pid) for pid in pids}
        roots = self._owners()
        members, trees = {}, []
        children = children_of_all() if roots else {}
        for root, owner in sorted(roots.items()):
            tree = self._tree(root, owner, descendants(root, children))
            members.update(dict.fromkeys((root, *tree.pids), owner))
            trees.append(tree)
        self._kept = {pid: kept for pid, kept in self._kept.items() if pid in self.people}
        self._members = {pid: one for pid, one in self._members.items() if pid in members}
        self._rates = {pid: rate for pid, rate in self._rates.items() if pid in members}
        self.owner_of, self.trees = members, tuple(trees)

    def describe(
        self, processes: Iterable[GpuProcess], use: Mapping[tuple[int, int], int]
    ) -> tuple[GpuProcess, ...]:
        """The rows with what is known so far of their processes."""
        return tuple(self._described(row, use.get((row.gpu, row.pid))) for row in processes)

    def _described(self, row: GpuProcess, sm: int | None) -> GpuProcess:
        person = self.people.get(row.pid, Person())
        return replace(
            row,
            sm=sm,
            user=person.user,
            command=person.command,
            owner=self.owner_of.get(row.pid, ""),
            created=person.created,
            problem=person.problem,
        )

    def _person(self, pid: int) -> Person:
        process, kept = self._kept.get(pid, (None, None))
        if process is not None and kept is not None and process.is_running():
            return kept
        try:
            process = psutil.Process(pid)
            person = _person(process)
        except psutil.NoSuchProcess:  # NVML names processes of other containers too
            self._kept.pop(pid, None)
            return Person(problem="ended, or of another container")
        except psutil.AccessDenied:
            return Person(problem="of another user")
        self._kept[pid] = (process, person)
        return person

    def _tree(self, root: int, owner: str, below: Iterable[int]) -> ProcessTree:
        memory, percent, pids = 0, 0.0, []
        known = False
        for pid in (root, *below):
            try:
                process = self._members.get(pid) or psutil.Process(pid)
                self._members[pid] = process
                with process.oneshot():
                    resident, times = process.memory_info().rss, process.cpu_times()
            except psutil.Error:  # ended between the two looks, or not ours to ask
                continue
            memory += resident
            share = self._rates.setdefault(pid, Rate()).of(times.user + times.system, self._clock())
            known = known or share is not None
            percent += 100 * (share or 0.0)
            pids.append(pid)
        if not pids:
            return ProcessTree(owner, root, problem="ended")
        return ProcessTree(owner, root, tuple(pids), memory, round(percent, 1) if known else None)


def with_gpu_memory(
    trees: Iterable[ProcessTree], processes: Iterable[GpuProcess]
) -> tuple[ProcessTree, ...]:
    """The trees with what their processes hold on all GPUs together."""
    held: dict[int, int] = {}
    for row in processes:
        if row.memory is not None:
            held[row.pid] = held.get(row.pid, 0) + row.memory
    return tuple(
        replace(tree, gpu_memory=sum(held[pid] for pid in tree.pids if pid in held))
        if any(pid in held for pid in tree.pids)
        else tree
        for tree in trees
    )


def _person(process: psutil.Process) -> Person:
    with process.oneshot():
        try:
            words = process.cmdline()
        except psutil.AccessDenied:
            words = []
        command = " ".join(words) or process.name()
        return Person(
            created=process.create_time(),
            user=clean(process.username(), cap=60),
            command=clean(masked(command), cap=COMMAND_CAP),
        )


def masked(command: str) -> str:
    """A command line without the secrets that it may carry."""
    return redact(_TOKENS.sub(rf"\g<1>{MASK}", command))
