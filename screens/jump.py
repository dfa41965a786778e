"""Jump mode: a letter on everything that can have the focus; pressing it goes there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen
from textual.widget import Widget

from screens.phrase import say
from screens.widgets.keyline import KeyLine
from screens.widgets.words import Words

LETTERS = "asdfghjklqwertyuiopzxcvbnm"


class JumpScreen(ModalScreen[Widget | None]):
    """Labels over the screen below; dismisses with the widget that was chosen."""

    HELP = "Press the letter of the place to go to; `esc` stays where you are."
    DEFAULT_CSS = """
    JumpScreen { background: transparent; align: left top; layers: base; }
    JumpScreen > .jump-label {
        position: absolute; width: 3; height: 1; background: $accent; color: $background;
        text-style: bold;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stay", "Stay", id="jump.stay", tooltip="Stay where the cursor is"),
    ]

    def __init__(self, below: Screen[Any]) -> None:
        super().__init__()
        self._places = dict(zip(LETTERS, places(below), strict=False))

    def compose(self) -> ComposeResult:
        for letter, widget in self._places.items():
            label = Words(say(f" {letter} "), classes="jump-label")
            label.styles.offset = (widget.region.x, widget.region.y)
            yield label
        # Its own keys in place of those below, which do not act here.
        yield KeyLine()

    def on_key(self, event: events.Key) -> None:
        if event.key in self._places:
            event.stop()
            self.dismiss(self._places[event.key])

    def action_stay(self) -> None:
        self.dismiss(None)


def places(screen: Screen[Any]) -> Iterable[Widget]:
    """What can have the focus and is seen, in the order of the tab key."""
    for widget in screen.focus_chain:
        place = screen.find_widget(widget)
        # What a scrolling form holds beyond its own edges lies under other widgets.
        if place.visible_region.area and place.clip.contains(widget.region.x, widget.region.y):
            yield widget
