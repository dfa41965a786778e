"""`Ticker`: looks at a monitor source in a thread of its own and hands on one frozen frame a tick."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from console.desk.monitor import Curve, Mark, MonitorSource, MonitorView
from screens.monitoring.figures import values
from screens.monitoring.trace import Cells, Trace

SPANS = (60.0, 300.0, 600.0, 1800.0, 7200.0, 43200.0)
"""Seconds that curves show, from the nearest to the farthest."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the screen has room for: (series, width in cells) of each curve, and the span of all."""

    curves: tuple[tuple[str, int], ...] = ()
    span: float = 600.0


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything that one tick draws."""

    view: MonitorView
    wanted: Wanted
    curves: Mapping[tuple[str, int], Cells] = field(default_factory=lambda: MappingProxyType({}))
    marks: tuple[Mark, ...] = ()
    whole: Curve | None = None
    """Of a replay: GPU or host memory over the whole recording."""
    all_marks: tuple[Mark, ...] = ()
    """Of a replay: what happened in the whole recording."""


class Ticker:
    """Calls `show` from its thread with each frame that differs, and `failed` when a look fails."""

    def __init__(
        self,
        source: MonitorSource,
        show: Callable[[Frame], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._source = source
        self._show = show
        self._failed = failed
        self._wanted = Wanted()
        self._traces: dict[tuple[str, int], Trace] = {}
        self._seek: float | None = None
        self._moved = False
        self._playing = False
        self._paused = False
        self._ended = False
        self._news = threading.Condition()
        self._whole: tuple[Curve | None, tuple[Mark, ...]] = (None, ())
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Look no more. The source stays open: whoever made it closes it."""
        self._poke(_ended=True)

    def want(self, wanted: Wanted) -> None:
        """Curves that the next frames shall hold."""
        if wanted != self._wanted:
            self._poke(_wanted=wanted)

    def seek(self, time: float | None) -> None:
        """Of a replay: go to a moment."""
        self._poke(_seek=time, _moved=True)

    def pause(self, paused: bool) -> None:
        """Hand on no frames until further notice; what was missed shows in the curves afterwards."""
        self._poke(_paused=paused)

    def play(self, playing: bool) -> None:
        """Of a replay: go on by itself, as fast as it was recorded."""
        self._poke(_playing=playing)

    def _poke(self, **changes: object) -> None:
        with self._news:
            for name, changed in changes.items():
                setattr(self, name, changed)
            self._news.notify_all()

    # -- in the thread

    def _run(self) -> None:
        shown: tuple[float, Wanted] | None = None
        while not self._ended:
            try:
                frame = self._look(shown)
            except Exception as error:  # noqa: BLE001 - a thread of ours: told, not lost
                if not self._ended:  # whoever leaves closes the source under a look that is late
                    self._failed(error)
                return
            if frame is not None and not self._ended:
                shown = (frame.view.time, frame.wanted)
                self._show(frame)
            with self._news:
                if not self._moved and self._wanted == (frame.wanted if frame else self._wanted):
                    self._news.wait(self._source.interval)

    def _look(self, shown: tuple[float, Wanted] | None) -> Frame | None:
        with self._news:
            wanted, moved, to = self._wanted, self._moved, self._seek
            self._moved = False
        source = self._source
        if not source.live and shown is None:
            self._survey()
        if moved:
            view = source.seek(to)
        elif self._playing and not source.live and shown is not None:
            view = source.seek(shown[0] + source.interval)
        else:
            view = source.snapshot()
        if shown == (view.time, wanted) and not moved:
            return None
        if self._paused and shown is not None and shown[1] == wanted:
            self._add(view)
            return None
        return self._frame(view, wanted)

    def _survey(self) -> None:
        """What a replay holds as a whole. It is shown from its end: that is why it was kept."""
        last = self._source.seek(None)
        span = max(1.0, last.end - last.start)
        names = self._source.series()
        name = next((n for n in names if n.endswith("/memory") and n.startswith("gpu/")), "")
        whole = self._source.history(name or "host/memory", span, 400)
        self._whole = (whole, self._source.marks(span))

    def _add(self, view: MonitorView) -> None:
        if self._source.live:
            now = values(view)
            for (name, _), trace in self._traces.items():
                trace.add(view.time, now.get(name))

    def _frame(self, view: MonitorView, wanted: Wanted) -> Frame:
        known = self._traces
        fresh = {
            (name, width): known[name, width]
            for name, width in wanted.curves
            if (name, width) in known and known[name, width].step == _step(wanted, width)
        }
        if not self._source.live:
            fresh = {}
        self._traces = fresh
        self._add(view)
        for name, width in wanted.curves:
            if (name, width) not in fresh:
                fresh[name, width] = self._load(name, width, _step(wanted, width), wanted.span)
        cells = {key: trace.cells(view.time) for key, trace in fresh.items()}
        marks = self._source.marks(wanted.span)
        whole, everything = self._whole
        return Frame(view, wanted, MappingProxyType(cells), marks, whole, everything)

    def _load(self, name: str, width: int, step: float, span: float) -> Trace:
        trace = Trace(step, width, self._source.interval)
        curve = self._source.history(name, span, 4 * width if span > 4 * width else 0)
        count = max(1, len(curve.values))
        part = (curve.end - curve.start) / count
        trace.fill((curve.start + (n + 1) * part, v) for n, v in enumerate(curve.values))
        return trace


def _step(wanted: Wanted, width: int) -> float:
    """Seconds of one cell."""
    return wanted.span / max(1, width)
