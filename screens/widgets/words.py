"""`Words`: a phrase on the screen that is drawn again only when it differs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Self, cast

from rich.segment import Segment
from rich.style import Style
from textual import messages
from textual.content import Content
from textual.css.styles import RulesMap
from textual.dom import NoScreen
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from screens.phrase import Phrase, Role, rich_styles
from screens.widgets.placed import Kept, finished


class Words(Static):
    """Text of ours or cleaned text of others; never markup. Saying the same again sends nothing."""

    _changed: tuple[Region, ...] = ()
    _looks: dict[Role, Style] | None = None
    """How its lines are drawn, by role; None where Textual draws them."""

    def __init__(
        self,
        phrase: Phrase = Phrase(),  # noqa: B008 - frozen
        *,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(phrase.content(), id=id, classes=classes, markup=False)
        self._phrase = phrase
        self._drawn = Kept()
        self._take(phrase)

    def _take(self, phrase: Phrase) -> None:
        self._lines = phrase.lines()
        self._widest = max(line.width for line in self._lines)

    def show(self, phrase: Phrase) -> None:
        if phrase != self._phrase:
            before, wide, self._phrase = self._lines, self._widest, phrase
            self._take(phrase)
            content = phrase.content()
            resizes = self._resizes(content)
            self._changed = () if resizes else self._lines_that_differ(before, wide)
            self.update(content, layout=resizes)
            self._changed = ()
            if not resizes:
                self._announce()

    def _announce(self) -> None:
        # At once, and not when this widget comes to rest: what a key says is drawn with the frame of
        # the key. Without a screen, on its way in or out of one, nothing is drawn.
        with suppress(NoScreen):
            self.screen.post_message(messages.Update(self))

    def refresh(
        self,
        *regions: Region,
        repaint: bool = True,
        layout: bool = False,
        recompose: bool = False,
    ) -> Self:
        # An update draws all of its lines, and those beside them in other widgets.
        regions = regions or self._changed
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def render_lines(self, crop: Region) -> list[Strip]:
        self._looks = None
        with suppress(NoScreen):  # it is drawn once more on its way out of one
            if self._fits and self.text_selection is None and self.styles.text_align == "start":
                self._looks = self._found_looks()
        if self._looks is None or not self._bare:
            return super().render_lines(crop)
        self._drawn.begin(self.rich_style, self.app.theme_variables, self.size.width)
        said = dict(enumerate(self._lines))
        strips = [
            self._drawn.line((y, said.get(y)), partial(self.render_line, y))
            for y in crop.line_range
        ]
        return finished(self, strips, crop)

    @property
    def _bare(self) -> bool:
        """Whether there is nothing around or over its lines that Textual would have to draw."""
        styles = self.styles
        around = any(styles.gutter) or styles.has_any_rules("outline", "hatch", "tint")
        return not around and self.opacity == 1.0 and styles.text_opacity == 1.0

    def _found_looks(self) -> dict[Role, Style]:
        return rich_styles(self.rich_style, self.app.theme_variables)

    def render_line(self, y: int) -> Strip:
        # Textual wraps and styles all lines anew for one that differs: ten times what that one takes.
        if (looks := self._looks) is None:
            return super().render_line(y)
        parts = self._lines[y].parts if y < len(self._lines) else ()
        strip = Strip([Segment(text, looks[role]) for text, role in parts])
        return strip.adjust_cell_length(self.content_size.width, looks[""]).apply_offsets(0, y)

    @property
    def _fits(self) -> bool:
        """Whether no line is wrapped or cut."""
        return self._widest <= self.content_size.width

    def _lines_that_differ(self, before: Sequence[Phrase], wide: int) -> tuple[Region, ...]:
        """Where the lines are that differ; nowhere when a line is wrapped, so that all are drawn."""
        width, height = self.content_size
        old, new = before, self._lines
        if max(wide, self._widest) > width:
            return ()
        rows = range(min(height, max(len(old), len(new))))
        differ = (row for row in rows if old[row : row + 1] != new[row : row + 1])
        return tuple(Region(0, row, width, 1) for row in differ)

    def _resizes(self, content: Content) -> bool:
        """Whether these words need other room. A layout is half of what a cursor key costs, and the
        words below a list change with every key while their room stays."""
        styles, room = self.styles, self.content_size
        if styles.is_auto_width or not room.width:
            return True
        if not styles.is_auto_height:
            return False
        rules = cast("RulesMap", styles)
        height = len(self._lines) if self._fits else content.get_height(rules, room.width)
        if styles.min_height is not None and isinstance(self.parent, Widget):
            # Said to fill what holds it.
            height = max(height, self.parent.scrollable_content_region.height)
        return height != room.height
