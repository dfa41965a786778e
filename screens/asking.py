"""Asks for one line of text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from screens.modal import DeckModal, part
from screens.phrase import Phrase
from screens.widgets.fields import TextField


class AskScreen(DeckModal[str]):
    """Dismisses with what was typed, empty when nothing is to happen."""

    HELP = "Type it and press `enter`; `esc` goes back and nothing happens."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "Take", id="ask.take", tooltip="Take what was typed"),
        Binding("escape", "close", "Back", id="ask.close", tooltip="Go back, nothing happens"),
    ]

    def __init__(self, title: str, explanation: Phrase, value: str = "") -> None:
        super().__init__(title)
        self._explanation = explanation
        self._value = value

    def body(self) -> Iterable[Widget]:
        yield part(self._explanation, "value")
        yield TextField(self._value, id="asked")

    def on_mount(self) -> None:
        self.query_one(TextField).focus()

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.action_take()

    def action_take(self) -> None:
        self.dismiss(self.query_one(TextField).value.strip())

    def action_close(self) -> None:
        self.dismiss("")
