"""`Flag`: on or off in a glyph and a word; Textual's checkbox says it by colour alone."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from screens.phrase import Role, say


class Flag(Widget, can_focus=True):
    """A yes-or-no field."""

    DEFAULT_CSS = """
    Flag { height: 1; width: 18; padding: 0 1; background: $panel; }
    Flag:focus { background: $block-cursor-background; color: $block-cursor-foreground; }
    """
    HELP = "On or off: `space` changes it."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,enter", "change", "Change", id="flag.toggle", tooltip="On or off"),
    ]
    value: reactive[bool] = reactive(False)
    """Whether it is on."""

    class Changed(Message):
        """It was turned on or off."""

        def __init__(self, flag: Flag) -> None:
            super().__init__()
            self.flag = flag

    def __init__(self, value: bool = False) -> None:
        super().__init__()
        self.set_reactive(Flag.value, value)

    def render(self) -> Content:
        # Where the cursor is, its colours hold: in a theme of two colours the accent is its ground.
        role: Role = "" if self.has_focus else "accent"
        return (say("▣ on", role) if self.value else say("□ off")).content()

    def watch_value(self) -> None:
        self.post_message(self.Changed(self))

    def action_change(self) -> None:
        self.value = not self.value

    def on_click(self) -> None:
        self.action_change()
