"""Starting a crashed server again: when, how often, and what stands about it in the folder.

The pause doubles with every restart of the last hour; with the limit reached the server stays down.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from console import storage
from console.planning.plan import ServiceSpec

FILE = "restarts.json"
VERSION = 1
WINDOW = 3600.0
FIRST, LONGEST = 1.0, 60.0
"""Seconds of the first pause, and of the longest."""


@dataclass(frozen=True, slots=True)
class Restarts:
    """Times are seconds of the wall clock."""

    times: list[float] = field(default_factory=list)
    next: float | None = None
    """When the next one is due; None when none is."""
    gave_up: bool = False
    """The limit was reached."""

    def recent(self, now: float) -> int:
        """How many there were within the window."""
        return sum(now - WINDOW < when <= now for when in self.times)


def read(folder: Path) -> Restarts:
    raw = storage.read_json(folder / FILE)
    if raw is None or raw.pop("version", None) != VERSION:
        return Restarts()
    return Restarts(**raw)


def write(folder: Path, restarts: Restarts) -> None:
    storage.write_json(folder / FILE, {"version": VERSION, **asdict(restarts)})


def after_crash(folder: Path, spec: ServiceSpec, now: float | None = None) -> Restarts:
    """What a crash means: when the next start is due, or that there is none; written down."""
    now = time.time() if now is None else now
    before = read(folder)
    count = before.recent(now)
    if spec.restart == "no":
        return before
    if count >= spec.restart_limit:
        decided = Restarts(before.times, None, True)
    else:
        decided = Restarts([*before.times, now], now + min(LONGEST, FIRST * 2**count))
    write(folder, decided)
    return decided


def settled(folder: Path) -> None:
    """Note that no restart is due any more: it has happened, or somebody stopped the server."""
    before = read(folder)
    if before.next is not None:
        write(folder, Restarts(before.times, None, before.gave_up))
