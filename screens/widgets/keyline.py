"""`KeyLine`: the keys that apply now, in the last line. One widget that draws one line.

Textual's `Footer` makes a widget of each key and makes all of them anew whenever the keys are looked
at: half of what a screen costs to open, and most of what a key press costs where the keys change.
"""

from __future__ import annotations

from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from screens.phrase import Phrase, join, say

_CHARACTERS = {"slash": "/", "plus": "+", "minus": "-"}
"""Keys whose names are not those of their characters; Textual leaves out the others by itself."""


class KeyLine(Widget):
    """Keys and what they do; a click presses the key."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "KeyLine { dock: bottom; height: 1; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__()
        self._keys: tuple[tuple[Binding, bool], ...] = ()

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)
        self._changed(self.screen)

    def _changed(self, screen: Screen[object]) -> None:
        first: dict[str, tuple[Binding, bool]] = {}
        for key, (_, binding, enabled, _) in screen.active_bindings.items():
            if binding.show and not _typed(screen, key):
                first.setdefault(binding.action, (binding, enabled))
        keys = tuple(first.values())
        if keys != self._keys:
            self._keys = keys
            self.refresh()

    def _words(self) -> list[tuple[Binding, Phrase]]:
        """Keys with their words; of too many, the first ones and help, which names the others."""
        words = []
        for binding, enabled in self._keys:
            key = say(self.app.get_key_display(binding), "accent" if enabled else "dim")
            words.append((binding, join(key, say(binding.description, "dim"), between=" ")))
        while _width(words) > self.size.width and (
            lesser := [n for n, (binding, _) in enumerate(words) if binding.id != "help"]
        ):
            del words[lesser[-1]]
        return words

    def render(self) -> Content:
        line = join(*(word for _, word in self._words()))
        return line.fit(self.size.width).content()

    def on_click(self, event: events.Click) -> None:
        position = 1
        for binding, word in self._words():
            if position <= event.x < position + word.width:
                self.app.simulate_key(binding.key)
                return
            position += word.width + 2


def _typed(screen: Screen[object], key: str) -> bool:
    """Whether the key is a character that the focused field takes as text."""
    character = _CHARACTERS.get(key)
    focused = screen.focused
    return bool(character and focused and focused.check_consume_key(key, character))


def _width(words: list[tuple[Binding, Phrase]]) -> int:
    return sum(word.width + 2 for _, word in words) - 2
