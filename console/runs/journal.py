"""The run's journal: one JSON object a line, only ever appended to.

Every event carries wall time (for people), the monotonic clock and the boot id (for durations): a
clock that somebody sets changes no duration. A line torn by a crash or a full disk is passed over
by readers, and the next writer starts on a line of its own.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from console import processes, storage

VERSION = 1
Event = dict[str, Any]
_ALWAYS = {"event", "time", "monotonic", "boot"}


class Journal:
    """The writing end; one runner at a time has it."""

    def __init__(self, path: Path) -> None:
        self._handle = storage.open_log(path)
        self._boot = processes.boot_id()
        self._torn = path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")

    def event(self, event: str, **fields: Any) -> Event:
        """An event of now, not yet written."""
        now = {"time": time.time(), "monotonic": time.monotonic(), "boot": self._boot}
        return {"v": VERSION, "event": event, **now, **fields}

    def append(self, event: str, **fields: Any) -> None:
        """Write one event and flush it to the disk; raises `OSError` when that is not possible."""
        self.write(self.event(event, **fields))

    def write(self, event: Event) -> None:
        """Write an event that `event` made."""
        start = b"\n" if self._torn else b""
        data = memoryview(start + json.dumps(event).encode() + b"\n")
        self._torn = True  # until the whole line is there
        while data:
            data = data[os.write(self._handle, data) :]
        self._torn = False
        os.fdatasync(self._handle)


def read(path: Path) -> list[Event]:
    """Every whole event, in order; nothing where there is no journal yet."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    events = []
    for line in text.split(b"\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue  # torn, or empty
        if isinstance(event, dict) and event.keys() >= _ALWAYS:
            events.append(event)
    return events


def between(start: Event, end: Event | None = None) -> float | None:
    """Seconds from one event to another (to now without one); None across a reboot."""
    boot = end["boot"] if end else processes.boot_id()
    if start["boot"] != boot:
        return None
    until = end["monotonic"] if end else time.monotonic()
    return max(0.0, float(until) - float(start["monotonic"]))
