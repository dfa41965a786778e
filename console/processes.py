"""Who a process is, and what runs below it: boot id, pid, start time and host, never a pid alone."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

MARK = "TRITONDECK_KEPT"
"""Environment variable that names the keeper to everything below it."""


def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def hostname() -> str:
    return socket.gethostname()


def pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start time (clock ticks since boot), None when there is no such process.

    Not psutil's `create_time`: that is wall time, which moves when somebody sets the clock.
    """
    try:
        # A monitor reads this file of every process every few seconds: 6 µs instead of 30.
        handle = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(handle, 4096)
        finally:
            os.close(handle)
    except OSError:
        return None
    words = text[text.rfind(b")") + 2 :].split(None, 20)
    return words[0].decode(), int(words[1]), int(words[19])


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that can be told from every other one, also from a later one with the same pid.

    `namespace` is the pid namespace: another container of this host has pids of its own.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Identity:
        """The identity of a living process; raises `ProcessLookupError`."""
        found = _stat(pid)
        if found is None:
            raise ProcessLookupError(errno.ESRCH, f"no process {pid}")
        return cls(hostname(), boot_id(), pid_namespace(), pid, found[2])

    @classmethod
    def read(cls, value: object) -> Identity | None:
        """From what `asdict` made; None for anything else."""
        if not isinstance(value, dict):
            return None
        try:
            return cls(**{f.name: value[f.name] for f in fields(cls)})
        except KeyError:
            return None

    @property
    def foreign(self) -> bool:
        """Whether it belongs to another host or container, so that nothing can be said about it."""
        if self.host != hostname():
            return True
        return self.boot == boot_id() and self.namespace != pid_namespace()

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs here (a zombie does not run)."""
        if self.foreign or self.boot != boot_id():
            return False
        found = _stat(self.pid)
        return found is not None and found[2] == self.start and found[0] not in "ZX"

    def signal(self, number: int, *, group: bool = False) -> bool:
        """Send a signal to exactly this process (or its group); False when it is gone."""
        if self.foreign:
            return False
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            # The descriptor pins the process: what `alive` says now stays true for it.
            if not self.alive:
                return False
            if group:
                os.killpg(self.pid, number)
            else:
                signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


def children_of_all(zombies: bool = False) -> dict[int, list[int]]:
    """Every process that has children, with these; zombies left out unless they are wanted. One
    look at the table."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        if (found := _stat(pid)) and (zombies or found[0] not in "ZX"):
            children.setdefault(found[1], []).append(pid)
    return children


def descendants(root: int, children: Mapping[int, list[int]] | None = None) -> list[int]:
    """Every process below `root`, zombies left out; `children` from a look that was taken before."""
    if children is None:
        children = children_of_all()
    below: list[int] = []
    queue = [root]
    while queue:
        mine = children.get(queue.pop(), [])
        below += mine
        queue += mine
    return below


def survivors(mark: str) -> list[int]:
    """Processes of ours that carry `mark`: what a killed keeper left behind, however it forked."""
    return [pid for pid in _pids() if _carries(pid, mark)]


def _carries(pid: int, mark: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # gone, or another user's
    if f"{MARK}={mark}".encode() not in environment.split(b"\0"):
        return False
    now = _stat(pid)
    return now is not None and now[0] not in "ZX"


def signal_survivors(mark: str, number: int) -> int:
    """Send a signal to every process that carries `mark`; how many there were."""
    count = 0
    for pid in survivors(mark):
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if _carries(pid, mark):  # the descriptor pins it: a reused pid is not hit
                signal.pidfd_send_signal(handle, number)
                count += 1
        except ProcessLookupError:
            continue
        finally:
            os.close(handle)
    return count


def _pids() -> Iterator[int]:
    with os.scandir("/proc") as entries:
        return iter([int(entry.name) for entry in entries if entry.name.isdigit()])
