"""`Chart`: one figure over time as an area, with what happened marked across it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Literal

from textual.message import Message

from screens.phrase import Phrase, Role, say
from screens.widgets.painted import Painted

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_THIN = 3
"""Eighths of a crest that are too thin to be seen alone."""
_SCALE = 9
"""Cells on the right for the scale."""
Shade = Literal["crest", "below", "mark"]
"""What a cell of the area is part of."""


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
        self.paint([head, *area(plot, rows), self._axis(plot)])

    def _axis(self, plot: Plot) -> Phrase:
        width = len(plot.cells)
        words = [(0, plot.start), (width - len(plot.end), plot.end)]
        return place(width, [*words, *((c, f"╵{w}") for c, w in reversed(plot.marks))])


def area(plot: Plot, rows: int) -> Iterator[Phrase]:
    """The rows of the area from above, the scale behind them."""
    marked = {cell for cell, _ in plot.marks}
    scale = plot.top and rows * 8 / plot.top
    columns = (
        _column(-1 if value is None else round(value * scale), rows, cell in marked)
        for cell, value in enumerate(plot.cells)
    )
    roles: dict[Shade, Role] = {"crest": plot.role, "below": "fill", "mark": "dim"}
    labels = {0: plot.scale, rows - 1: "0"}
    for y, row in enumerate(zip(*columns, strict=True)):
        parts = groupby(row, key=itemgetter(1))
        line = tuple(("".join(glyph for glyph, _ in of), roles[shade]) for shade, of in parts)
        yield Phrase(line) + say(f" {labels.get(y, '')}", "dim")


@lru_cache(maxsize=4096)
def _column(height: int, rows: int, marked: bool) -> tuple[tuple[str, Shade], ...]:
    """Glyph and shade of each row from above, for a height in eighths; -1 where none is known.

    Kept: a curve that moves on shows the same heights in other places (a chart of 48 by 10 cells
    takes 0.5 ms instead of 2.1).
    """
    column: list[tuple[str, Shade]] = []
    for below in range((rows - 1) * 8, -1, -8):
        eighths = min(8, max(0, height - below))
        if height >= 0 and not below:
            eighths = max(1, eighths)  # a known nothing differs from not known
        # The crest carries the colour: an area full of it would outshine every warning.
        crest = eighths < 8 or height <= below + 8 + _THIN
        if not eighths and marked:
            column.append(("┊", "mark"))
        else:
            column.append((_EIGHTHS[eighths], "crest" if crest else "below"))
    return tuple(column)


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
