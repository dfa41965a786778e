"""`LogLines`: a log on the screen. It never holds the file; only visible lines are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textual import events, on
from textual.message import Message
from textual.widget import Widget

from console.logs.feed import LogFeed, LogState
from console.logs.file import BLOCK, Row
from console.logs.levels import Level
from console.logs.region import Region
from console.text import clean
from screens.widgets.logdrawing import LogDrawing

_NEAR = 2000
"""Rows from the end of what is known at which a part that is not settled makes more known."""
_CELLS_A_SECOND = 24_000
"""Cells drawn while following: some 1.6 bytes each on the line."""


class LogLines(LogDrawing, can_focus=True):
    """Lines of a file; follows the end until the reader scrolls up.

    A row keeps its number while more of the file becomes known, so what is shown stands still: only
    the scroll bar moves.
    """

    class Changed(Message):
        """More is known of the file, or it became another one."""

        def __init__(self, view: LogLines, feed: LogFeed, state: LogState) -> None:
            super().__init__()
            self.view = view
            self.feed = feed
            self.state = state

        @property
        def control(self) -> LogLines:
            return self.view

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, LogLines.Changed) and message.feed is self.feed

    class Status(Message):
        """What the line above the log should say now."""

        def __init__(self, view: LogLines) -> None:
            super().__init__()
            self.view = view

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, LogLines.Status) and message.view is self.view

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.state = LogState()
        self.following = True
        self.least = Level.VERBOSE
        """The level that is shown, with those above."""
        self.note = ""
        """What the last search or jump came to, in words."""
        self._feed: LogFeed | None = None
        self._region: Region | None = None
        self._seen = 0
        self._waiting = self._behind = False
        self._placing = False

    # -- what is shown

    @property
    def path(self) -> Path | None:
        return self._feed.path if self._feed else None

    @property
    def lines(self) -> int:
        """Lines that are counted so far."""
        return self.state.lines

    @property
    def pending(self) -> int:
        """Rows that came since the reader stopped following."""
        return 0 if self.following else max(0, self._end - self._seen)

    def open(self, path: Path | None) -> None:
        """Show another file, from its end; None shows nothing."""
        if path == self.path and (path is None) == (self._feed is None):
            return
        self.close()
        self.following, self._hit, self.note = True, -1, ""
        self.state, self._region = LogState(), None
        if path is not None:
            feed = LogFeed(path, lambda state: self._tell(feed, state))
            self._feed = feed
            feed.start()
        self._show()

    def close(self) -> None:
        """Look at the file no more."""
        if self._feed is not None:
            self._feed.stop()
            self._feed = None

    def on_unmount(self) -> None:
        self.close()

    def _tell_status(self) -> None:
        # Straight to what holds it: by way of this widget's own queue the words above the log came
        # a frame after its lines.
        holder = self.parent if isinstance(self.parent, Widget) else self
        holder.post_message(self.Status(self))

    # -- following the file

    def _tell(self, feed: LogFeed, state: LogState) -> None:
        if self.is_running:
            self.post_message(self.Changed(self, feed, state))

    @on(Changed)
    def _changed(self, message: Changed) -> None:
        message.stop()
        if message.feed is not self._feed:
            return
        if message.state.age != self.state.age:
            self._region, self._hit = None, -1
            self.following = True
        if message.state.note != self.state.note:
            self.note = clean(message.state.note)
        self.state = message.state
        self._coalesce()

    def _coalesce(self) -> None:
        # What follows a fast log repaints every row: large terminals are repainted less often.
        if self._waiting:
            self._behind = True
            return
        self._waiting, self._behind = True, False
        self._show()
        wait = self.size.width * self.size.height / _CELLS_A_SECOND
        self.set_timer(max(0.2, wait), self._settle)

    def _settle(self) -> None:
        self._waiting = False
        if self._behind:
            self._coalesce()

    def _show(self) -> None:
        """Take over what is known now, without moving what the reader looks at."""
        top = self._base + self.scroll_offset.y
        if self._feed is not None and self.state.age:
            settled = self._feed.region(self.least)
            local = self._region is not None and self._region is not settled
            if local and self._region is not None and self._region.least is self.least:
                top = self._settled(settled, self._region, top)
            else:
                self._region = settled
        if self._feed is None or self._region is None:
            self._base = self._end = 0
        else:
            with self._feed.lock:
                self._base, self._end = self._region.counts.start, self._region.counts.end
        if self.following:
            self._seen = self._end
        self._measure()
        y = self.rows if self.following else top - self._base
        self.scroll_to(y=y, animate=False, immediate=True)
        self.refresh()
        self._tell_status()

    def _settled(self, settled: Region, local: Region, top: int) -> int:
        """Leave a part of the file that was shown early, once the whole file is known that far."""
        assert self._feed is not None
        with self._feed.lock:
            if settled.counts.first > local.counts.first:
                return top
            shown = local.rows(top, 1)
            self._region = settled
            return settled.row_of(shown[0].offset) if shown else settled.counts.start

    def scroll_to(self, x: float | None = None, y: float | None = None, **options: Any) -> None:
        # An animation of no length still waits for a tick, and reaching the end from inside that
        # tick starts the following, which stops the animation that Textual is about to delete.
        # Forced: until its scroll bar was laid out, Textual takes a widget for one that cannot scroll.
        super().scroll_to(x, y, **{**options, "animate": False, "force": True})

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self._show)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        at_end = new_value >= self.max_scroll_y - 0.5
        if new_value < old_value and self.following and not at_end:
            self.following, self._seen = False, self._end
            self._tell_status()
        elif self._reached_end(old_value, new_value):
            self.action_follow()
        self._reach()

    def _reached_end(self, old: float, new: float) -> bool:
        """Whether the reader scrolled down to the end of the file."""
        down = new > old and new >= self.max_scroll_y - 0.5
        return down and not (self.following or self._placing) and self._local is None

    def _read(self, first: int, count: int) -> list[Row]:
        if self._feed is None or self._region is None:
            return []
        return self._feed.rows(self._region, first, count)

    # -- parts of a file that are shown before the whole is known

    @property
    def _local(self) -> Region | None:
        settled = self._feed.region(self.least) if self._feed and self.state.age else None
        return self._region if settled is not None and self._region is not settled else None

    def show_offset(self, offset: int) -> None:
        """Bring the line that begins at `offset` to the upper third, wherever that is."""
        if self._feed is None or self._region is None:
            return
        self.following = False
        self._seen = max(self._seen, self._end)
        region = self._feed.region(self.least)
        with self._feed.lock:
            known = region.covers(offset)
        if not known and self.least is Level.VERBOSE:
            region = Region(self._feed.file, offset // BLOCK)
            region.forward(16)
            region.back(16)
        self._region = region
        with self._feed.lock:
            self._base, self._end = region.counts.start, region.counts.end
            row = region.row_of(offset) if region.covers(offset) else region.counts.start
        self._measure()
        self._placing = True  # a line near the end must not start the following
        self.scroll_to(y=max(0, row - self._base - self.size.height // 3), immediate=True)
        self._placing = False
        self.refresh()
        self._tell_status()

    def _reach(self) -> None:
        """Make more of an early part known when the reader comes near its ends."""
        local = self._local
        if local is None:
            return
        top = self.scroll_offset.y
        before, after = top < _NEAR and not local.whole, top > self.rows - _NEAR
        if before:
            local.back(16)
        if after:
            local.forward(16)
        if (local.counts.start, local.counts.end) != (self._base, self._end):
            self.call_later(self._show)

    # -- following

    def action_follow(self) -> None:
        self.following = not self.following
        self._hit = -1
        if self.following:
            self._region = None
        self._show()

    def action_scroll_end(self) -> None:
        self.following = False
        self.action_follow()

    def action_scroll_home(self) -> None:
        self.show_offset(0)
        self.scroll_to(y=0, immediate=True)
