"""`PlacedView`: lines that can be put at any place at once, also before their first layout."""

from __future__ import annotations

from textual.scroll_view import ScrollView


class PlacedView(ScrollView):
    """A scroll view whose scroll bar knows the place that it had before the bar was there."""

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        # Textual tells a scroll bar only of changes that come while it is shown.
        if shown:
            self.vertical_scrollbar.position = round(self.scroll_y)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # Where nothing scrolls sideways the keys for it are the screen's, and named as such.
        return action not in ("scroll_left", "scroll_right") or self.allow_horizontal_scroll
