"""`Telemetry`: the figures of this machine for the whole application, each as often as it is cheap."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from console.facts import UsageError
from console.telemetry.gpus import FastGpus
from console.telemetry.hostload import Disks, HostLoad
from console.telemetry.nvml import Nvml, gate
from console.telemetry.people import People, with_gpu_memory
from console.telemetry.reading import HostReading, Reading
from console.telemetry.slowgpus import PcieTurns, SlowGpus, readings
from console.telemetry.turn import Turn
from console.text import clean

INTERVALS = (0.25, 10.0)
"""Seconds between two fast looks: least and most."""
SLOW_SECONDS = 5.0
"""Between two looks at what takes a millisecond a GPU or more, and at the disks."""
PEOPLE_SECONDS = 2.0
PCIE_SECONDS = 5.0
"""In which the PCIe throughput of every GPU is measured once."""
FIRST_SECONDS = 0.1
"""Between the turns until every GPU had one."""
GPU_PATIENCE = 0.05
"""How long a reading waits for the GPUs' fast figures of its own interval."""
SHARE = 0.005
"""Of one processor that each of the slower classes may take."""
STALE_SECONDS = 3.0
"""A class is stale after this many of its intervals, and at least so many seconds."""
STALE_READINGS = 3
"""So many readings one after the other went without a driver that is said not to answer. One alone
says nothing: this process may have had no turn for as long."""


class Telemetry:
    """One object an application. `reading` never waits for a driver, a disk or a process.

    `owners` answers pid to run or service id for the root processes of ours; `folders` answers the
    folders whose disks matter. Both are called from threads of this object every few seconds.
    """

    def __init__(
        self,
        interval: float = 1.0,
        owners: Callable[[], Mapping[int, str]] = dict,
        folders: Callable[[], Iterable[Path]] = tuple,
        nvml: Nvml | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._wall = wall
        self._host = HostLoad()
        self._gpus = FastGpus(nvml or gate())
        self._slow = SlowGpus(self._gpus, wall)
        self._pcie = PcieTurns(self._gpus)
        self._disks = Disks(folders)
        self._people = People(owners)
        self._asked: frozenset[int] = frozenset()
        self._news = threading.Condition()
        self._turns: tuple[Turn, ...] = ()
        self._now = HostReading()
        self._late = 0
        """Readings since the GPUs' fast figures last came."""
        self._latest = Reading(wall(), time.monotonic(), gpu_note="nothing was sampled yet")
        self.interval = interval

    @property
    def interval(self) -> float:
        """Seconds between two readings, 0.25 to 10. Raises `UsageError` outside; set at any time."""
        return self._interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        if not INTERVALS[0] <= seconds <= INTERVALS[1]:
            raise UsageError(
                f"{seconds:g} s is no interval for telemetry",
                why="fast figures cost some milliseconds, and curves need points",
                fix=f"take {INTERVALS[0]:g} to {INTERVALS[1]:g} seconds",
            )
        self._interval = seconds
        for turn in self._turns:
            turn.wake()

    def start(self) -> None:
        """Begin to sample on threads of its own; again after `close` too."""
        if self._turns:
            return
        every, seldom = lambda: self._interval, lambda: max(SLOW_SECONDS, self._interval)
        often = lambda: max(PEOPLE_SECONDS, self._interval)  # noqa: E731
        self._slow_turn = Turn("telemetry-slow", self._slow.read, seldom, SHARE)
        self._pcie_turn = Turn("telemetry-pcie", self._pcie.read, self._pcie_seconds)
        self._people_turn = Turn("telemetry-people", self._read_people, often, SHARE)
        self._gpus_turn = Turn("telemetry-gpus", self._read_gpus, lambda: None)
        self._turns = (
            self._gpus_turn,
            self._slow_turn,
            self._pcie_turn,
            self._people_turn,
            Turn("telemetry-disks", self._disks.read, seldom, SHARE),
            Turn("telemetry", self._tick, every),
        )
        for turn in self._turns:
            turn.start()

    def close(self) -> None:
        """End the threads; one that waits for a driver ends with its call. `start` begins anew."""
        turns, self._turns = self._turns, ()
        for turn in turns:
            turn.close()
        with self._news:
            self._news.notify_all()
        for turn in turns:
            turn.join(timeout=0.5)

    def reading(self) -> Reading:
        """The newest reading; the same object until the next interval."""
        return self._latest

    def wait(self, since: Reading | None = None, timeout: float = 10.0) -> Reading | None:
        """Block until there is a reading other than `since`; None after `timeout` or `close`."""
        with self._news:
            self._news.wait_for(lambda: self._fresh(since) or not self._turns, timeout)
            return self._latest if self._fresh(since) else None

    def survey(self, seconds: float = 0.2) -> Reading:
        """One whole reading, rates over `seconds`: for a command that asks once, without `start`.

        Blocks for `seconds` and some 50 ms a GPU.
        """
        for _ in range(2):
            self._gpus.read()
            self._slow.read()
            self._disks.read()
            self._read_people()
            self._now = self._host.read()
            if not self._pcie.figures:
                for _ in self._gpus.look.figures:
                    self._pcie.read()
                time.sleep(seconds)
        self._gpus.read()  # with the MIG instances that the slow look found
        self._publish()
        return self._latest

    # -- below: on the threads -----------------------------------------------------------

    def _tick(self) -> None:
        self._now = self._host.read()
        self._late = 0 if self._gpus_turn.run_once(GPU_PATIENCE) else self._late + 1
        if not self._asked.issuperset(row.pid for row in self._gpus.look.processes):
            self._people_turn.wake()
        self._publish()

    def _read_gpus(self) -> None:
        known = len(self._gpus.look.figures)
        if len(self._gpus.read().figures) != known:
            self._slow_turn.wake()
            self._pcie_turn.wake()
        elif self._gpus.costly:  # until they are quick again, the slow class has their figures
            self._slow_turn.wake()
        if self._late:  # the reading of this interval went without
            self._late = 0
            self._publish()

    def _read_people(self) -> None:
        self._asked = frozenset(row.pid for row in self._gpus.look.processes)
        self._people.read(self._asked)

    def _pcie_seconds(self) -> float:
        if not self._pcie.whole:
            return FIRST_SECONDS
        return max(PCIE_SECONDS, self._interval) / max(1, len(self._gpus.look.figures))

    def _fresh(self, since: Reading | None) -> bool:
        return self._latest is not since and bool(self._latest.host.memory_total)

    def _publish(self) -> None:
        """Put the newest of every class together."""
        now, look = time.monotonic(), self._gpus.look
        processes = self._people.describe(look.processes, self._slow.use)
        slow_for = STALE_SECONDS * max(SLOW_SECONDS, self._interval)
        gpus = readings(self._gpus, self._slow, self._pcie, now - slow_for)
        note = look.note
        age = now - look.at
        if self._late >= STALE_READINGS and age > STALE_SECONDS * max(1.0, self._interval):
            note = f"the NVIDIA driver has not answered for {age:.0f} s"
            gpus = tuple(replace(gpu, state="stalled") for gpu in gpus)
        driver, cuda = self._slow.versions
        reading = Reading(
            time=self._wall(),
            monotonic=now,
            gpus=gpus,
            gpu_note=note,
            driver=driver,
            cuda=cuda,
            host=self._with_disks(self._now, now, slow_for),
            processes=processes,
            trees=with_gpu_memory(self._people.trees, processes),
        )
        with self._news:
            self._latest = reading
            self._news.notify_all()

    def _with_disks(self, host: HostReading, now: float, patience: float) -> HostReading:
        problems = {turn.name: turn.problem for turn in self._turns if turn.problem}
        asking, since = self._disks.asking
        if asking is not None and now - since > patience:
            problems["disks"] = f"{clean(str(asking))} does not answer"
        return replace(host, disks=self._disks.found, problems={**host.problems, **problems})
