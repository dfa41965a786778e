"""`LogDrawing`: visible lines of a log as strips, cut or wrapped."""

from __future__ import annotations

from rich.cells import chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region as Area
from textual.geometry import Size
from textual.strip import Strip

from console.logs.entry import entry
from console.logs.file import Row
from screens.phrase import rich_style
from screens.widgets.logline import Stamps, phrase
from screens.widgets.placed import Kept, PlacedView


class LogDrawing(PlacedView):
    """Draws the rows from `_base` to `_end`; they are read when they are seen."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.wrapping = False
        self.stamps = Stamps.TIME
        self._base = 0
        self._end = 0
        self._hit = -1
        self._drawn: list[tuple[Row, int]] = []
        self._kept = Kept()

    @property
    def rows(self) -> int:
        """Lines that can be scrolled through: those of the level, as far as they are known."""
        return self._end - self._base

    def _read(self, first: int, count: int) -> list[Row]:
        """Rows by number."""
        raise NotImplementedError

    def _measure(self) -> None:
        height = self.rows
        if self.wrapping and self.size.height:
            # The last page is as many rows as fit when they are wrapped.
            fit, used = 0, 0
            for row in reversed(self._read(self._end - self.size.height, self.size.height)):
                used += len(self._pieces(row))
                if used > self.size.height:
                    break
                fit += 1
            height += self.size.height - max(1, fit)
        width = self.size.width if self.wrapping else max(self.size.width, self.virtual_size.width)
        self.virtual_size = Size(width, height)

    def _pieces(self, row: Row) -> list[str]:
        text = phrase(entry(row.data), self.stamps, self.size.width).plain
        return chop_cells(text, max(8, self.size.width)) or [""] if self.wrapping else [text]

    def render_lines(self, crop: Area) -> list[Strip]:
        height = self.size.height
        top = self.scroll_offset.y
        rows = self._read(self._base + top, height)
        if self.wrapping:
            drawn = [(row, n) for row in rows for n in range(len(self._pieces(row)))]
            at_end = top >= self.max_scroll_y
            self._drawn = drawn[-height:] if at_end else drawn[:height]
        else:
            self._drawn = [(row, 0) for row in rows]
        looks = (self.rich_style, self.app.theme_variables, self.stamps)
        self._kept.begin(*looks, self.wrapping, self.size.width)
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        if y >= len(self._drawn):
            return self._kept.line("", lambda: Strip.blank(self.size.width, self.rich_style))
        row, piece = self._drawn[y]
        left, found = self.scroll_offset.x, row.offset == self._hit
        # By its hash: a line may have thousands of characters that are not seen.
        return self._kept.line(
            (hash(row), piece, left, found), lambda: self._line(row, piece, left)
        )

    def _line(self, row: Row, piece: int, left: int) -> Strip:
        base = self.rich_style
        strip = self._strip(row, base)
        if self.wrapping:
            width = max(8, self.size.width)
            return strip.crop_extend(piece * width, (piece + 1) * width, base)
        if strip.cell_length > self.virtual_size.width:
            self.call_later(self._widen, strip.cell_length)
        return strip.crop_extend(left, left + self.size.width, base)

    def _strip(self, row: Row, base: Style) -> Strip:
        colours = self.app.theme_variables
        marked = Style(reverse=True) if row.offset == self._hit else Style()
        return Strip(
            Segment(text, rich_style(role, base, colours) + marked)
            for text, role in phrase(entry(row.data), self.stamps, self.size.width).parts
        )

    def _widen(self, width: int) -> None:
        if width > self.virtual_size.width and not self.wrapping:
            self.virtual_size = Size(width, self.virtual_size.height)
