"""This host's figures: processor, memory and network by the second, disks on a thread of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from console.telemetry.memory import memory
from console.telemetry.rates import Rate
from console.telemetry.reading import DiskReading, HostReading

SHM = Path("/dev/shm")
LOOPBACK = "lo"


class HostLoad:
    """Percentages and rates are counted since the look before of the same object."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times = psutil.cpu_times(percpu=True)
        self._received, self._sent = Rate(), Rate()

    def read(self) -> HostReading:
        """All but the disks, in some hundred microseconds."""
        values: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for fields, ask in (
            (("cpu_percent", "cores"), self._processors),
            (("load",), lambda: (os.getloadavg(),)),
            (("memory_total", "memory_used"), _memory),
            (("swap_total", "swap_used"), _swap),
            (("shm_total", "shm_used"), _shm),
            (("network_rx", "network_tx"), self._network),
        ):
            try:
                values.update(zip(fields, ask(), strict=True))
            except (OSError, psutil.Error) as error:  # /proc or a part of it is hidden from us
                problems |= dict.fromkeys(fields, getattr(error, "strerror", "") or "not readable")
        return HostReading(**values, problems=problems)

    def cpu_percent(self) -> float:
        """Percent of all processors that worked since the look before."""
        return self._processors()[0]

    def _processors(self) -> tuple[float, tuple[float, ...]]:
        now, before = psutil.cpu_times(percpu=True), self._times
        self._times = now
        if len(now) != len(before):  # a processor was switched on or off
            return 0.0, (0.0,) * len(now)
        spent = [_spent(new, old) for new, old in zip(now, before, strict=True)]
        busy, every = sum(b for b, _ in spent), sum(e for _, e in spent)
        return _percent(busy, every), tuple(_percent(*pair) for pair in spent)

    def _network(self) -> tuple[int | None, int | None]:
        cards = psutil.net_io_counters(pernic=True)
        at = self._clock()
        received = sum(card.bytes_recv for name, card in cards.items() if name != LOOPBACK)
        sent = sum(card.bytes_sent for name, card in cards.items() if name != LOOPBACK)
        return self._received.whole(received, at), self._sent.whole(sent, at)


def _spent(now: Any, before: Any) -> tuple[float, float]:
    """Busy and all seconds between two looks at one processor."""
    # guest time is part of user time in the kernel's figures
    spent = {
        name: max(0.0, getattr(now, name) - getattr(before, name))
        for name in now._fields
        if not name.startswith("guest")
    }
    every = sum(spent.values())
    return every - spent.get("idle", 0.0) - spent.get("iowait", 0.0), every


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 1) if whole > 0 else 0.0


def _memory() -> tuple[int, int]:
    have = memory()
    return have.total, have.total - have.available


def _swap() -> tuple[int, int]:
    swap = psutil.swap_memory()
    return swap.total, swap.used


def _shm() -> tuple[int, int]:
    if not SHM.is_dir():
        return 0, 0
    space = os.statvfs(SHM)
    return space.f_blocks * space.f_frsize, (space.f_blocks - space.f_bfree) * space.f_frsize


class Disks:
    """Space and throughput of folders. A dead network mount blocks `read`, and only that."""

    def __init__(
        self, folders: Callable[[], Iterable[Path]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folders = folders
        self._clock = clock
        self._rates: dict[tuple[str, str], Rate] = {}
        self.found: tuple[DiskReading, ...] = ()
        self.asking: tuple[Path | None, float] = (None, 0.0)
        """The folder whose answer is waited for, and since when (monotonic)."""

    def read(self) -> None:
        """Look at every folder once."""
        counters = psutil.disk_io_counters(perdisk=True) or {}
        found: dict[Path, DiskReading] = {}
        rates: dict[str, tuple[int | None, int | None]] = {}
        for path in self._folders():
            self.asking = (path, self._clock())
            try:
                space, number = os.statvfs(path), path.stat().st_dev
            except OSError as error:
                found[path] = DiskReading(path, problem=error.strerror or "not readable")
                continue
            name = device_name(number)
            if name in counters and name not in rates:
                rates[name] = self._throughput(name, counters[name])
            read, write = rates.get(name, (None, None))
            found[path] = DiskReading(
                path,
                total=space.f_blocks * space.f_frsize,
                free=space.f_bavail * space.f_frsize,
                read=read,
                write=write,
            )
        self.asking = (None, 0.0)
        self.found = tuple(found.values())

    def _throughput(self, name: str, counter: Any) -> tuple[int | None, int | None]:
        at = self._clock()
        read = self._rates.setdefault((name, "read"), Rate())
        write = self._rates.setdefault((name, "write"), Rate())
        return read.whole(counter.read_bytes, at), write.whole(counter.write_bytes, at)


def device_name(number: int, sys: Path = Path("/sys/dev/block")) -> str:
    """The kernel's name of a block device (``nvme0n1p2``); empty for a file system without one."""
    try:
        return (sys / f"{os.major(number)}:{os.minor(number)}").readlink().name
    except OSError:  # overlay, tmpfs, network: device numbers of no device
        return ""
