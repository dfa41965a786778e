"""A recording as a `MonitorSource`: the same views as when it was live, to any moment."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from console.desk.monitor import Curve, Mark, MonitorView
from console.telemetry.flat import Plain, nested
from console.telemetry.reading import Reading
from console.telemetry.recording import Recorded, Span, Unreadable
from console.telemetry.rings import sliced
from console.text import clean
from console.triton.reading import ServerReading

Held = TypeVar("Held")
_BLOCKS_HELD = 4
_CURVES_HELD = 180


@dataclass(frozen=True, slots=True)
class Sample:
    """What one recorded sample holds."""

    reading: Reading
    servers: tuple[ServerReading, ...] = ()


@cache
def _adapter() -> TypeAdapter[Sample]:
    return TypeAdapter(Sample)


class Replay:
    """See `MonitorSource`. Safe to ask from several threads."""

    live = False

    def __init__(self, path: Path) -> None:
        """Raises `Unreadable` in words: no such file, no recording, nothing in it."""
        self._recorded = Recorded(path)
        self._spans = self._recorded.spans()
        if not self._spans:
            raise Unreadable(f"{clean(str(path))} holds no sample", why="it ended before the first")
        self._lock = Lock()
        self._samples: OrderedDict[int, list[dict[str, Plain]]] = OrderedDict()
        self._curves: OrderedDict[int, tuple[list[float], dict[str, Any]]] = OrderedDict()
        self._all_marks = tuple(
            Mark(m.time, m.kind, m.text, m.target) for m in self._recorded.marks()
        )
        about = self._recorded.about
        self.title = f"{about.get('what', 'recording')} on {about.get('host', 'an unknown host')}"
        self.start, self.end = self._spans[0].start, max(span.end for span in self._spans)
        self._view = self._show(self.start)

    @property
    def interval(self) -> float:
        span = max(self._spans, key=lambda s: s.count)
        return max(0.25, (span.end - span.start) / (span.count - 1)) if span.count > 1 else 1.0

    def snapshot(self) -> MonitorView:
        return self._view

    def series(self) -> tuple[str, ...]:
        names: dict[str, None] = {}
        with self._lock:
            for span in {0, len(self._spans) // 2, len(self._spans) - 1}:
                names.update(dict.fromkeys(self._curves_of(span)[1]))
        return tuple(names)

    def history(self, series: str, span: float, points: int = 0) -> Curve:
        end = self._view.time
        samples: list[tuple[float, float]] = []
        with self._lock:
            for number, block in enumerate(self._spans):
                if block.end < end - span or block.start > end:
                    continue
                times, columns = self._curves_of(number)
                for at, value in zip(times, columns.get(series, ()), strict=False):
                    if value is not None and end - span <= at <= end:
                        samples.append((at, value))
        step = self.interval
        return Curve(series, end - span, end, sliced(samples, end, span, points, step))

    def marks(self, span: float) -> tuple[Mark, ...]:
        end = self._view.time
        return tuple(mark for mark in self._all_marks if end - span <= mark.time <= end)

    def seek(self, time: float | None) -> MonitorView:
        self._view = self._show(self.end if time is None else time)
        return self._view

    def views(self) -> Iterator[MonitorView]:
        """Every recorded view, the oldest first."""
        for number, span in enumerate(self._spans):
            for index in range(span.count):
                yield self._at(number, index)

    def close(self) -> None:
        with self._lock:
            self._recorded.close()

    # -- below

    def _show(self, time: float) -> MonitorView:
        starts = [span.start for span in self._spans]
        number = max(0, bisect_right(starts, time) - 1)
        with self._lock:
            times, _ = self._curves_of(number)
        return self._at(number, max(0, bisect_right(times, time) - 1))

    def _at(self, number: int, index: int) -> MonitorView:
        with self._lock:
            samples = self._samples_of(number)
        if index >= len(samples):
            return replace(self._view, note="this part of the recording was dropped meanwhile")
        try:
            sample = _adapter().validate_python(nested(samples[index]))
        except ValidationError as error:
            raise Unreadable("this sample cannot be read", why=clean(str(error))[:300]) from error
        return MonitorView(
            sample.reading.time,
            sample.reading,
            sample.servers,
            self.start,
            self.end,
            False,
            self.title,
        )

    def _samples_of(self, number: int) -> list[dict[str, Plain]]:
        return _held(self._samples, number, _BLOCKS_HELD, self._spans, self._recorded.samples)

    def _curves_of(self, number: int) -> tuple[list[float], dict[str, Any]]:
        return _held(self._curves, number, _CURVES_HELD, self._spans, self._recorded.curves)


def _held(
    kept: OrderedDict[int, Held],
    number: int,
    most: int,
    spans: tuple[Span, ...],
    read: Callable[[Span], Held],
) -> Held:
    if number in kept:
        kept.move_to_end(number)
        return kept[number]
    kept[number] = read(spans[number])
    while len(kept) > most:
        kept.popitem(last=False)
    return kept[number]
