"""History in memory that stays as large as it is: half an hour of samples, half a day of peaks."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from threading import Lock

SAMPLES = 1800
PEAKS = 2160
PEAK_SECONDS = 20.0
FORGET = 900
"""Samples after which a series that is told no more is dropped (a model that is gone)."""
_NAN = math.nan


class _Ring:
    """One level: times (seconds of a monotonic clock) and one float32 array a series."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.times = array("d", [_NAN]) * capacity
        self.series: dict[str, array[float]] = {}
        self.count = 0

    def add(self, at: float, values: Mapping[str, float | None]) -> None:
        slot = self.count % self.capacity
        self.times[slot] = at
        for name, kept in self.series.items():
            value = values.get(name)
            kept[slot] = _NAN if value is None else value
        for name in values.keys() - self.series.keys():
            kept = array("f", [_NAN]) * self.capacity
            value = values[name]
            kept[slot] = _NAN if value is None else value
            self.series[name] = kept
        self.count += 1

    def since(self, name: str, start: float) -> list[tuple[float, float]]:
        """Times and values from `start` on, the oldest first; NaN where a figure was missing."""
        kept = self.series.get(name)
        found: list[tuple[float, float]] = []
        if kept is None:
            return found
        for back in range(1, min(self.count, self.capacity) + 1):
            slot = (self.count - back) % self.capacity
            if self.times[slot] < start:
                break
            found.append((self.times[slot], kept[slot]))
        found.reverse()
        return found


class Rings:
    """Every series at two steps. Safe to use from several threads."""

    def __init__(self) -> None:
        self._fine, self._coarse = _Ring(SAMPLES), _Ring(PEAKS)
        self._peaks: dict[str, float | None] = {}
        self._peak_until = 0.0
        self._told: dict[str, int] = {}
        self._lock = Lock()

    def add(self, at: float, values: Mapping[str, float | None]) -> None:
        """One sample at `at` (monotonic seconds)."""
        with self._lock:
            self._fine.add(at, values)
            if at >= self._peak_until:
                if self._peaks:
                    self._coarse.add(self._peak_until, self._peaks)
                    self._forget()
                self._peaks, self._peak_until = {}, at + PEAK_SECONDS
            for name, value in values.items():
                self._told[name] = self._fine.count
                before = self._peaks.get(name)
                if before is None or (value is not None and value > before):
                    self._peaks[name] = value

    def _forget(self) -> None:
        old = [n for n, seen in self._told.items() if self._fine.count - seen > FORGET]
        for name in old:
            del self._told[name]
            self._fine.series.pop(name, None)
            self._coarse.series.pop(name, None)

    def names(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._fine.series)

    def oldest(self) -> float | None:
        """The earliest moment that is still known."""
        with self._lock:
            times = [t for ring in (self._fine, self._coarse) for t in ring.times if t == t]
            return min(times, default=None)

    def curve(
        self, name: str, end: float, span: float, points: int, interval: float
    ) -> tuple[float | None, ...]:
        """The largest value of each of `points` parts of the `span` seconds before `end`."""
        with self._lock:
            reach = self._fine.times[self._fine.count % SAMPLES]
            fine = reach != reach or reach <= end - span  # NaN: not full yet, so all is there
            ring = self._fine if fine else self._coarse
            samples = ring.since(name, end - span)
            if not fine:
                samples += self._fine.since(name, samples[-1][0] if samples else end - span)
        return sliced(samples, end, span, points, interval if fine else PEAK_SECONDS)


def sliced(
    samples: list[tuple[float, float]], end: float, span: float, points: int, step: float
) -> tuple[float | None, ...]:
    """The largest value of each part; a part between two samples shows the one before it."""
    points = points or max(1, round(span / step))
    width, start = span / points, end - span
    parts: list[float | None] = [None] * points
    for at, value in samples:
        if value != value:
            continue
        first = min(points - 1, max(0, int((at - start) / width)))
        last = min(points - 1, max(first, int((at + step * 0.9 - start) / width)))
        for part in range(first, last + 1):
            known = parts[part]
            if known is None or (part == first and value > known):
                parts[part] = value
    return tuple(parts)
