"""Asks before something that cannot be undone, or that stops what others may use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from screens.modal import DeckModal, part
from screens.phrase import Phrase, join, say
from screens.widgets.fields import TextField
from screens.widgets.words import Words


class ConfirmScreen(DeckModal[bool]):
    """Dismisses with True only when confirmed; with `word`, only when that word was typed."""

    HELP = "Nothing has happened yet. `esc` goes back without doing it."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "confirm", "Yes, do it", id="confirm.yes", tooltip="Do it"),
        Binding("escape", "close", "No", id="confirm.no", tooltip="Go back, nothing happens"),
    ]

    def __init__(self, title: str, explanation: Phrase, word: str = "") -> None:
        super().__init__(f"▲ {title}", "warn")
        self._explanation = explanation
        self._word = word

    def body(self) -> Iterable[Widget]:
        yield part(self._explanation, "value")
        if self._word:
            ask = join(say("Type"), say(self._word, "strong"), say("to go on"), between=" ")
            yield part(ask, "value")
            yield TextField(id="typed")
        yield Words(id="confirm-note")

    def on_mount(self) -> None:
        if self._word:
            self.query_one(TextField).focus()

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.action_confirm()

    def action_confirm(self) -> None:
        if self._word and self.query_one(TextField).value != self._word:
            note = say("the names differ: nothing was done", "bad")
            self.query_one("#confirm-note", Words).show(note)
            return
        self.dismiss(True)

    def action_close(self) -> None:
        self.dismiss(False)
