"""`Painted`: phrases as lines, of which only those that differ are drawn again."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from screens.phrase import Phrase, Role, rich_styles


class Painted(Widget):
    """A block of lines. It never asks for a layout: its room is given by whoever holds it."""

    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: tuple[Phrase, ...] = ()
        self._looks: dict[Role, Style] = {}

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

    def render_lines(self, crop: Region) -> list[Strip]:
        # Once for all lines: a widget's own style is put together from all that it stands in.
        self._looks = rich_styles(self.rich_style, self.app.theme_variables)
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        if y >= len(self._lines):
            return Strip.blank(self.size.width, self._looks[""])
        segments = [Segment(text, self._looks[role]) for text, role in self._lines[y].parts]
        return Strip(segments).adjust_cell_length(self.size.width, self._looks[""])
