"""`Words`: a phrase on the screen that is drawn again only when it differs."""

from __future__ import annotations

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
            self.update(phrase.content())
