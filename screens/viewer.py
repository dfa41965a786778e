"""Text that was or can be copied: a script, a request as curl or Python, the raw text of an error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from screens.modal import DeckModal
from screens.phrase import Phrase, join, say
from screens.widgets.textview import TextView
from screens.widgets.words import Words


class TextScreen(DeckModal[None]):
    """One or more versions of a text; `y` copies the one that is shown.

    The clipboard is the terminal's (OSC 52), which not every terminal allows, so the text is always
    shown as well: it can be selected there.
    """

    HELP = "The text that `y` puts into your terminal's clipboard (OSC 52)."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy", id="copy", tooltip="Copy this text to the clipboard"),
        Binding("tab", "next", "Other form", id="text.next", tooltip="The next form of this text"),
    ]

    def __init__(self, title: str, *versions: tuple[str, str]) -> None:
        super().__init__(title)
        self._versions = versions
        self._current = 0

    def body(self) -> Iterable[Widget]:
        yield Words(classes="text-forms")
        yield TextView(id="text")
        yield Words(classes="text-note")

    def on_mount(self) -> None:
        self._show()
        self.query_one(TextView).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "next" or len(self._versions) > 1

    def action_next(self) -> None:
        self._current = (self._current + 1) % len(self._versions)
        self._show()

    def action_copy(self) -> None:
        name, text = self._versions[self._current]
        self.app.copy_to_clipboard(text)
        note = say(f"sent to the clipboard of your terminal: {name}, {len(text)} characters", "ok")
        self.query_one(".text-note", Words).show(note)

    def _show(self) -> None:
        names = (
            say(name, "accent" if number == self._current else "dim")
            for number, (name, _) in enumerate(self._versions)
        )
        self.query_one(".text-forms", Words).show(join(*names, between=" · "))
        self.query_one(TextView).show(self._versions[self._current][1])
        self.query_one(".text-note", Words).show(Phrase())
