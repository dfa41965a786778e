"""`PlacedView`: lines that can be put at any place at once, also before their first layout."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import cast

from rich.segment import Segment
from textual.geometry import Region
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollBar, ScrollBarRender
from textual.strip import Strip
from textual.widget import Widget

_KEPT = 160
"""Strips that a widget keeps: two pages of a tall terminal."""


class Kept:
    """The strips that a widget has drawn: Textual keeps with each how it is cut and written."""

    def __init__(self) -> None:
        self._strips: dict[Hashable, Strip] = {}
        self._drawn_with: tuple[object, ...] = ()

    def begin(self, *drawn_with: object) -> None:
        """Forget the strips that were drawn with anything else: other styles, another width."""
        if drawn_with != self._drawn_with or len(self._strips) > _KEPT:
            self._drawn_with = drawn_with
            self._strips = {}

    def clear(self) -> None:
        self._strips = {}

    def line(self, key: Hashable, draw: Callable[[], Strip]) -> Strip:
        """The strip under `key`, drawn where it is not kept."""
        strip = self._strips.get(key)
        if strip is None:
            strip = self._strips[key] = draw()
        return strip


def finished(widget: Widget, strips: list[Strip], crop: Region) -> list[Strip]:
    """Lines of a widget without border, padding and tint as the compositor takes them.

    Textual looks for those at every line and keeps it until it is dirty: 0.04 ms a line, which a page
    of rows pays for each of its lines.
    """
    background = widget.background_colors[1]
    for line_filter in widget.get_line_filters():
        strips = [strip.apply_filter(line_filter, background) for strip in strips]
    start, end = crop.column_span
    if (start, end) != (0, widget.size.width):
        strips = [strip.crop(start, end) for strip in strips]
    return strips


class PlacedBar(ScrollBar):
    """Textual's vertical scroll bar in an eighth of the time (0.5 ms of 4.2): every page moves it."""

    def render_lines(self, crop: Region) -> list[Strip]:
        bar = cast(ScrollBarRender, self.render())
        style = self.app.console.get_style(bar.style)
        assert style.color and style.bgcolor, "a scroll bar has both colours"
        width, height = self.size
        drawn = bar.render_bar(
            size=height,
            thickness=width,
            virtual_size=bar.virtual_size,
            window_size=bar.window_size,
            position=bar.position,
            back_color=style.bgcolor,
            bar_color=style.color,
        )
        # As Textual does: a style of which nothing is said is a reset at each cell.
        segments = list(Segment.apply_style(drawn.segments, self.rich_style))
        strips = {segment: Strip([segment], width) for segment in dict.fromkeys(segments)}
        return finished(self, [strips[segments[y]] for y in crop.line_range], crop)


class PlacedView(ScrollView):
    """A scroll view of lines, without border or padding, that are drawn as `render_line` makes them.

    Its scroll bar knows the place that it had before the bar was there.
    """

    @property
    def vertical_scrollbar(self) -> ScrollBar:
        if self._vertical_scrollbar is None:
            # As Textual makes its own, for which it has no hook.
            size = self.scrollbar_size_vertical
            self._vertical_scrollbar = bar = PlacedBar(name="vertical", thickness=size)
            bar.display = False
            self.app._start_widget(self, bar)
        return self._vertical_scrollbar

    def render_lines(self, crop: Region) -> list[Strip]:
        return finished(self, [self.render_line(y) for y in crop.line_range], crop)

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        # Textual tells a scroll bar only of changes that come while it is shown.
        if shown:
            self.vertical_scrollbar.position = round(self.scroll_y)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # Where nothing scrolls sideways the keys for it are the screen's, and named as such.
        return action not in ("scroll_left", "scroll_right") or self.allow_horizontal_scroll
