"""`Overflow`: what is read and not filled in; it takes the cursor while it holds more than it shows."""

from __future__ import annotations

from textual.containers import VerticalScroll


class Overflow(VerticalScroll):
    """A part of a screen that scrolls where the terminal is too short for it."""

    HELP = "More than there is room for: the arrow keys and page up and down go through it."

    def allow_focus(self) -> bool:
        return super().allow_focus() and self.max_scroll_y > 0
