"""Writes readings of this machine and of servers, with what happens to them, into a recording."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from console.settings import RecordSettings
from console.telemetry.reading import Reading
from console.telemetry.recording import Limits, MarkRow, Recording
from console.triton import series
from console.triton.happenings import happenings
from console.triton.reading import ServerReading


def limits(settings: RecordSettings) -> Limits:
    """The operator's limits of one recording."""
    return Limits(settings.megabytes << 20, settings.days * 86400)


class ViewRecorder:
    """One recording. One thread calls it; a disk that takes no more is in `problem`, no more."""

    def __init__(self, path: Path, what: str, limits: Limits | None = None) -> None:
        self._recording = Recording(path.absolute(), {"what": what}, limits)
        self.problem = ""
        self._servers: Sequence[ServerReading] = ()

    def add(self, reading: Reading | None, servers: Sequence[ServerReading] = ()) -> None:
        if reading is None:
            return
        for kind, words, target in happenings(self._servers, servers):
            self.mark(kind, words, target, reading.time)
        self._servers = servers
        sample = {"reading": reading, "servers": tuple(servers)}
        self._recording.add(reading.time, sample, series.values(reading, servers))
        self.problem = self._recording.problem

    def mark(self, kind: str, text: str, target: str = "", when: float | None = None) -> None:
        self._recording.mark(MarkRow(time.time() if when is None else when, kind, text, target))

    def close(self) -> None:
        self._recording.close()
