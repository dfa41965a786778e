"""`Words`: a phrase on the screen that is drawn again only when it differs."""

from __future__ import annotations

from typing import Self, cast

from rich.cells import cell_len
from textual.content import Content
from textual.css.styles import RulesMap
from textual.geometry import Region
from textual.widget import Widget
from textual.widgets import Static

from screens.phrase import Phrase


class Words(Static):
    """Text of ours or cleaned text of others; never markup. Saying the same again sends nothing."""

    _changed: tuple[Region, ...] = ()

    def __init__(
        self,
        phrase: Phrase = Phrase(),  # noqa: B008 - frozen
        *,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(phrase.content(), id=id, classes=classes, markup=False)
        self._phrase = phrase

    def show(self, phrase: Phrase) -> None:
        if phrase != self._phrase:
            before, self._phrase = self._phrase, phrase
            content = phrase.content()
            resizes = self._resizes(content)
            self._changed = () if resizes else self._lines_that_differ(before, phrase)
            self.update(content, layout=resizes)
            self._changed = ()

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

    def _lines_that_differ(self, before: Phrase, after: Phrase) -> tuple[Region, ...]:
        """Where the lines are that differ; nowhere when a line is wrapped, so that all are drawn."""
        width, height = self.content_size
        old, new = before.lines(), after.lines()
        if any(cell_len(line.plain) > width for line in (*old, *new)):
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
        height = content.get_height(cast("RulesMap", styles), room.width)
        if styles.min_height is not None and isinstance(self.parent, Widget):
            # Said to fill what holds it.
            height = max(height, self.parent.scrollable_content_region.height)
        return styles.is_auto_height and height != room.height
