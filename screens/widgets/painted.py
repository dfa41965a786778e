"""`Painted`: phrases as lines, of which only those that differ are drawn again."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from screens.phrase import Phrase, rich_style


class Painted(Widget):
    """A block of lines. It never asks for a layout: its room is given by whoever holds it."""

    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: tuple[Phrase, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """What is drawn, as text."""
        return tuple(line.plain for line in self._lines)

    def paint(self, lines: Sequence[Phrase]) -> None:
        """Draw these lines."""
        before, self._lines = self._lines, tuple(lines)
        for y in range(max(len(before), len(self._lines))):
            if self._lines[y : y + 1] != before[y : y + 1]:
                self.refresh(Region(0, y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        base = self.rich_style
        if y >= len(self._lines):
            return Strip.blank(self.size.width, base)
        colours = self.app.theme_variables
        return Strip(
            Segment(text, base + Style.parse(rich_style(role, colours)))
            for text, role in self._lines[y].parts
        ).adjust_cell_length(self.size.width, base)
