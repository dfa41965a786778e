"""`Curve`: memory over a run's time, one line a device, with the steps' boundaries below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from console.runs.model import StepState, StepView
from console.telemetry.sample import Sample
from console.text import human_bytes
from screens.phrase import Phrase, Role, rich_style, say

_EIGHTHS = "▁▂▃▄▅▆▇█"
_LABEL = 6
_FIGURE = 33


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: `points` are (seconds since the epoch, bytes), `total` the most there can be."""

    label: str
    points: tuple[tuple[float, int], ...]
    total: int

    @property
    def now(self) -> int:
        return self.points[-1][1] if self.points else 0

    @property
    def peak(self) -> int:
        return max((value for _, value in self.points), default=0)


def series(samples: Sequence[Sample]) -> tuple[Series, ...]:
    """Curves of a recording: the step's own memory, the host's, and each GPU's."""
    if not samples:
        return ()
    last = samples[-1]
    found = []
    step = tuple((s.time, s.tree_rss) for s in samples if s.tree_rss is not None)
    if step:
        found.append(Series("build", step, max(value for _, value in step)))
    found.append(Series("host", tuple((s.time, s.host_used) for s in samples), last.host_total))
    for gpu in last.gpus:
        points = tuple(
            (s.time, g.memory_used)
            for s in samples
            for g in s.gpus
            if g.index == gpu.index and g.memory_used is not None
        )
        if points and gpu.memory_total:
            found.append(Series(f"gpu {gpu.index}", points, gpu.memory_total))
    return tuple(found)


def resample(
    points: Sequence[tuple[float, int]], start: float, end: float, width: int
) -> list[int | None]:
    """The highest value in each of `width` equal slices of time; None where nothing was sampled.

    A slice between two samples keeps the earlier value: memory does not vanish between looks.
    """
    cells: list[int | None] = [None] * width
    span = max(end - start, 1e-9)
    for moment, value in points:
        cell = min(width - 1, max(0, int((moment - start) / span * width)))
        cells[cell] = max(value, cells[cell] or 0)
    first = next((i for i, v in enumerate(cells) if v is not None), width)
    last = max((i for i, v in enumerate(cells) if v is not None), default=-1)
    for i in range(first + 1, last + 1):
        if cells[i] is None:
            cells[i] = cells[i - 1]
    return cells


class Curve(Widget):
    """A recording's curves; drawn by line, nothing is drawn that did not change."""

    DEFAULT_CSS = "Curve { height: auto; }"
    HELP = "Memory of the build's own processes, of the host and of each GPU since the run began."

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._series: tuple[Series, ...] = ()
        self._marks: tuple[tuple[float, str], ...] = ()
        self._note = ""

    def show(self, samples: Sequence[Sample], steps: Sequence[StepView]) -> None:
        """Draw `samples` with a mark where each step that ran began."""
        marks = tuple(
            (s.started, s.id)
            for s in steps
            if s.started is not None and s.state is not StepState.SKIPPED
        )
        found = series(samples)
        note = samples[-1].gpu_note if samples and not samples[-1].gpus else ""
        if (found, marks, note) == (self._series, self._marks, self._note):
            return
        rows = len(self._series)
        self._series, self._marks, self._note = found, marks, note
        self.refresh(layout=rows != len(found))

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        return len(self._series) + 2 if self._series else 1

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if not self._series:
            return self._strip(say("no figures yet", "dim"), width)
        if y < len(self._series):
            return self._strip(self._row(self._series[y], width - _LABEL - _FIGURE), width)
        if y == len(self._series):
            return self._strip(self._steps(width - _LABEL - _FIGURE), width)
        return self._strip(say(f"no GPU figures: {self._note}" if self._note else "", "dim"), width)

    @property
    def _span(self) -> tuple[float, float]:
        times = [moment for one in self._series for moment, _ in (one.points[0], one.points[-1])]
        starts = [moment for moment, _ in self._marks]
        return min(times + starts), max(times)

    def _row(self, one: Series, width: int) -> Phrase:
        cells = resample(one.points, *self._span, max(4, width))
        top = one.peak if one.label == "build" else one.total
        line = "".join(
            " " if v is None else _EIGHTHS[min(7, int(v / max(1, top) * 7.99))] for v in cells
        )
        role: Role = "warn" if one.label != "build" and one.now > 0.9 * one.total else "accent"
        figure = human_bytes(one.now)
        if one.label != "build":
            figure = f"{one.now / 2**30:.1f}/{one.total / 2**30:.0f} GiB"
        return (
            say(one.label, "dim").fit(_LABEL)
            + Phrase(((line, role), ("  ", "")))
            + say(figure, "").fit(15, right=True)
            + say(f"  peak {human_bytes(one.peak)}", "dim")
        )

    def _steps(self, width: int) -> Phrase:
        """Step names where they began, the longest steps first; what has no room is left out."""
        start, end = self._span
        width = max(4, width)
        line = [" "] * width
        spans = [
            (until - moment, moment, name)
            for (moment, name), (until, _) in pairwise((*self._marks, (end, "")))
        ]
        for _, moment, name in sorted(spans, reverse=True):
            cell = min(width - 1, max(0, int((moment - start) / max(end - start, 1e-9) * width)))
            for word in (f"╵{name}", "╵"):
                room = line[cell : cell + len(word) + 1]
                if cell + len(word) <= width and all(c == " " for c in room):
                    line[cell : cell + len(word)] = word
                    break
        return Phrase(((" " * _LABEL, ""), ("".join(line), "dim")))

    def _strip(self, phrase: Phrase, width: int) -> Strip:
        base = self.rich_style
        colours = self.app.theme_variables
        segments = [Segment(text, rich_style(role, base, colours)) for text, role in phrase.parts]
        return Strip(segments).crop_extend(0, width, base)
