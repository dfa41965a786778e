"""What the screens that lie over others have in common: a title line, esc closes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widget import Widget

from screens.phrase import Phrase, Role, say
from screens.widgets.keyline import KeyLine
from screens.widgets.words import Words

T = TypeVar("T")


class DeckModal(ModalScreen[T]):
    """A titled panel: what asks or tells leaves the screen below in sight, what is read covers it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Close", id="modal.close", tooltip="Back to the screen below"),
    ]

    def __init__(self, title: str, role: Role = "accent") -> None:
        super().__init__()
        self._heading = say(title, role)

    def compose(self) -> ComposeResult:
        with Vertical(classes="modal"):
            yield Words(self._heading, classes="modal-title")
            yield from self.body()
        yield KeyLine()

    def body(self) -> Iterable[Widget]:
        raise NotImplementedError

    def action_close(self) -> None:
        self.dismiss(None)


def part(phrase: Phrase, classes: str = "") -> Words:
    """A piece of text in a modal or a pane."""
    return Words(phrase, classes=classes)
