"""Looks for checkpoints in a whole tree, with a count and a way to stop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from textual import on, work
from textual.message import Message
from textual.worker import get_current_worker

from console.checkpoints.model import Checkpoint
from screens.base import DeckScreen
from screens.phrase import Phrase, join, say

EVERY = 0.25
"""Seconds between two pictures of a search that goes on."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A search as far as it is."""

    folder: Path
    found: tuple[Checkpoint, ...] = ()
    seen: int = 0
    """Entries of folders that were looked at."""
    ended: bool = False
    stopped: bool = False


class TreeScan(DeckScreen):
    """A screen that can search below a folder; it says how the result is shown."""

    scanning: Scan | None = None
    """The search that is shown, ended or not."""

    class Scanned(Message):
        """A search has come further."""

        def __init__(self, scan: Scan) -> None:
            super().__init__()
            self.result = scan

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, TreeScan.Scanned)

    def show_scan(self, scan: Scan) -> None:
        raise NotImplementedError

    @work(thread=True, exclusive=True, exit_on_error=False, group="browse")
    def scan(self, folder: Path) -> None:
        """Search below `folder`. In the group of what lists a folder: one ends the other."""
        worker = get_current_worker()
        found: list[Checkpoint] = []
        seen, told = 0, time.monotonic()
        self.tell(self.Scanned(Scan(folder)))

        def count(entries: int) -> None:
            nonlocal seen, told
            seen = entries
            if time.monotonic() - told >= EVERY:
                told = time.monotonic()
                self.tell(self.Scanned(Scan(folder, tuple(found), seen)))

        def stopped() -> bool:
            return worker.is_cancelled or self._stop

        self._stop = False
        for checkpoint in self.desk.scan(folder, count, stopped):
            found.append(checkpoint)
            count(seen)
        self.tell(self.Scanned(Scan(folder, tuple(found), seen, True, self._stop)))

    _stop = False

    def stop_scan(self) -> None:
        """End the search; what it has found stays."""
        self._stop = True

    @on(Scanned)
    def _scanned(self, message: Scanned) -> None:
        self.scanning = message.result
        self.show_scan(message.result)


def counted(scan: Scan) -> Phrase:
    """``14 checkpoints · 12 000 entries looked at · esc stops``"""
    number = len(scan.found)
    found = say(f"{number} checkpoint{'' if number == 1 else 's'} below", "strong")
    seen = say(f"{scan.seen:,} entries".replace(",", " "), "dim")
    if scan.stopped:
        state, key = say("stopped", "warn"), "esc shows the folder"
    elif scan.ended:
        state, key = Phrase(), "esc shows the folder"
    else:
        state, key = say("searching …", "accent"), "esc stops"
    return join(found, seen, state, say(key, "dim"), between=" · ")
