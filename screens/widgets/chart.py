"""`Chart`: one figure over time as an area, with what happened marked across it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from textual.message import Message

from screens.phrase import Phrase, Role, say
from screens.widgets.painted import Painted

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_THIN = 3
"""Eighths of a crest that are too thin to be seen alone."""
_SCALE = 9
"""Cells on the right for the scale."""


@dataclass(frozen=True, slots=True)
class Plot:
    """What a chart shows. `cells` are as many as `Chart.room`; None where nothing is known."""

    title: str
    figure: str
    """The newest value, in words."""
    cells: tuple[float | None, ...]
    top: float
    """What reaches the upper edge."""
    scale: str
    """`top` in words, at most eight cells."""
    role: Role = "accent"
    marks: tuple[tuple[int, str], ...] = ()
    """Cell and word of what happened; cells outside the chart are left out."""
    start: str = ""
    """What the left end of the axis is called."""
    end: str = "now"


class Chart(Painted):
    """A title, the area, an axis. Changes in its last column only, until the curve moves on."""

    DEFAULT_CSS = "Chart { padding: 0 1; }"

    class Resized(Message):
        """There is room for another number of cells or rows than before."""

    def on_resize(self) -> None:
        self.post_message(self.Resized())

    @property
    def room(self) -> int:
        """Cells across."""
        return max(0, self.size.width - _SCALE)

    def show(self, plot: Plot) -> None:
        """Draw a plot; the rows that it does not change are not sent."""
        rows = self.size.height - 2
        if rows < 1 or self.room < 8:
            self.paint([])
            return
        head = say(plot.title, "dim") + say(plot.figure, "strong").fit(
            max(0, self.room - len(plot.title)), right=True
        )
        marked = {cell for cell, _ in plot.marks}
        area = [self._row(plot, rows, y, marked) for y in range(rows)]
        self.paint([head, *area, self._axis(plot)])

    def _row(self, plot: Plot, rows: int, y: int, marked: set[int]) -> Phrase:
        """Row `y` from above: eighths of the value, a line where something happened."""
        below = (rows - 1 - y) * 8
        parts: list[tuple[str, Role]] = []
        for cell, value in enumerate(plot.cells):
            high = 0 if value is None else value / plot.top * rows * 8 if plot.top else 0
            eighths = min(8, max(0, round(high) - below))
            if value is not None and y == rows - 1:
                eighths = max(1, eighths)  # a known nothing differs from not known
            # The crest carries the colour: an area full of it would outshine every warning.
            crest = eighths < 8 or round(high) <= below + 8 + _THIN
            text = _EIGHTHS[eighths]
            role: Role = plot.role if crest else "fill"
            if not eighths and cell in marked:
                text, role = "┊", "dim"
            if parts and parts[-1][1] == role:
                parts[-1] = (parts[-1][0] + text, role)
            else:
                parts.append((text, role))
        label = {0: plot.scale, rows - 1: "0"}.get(y, "")
        return Phrase(tuple(parts)) + say(f" {label}", "dim")

    def _axis(self, plot: Plot) -> Phrase:
        width = len(plot.cells)
        words = [(0, plot.start), (width - len(plot.end), plot.end)]
        return place(width, [*words, *((c, f"╵{w}") for c, w in reversed(plot.marks))])


def place(width: int, words: Iterable[tuple[int, str]]) -> Phrase:
    """Words on one line at their cells, the first ones first; a mark without room loses its word."""
    line = [" "] * width
    for cell, word in words:
        for text in (word, word[:1]):
            end = cell + len(text)
            free = all(c == " " for c in line[max(0, cell - 1) : end + 1])
            if text and cell >= 0 and end <= width and free:
                line[cell:end] = text
                break
    return say("".join(line), "dim")
