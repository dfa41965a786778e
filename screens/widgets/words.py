"""`Words`: a phrase on the screen that is drawn again only when it differs."""

from __future__ import annotations

from typing import cast

from textual.content import Content
from textual.css.styles import RulesMap
from textual.widget import Widget
from textual.widgets import Static

from screens.phrase import Phrase


class Words(Static):
    """Text of ours or cleaned text of others; never markup. Saying the same again sends nothing."""

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
            self._phrase = phrase
            content = phrase.content()
            self.update(content, layout=self._resizes(content))

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
