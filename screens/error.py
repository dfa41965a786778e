"""An error as a person needs it: what happened, why, what to do next; the raw text one key away."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget

from console.facts import DeckError
from screens.modal import DeckModal, part
from screens.phrase import paragraph, say
from screens.viewer import TextScreen


class ErrorScreen(DeckModal[None]):
    """One `DeckError`."""

    HELP = "What happened, why, and what to do next. `t` shows the raw text behind it."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "close", "Close", id="error.close", tooltip="Back to the screen below"),
        Binding("t", "raw", "Raw text", id="error.raw", tooltip="The text that the tool gave"),
    ]

    def __init__(self, error: DeckError) -> None:
        super().__init__(f"✕ {error.title}", "bad")
        self.error = error

    def body(self) -> Iterable[Widget]:
        with VerticalScroll(classes="modal-body"):
            if self.error.why:
                yield part(say("Why", "dim"), "label")
                yield part(paragraph(self.error.why), "value")
            if self.error.fix:
                yield part(say("What next", "dim"), "label")
                yield part(paragraph(self.error.fix, "accent"), "value")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "raw" or bool(self.error.raw)

    def action_raw(self) -> None:
        self.app.push_screen(TextScreen("Raw text", (self.error.title, self.error.raw)))
