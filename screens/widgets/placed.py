"""`PlacedView`: lines that can be put at any place at once, also before their first layout."""

from __future__ import annotations

from textual.geometry import Region
from textual.scroll_view import ScrollView
from textual.strip import Strip


class PlacedView(ScrollView):
    """A scroll view of lines, without border or padding, that are drawn as `render_line` makes them.

    Its scroll bar knows the place that it had before the bar was there.
    """

    def render_lines(self, crop: Region) -> list[Strip]:
        # Textual looks for borders, padding and tints at every line and keeps it until it is dirty:
        # 0.04 ms a line, which a page of rows pays for each of its lines.
        strips = [self.render_line(y) for y in crop.line_range]
        background = self.background_colors[1]
        for line_filter in self.get_line_filters():
            strips = [strip.apply_filter(line_filter, background) for strip in strips]
        start, end = crop.column_span
        if (start, end) != (0, self.size.width):
            strips = [strip.crop(start, end) for strip in strips]
        return strips

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        # Textual tells a scroll bar only of changes that come while it is shown.
        if shown:
            self.vertical_scrollbar.position = round(self.scroll_y)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # Where nothing scrolls sideways the keys for it are the screen's, and named as such.
        return action not in ("scroll_left", "scroll_right") or self.allow_horizontal_scroll
