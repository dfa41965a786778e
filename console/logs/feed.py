"""`LogFeed`: keeps what is known of a log up to date while somebody reads it.

A thread of its own looks at the file four times a second. A log is shown from its end at once; its
lines are counted backwards from there (some 2 GB/s), its levels by a process of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.logs.child import Scan
from console.logs.file import LogFile, Row
from console.logs.levels import Level, Tally, tally
from console.logs.region import Region, unsettled

_TAIL_BLOCKS = 8
_BATCH = 32
_TURN = 0.2
"""Seconds of counting between two reports."""


@dataclass(frozen=True, slots=True)
class LogState:
    """What is known of a log at one moment."""

    age: int = 0
    """Grows when another file stands at the path, or the same one begins anew."""
    size: int = 0
    """Bytes."""
    settled: bool = True
    """All lines are counted, so line numbers are known."""
    tallied: bool = True
    """All lines are judged, so the counts of warnings and errors are whole."""
    lines: int = 0
    """Lines that were counted so far."""
    warnings: int = 0
    errors: int = 0
    note: str = ""
    """What happened to the file, in words; not cleaned."""


class LogFeed:
    """One log; `changed` is called from a thread whenever the state did change."""

    def __init__(self, path: Path, changed: Callable[[LogState], None]) -> None:
        self.path = path
        self.file = LogFile(path)
        self.lock = threading.Lock()
        """Held while rows are counted; whoever reads a region's counts takes it."""
        self._changed = changed
        self._state = LogState()
        self._age = 0
        self._note = ""
        self._scan: Scan | None = None
        self._tallied = True
        self._wake = threading.Event()
        self._stopped = False
        self._regions = self._fresh(0)
        self._thread = threading.Thread(target=self._follow, name="log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Look no more; at once, for the thread ends by itself."""
        self._stopped = True
        self._wake.set()
        if self._scan is not None:
            self._scan.cancel()

    # -- reading

    def region(self, least: Level) -> Region:
        """The lines of a level and above, known from the end of the file backwards."""
        return self._regions[least]

    def rows(self, region: Region, first: int, count: int) -> list[Row]:
        """Rows by number, as far as they are known."""
        with self.lock:
            return region.rows(first, count)

    # -- following

    def _fresh(self, anchor: int) -> dict[Level, Region]:
        return {least: Region(self.file, anchor, least) for least in Level}

    def _follow(self) -> None:
        while not self._stopped:
            try:
                self._look()
            except OSError as error:
                self._note = f"cannot read {self.path}: {error.strerror}"
            self._report()
            if self._state.settled and self._caught_up:
                self._wake.wait(0.25)
        if self._scan is not None:
            self._scan.cancel()
        self.file.close()

    @property
    def _caught_up(self) -> bool:
        return self._regions[Level.ERROR].counts.last >= self.file.blocks

    def _look(self) -> None:
        before = self.file.size
        why = self.file.look()
        if why or before == 0 < self.file.size:
            self._restart(why)
        elif self.file.deleted:
            self._note = "the file was deleted: this is what it said"
        end = time.monotonic() + _TURN
        self._grow(before, end)
        everything = self._regions[Level.VERBOSE]
        while not everything.whole and not self._stopped:
            with self.lock:
                everything.back(_BATCH)
            if time.monotonic() >= end:
                break

    def _restart(self, why: str) -> None:
        if self._scan is not None:
            self._scan.cancel()
        anchor = max(0, self.file.blocks - _TAIL_BLOCKS)
        with self.lock:
            self._regions = self._fresh(anchor)
            self._regions[Level.VERBOSE].forward(_TAIL_BLOCKS)
        self._age, self._note = self._age + 1, why
        self._tallied = anchor == 0
        self._report()
        if anchor:
            age = self._age
            request = {"path": str(self.path), "block": anchor}
            self._scan = Scan(request, lambda said: self._answered(age, said))

    def _grow(self, before: int, end: float) -> None:
        """Count and judge what the file has more than `before` bytes."""
        changed = self.file.size != before
        with self.lock:
            everything = self._regions[Level.VERBOSE]
            if changed:
                everything.recount(before)
        more = True
        while more and not self._stopped:
            with self.lock:
                more = not everything.forward(_BATCH)
            if time.monotonic() >= end:
                break
        judged = self._regions[Level.ERROR].counts
        block = min(judged.last, unsettled(before)) if changed else judged.last
        block = max(block, judged.anchor)
        # One block whatever the time is: the next look begins where this one ends, and would leave
        # out what has to be judged anew.
        while block < self.file.blocks and not self._stopped:
            found = tally(self.file.chunk(block))
            with self.lock:
                self._take(block, [found], backwards=False)
            block += 1
            if time.monotonic() >= end:
                break

    def _take(self, first: int, tallies: list[Tally], *, backwards: bool) -> None:
        for least in (Level.INFO, Level.WARNING, Level.ERROR):
            self._regions[least].take(first, tallies, backwards=backwards)

    def _answered(self, age: int, said: Mapping[str, Any]) -> None:
        # From the scan's own thread; a scan of a file that was replaced says nothing any more.
        with self.lock:
            if age != self._age:
                return
            found = [Tally(*counts) for counts in said.get("tallies", ())]
            self._take(self._regions[Level.ERROR].counts.first - 1, found, backwards=True)
            self._tallied = bool(said.get("end"))
            if "failed" in said:
                self._note = f"warnings are not all counted: {said['failed']}"
        self._wake.set()
        self._wake.clear()

    def _report(self) -> None:
        with self.lock:
            everything = self._regions[Level.VERBOSE]
            state = LogState(
                self._age,
                self.file.size,
                everything.whole,
                self._tallied,
                _many(everything),
                _many(self._regions[Level.WARNING]) - _many(self._regions[Level.ERROR]),
                _many(self._regions[Level.ERROR]),
                self._note,
            )
        if state != self._state and not self._stopped:
            self._state = state
            self._changed(state)


def _many(region: Region) -> int:
    return region.counts.end - region.counts.start
