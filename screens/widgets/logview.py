"""`LogView`: a file on the screen. It never holds the file; only visible lines are rendered."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import on, work
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.worker import get_current_worker

from console.text import clean
from screens.phrase import rich_style
from screens.widgets.logfile import LogFile
from screens.widgets.severity import EITHER, Tally, role


class LogLines(ScrollView, can_focus=True):
    """The lines of a file; follows its end at 4 Hz until the reader scrolls up."""

    class Grown(Message):
        """The file has more lines now, or its state changed."""

        def __init__(self, view: LogLines, file: LogFile, problem: str = "") -> None:
            super().__init__()
            self.view = view
            self.file = file
            self.problem = problem

        @property
        def control(self) -> LogLines:
            return self.view

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, LogLines.Grown) and message.file is self.file

    class Status(Message):
        """What the line above the log should say now."""

        def __init__(self, view: LogLines) -> None:
            super().__init__()
            self.view = view

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, LogLines.Status) and message.view is self.view

    class Counted(Message):
        """There are more warnings or errors now."""

        def __init__(self, tally: Tally) -> None:
            super().__init__()
            self.tally = tally

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, LogLines.Counted)

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._file: LogFile | None = None
        self._tally: Tally | None = None
        self._indexing: LogFile | None = None
        self._hit = -1
        self._seen = 0
        self._visible: dict[int, bytes] = {}
        self.following = True
        self.note = ""
        """What the last search or jump came to, in words."""

    # -- what is shown

    @property
    def lines(self) -> int:
        return self._file.lines if self._file else 0

    @property
    def warnings(self) -> int:
        """Lines with a warning that were counted so far."""
        return self._tally.warnings if self._tally else 0

    @property
    def errors(self) -> int:
        """Lines with an error that were counted so far."""
        return self._tally.errors if self._tally else 0

    @property
    def indexed(self) -> int:
        """Bytes of the file whose lines are known."""
        return self._file.size if self._file else 0

    @property
    def pending(self) -> int:
        """Lines that came since the reader stopped following."""
        return 0 if self.following else max(0, self.lines - self._seen)

    def open(self, path: Path | None) -> None:
        """Show another file, from its end; None shows nothing."""
        if self._file is not None:
            if path == self._file.path:
                return
            self._file.close()
        self._file = LogFile(path) if path else None
        self._tally = Tally(self._file) if self._file else None
        self.following, self._hit, self.note, self._seen = True, -1, "", 0
        self._resize()
        self.look()

    def on_mount(self) -> None:
        self.set_interval(0.25, self.look)

    def on_unmount(self) -> None:
        if self._file is not None:
            self._file.close()

    def look(self) -> None:
        """See whether the file has grown, off the event loop."""
        if self._file is not None and self._indexing is not self._file:
            self._indexing = self._file
            self._grow(self._file)

    @work(thread=True, exclusive=False, exit_on_error=False, group="log")
    def _grow(self, file: LogFile) -> None:
        # A file of gigabytes is shown as far as it is known, several times a second.
        left = self._cancelled()
        unfinished = True
        while unfinished and not left() and file is self._file:
            end = time.monotonic() + 0.2
            problem = ""
            try:
                changed = file.grow(partial(self._enough, file, left, end))
            except OSError as error:
                changed, problem = True, f"cannot read {file.path}: {error.strerror}"
            unfinished = changed and not problem and time.monotonic() > end
            if changed:
                self.post_message(self.Grown(self, file, problem))
        if self._indexing is file:
            self._indexing = None

    def _enough(self, file: LogFile, left: Callable[[], bool], end: float) -> bool:
        return left() or file is not self._file or time.monotonic() > end

    def _cancelled(self) -> Callable[[], bool]:
        worker = get_current_worker()
        return lambda: worker.is_cancelled

    @on(Grown)
    def _grown(self, message: Grown) -> None:
        if message.file is not self._file:
            return
        if message.problem:
            self.note = clean(message.problem)
        self._resize()
        if self._tally is not None:
            self._count(self._tally)

    @work(thread=True, exclusive=True, exit_on_error=False, group="count")
    def _count(self, tally: Tally) -> None:
        # After the lines are there: counting a large file takes longer than showing its end.
        if tally.grow(self._cancelled()):
            self.post_message(self.Counted(tally))

    @on(Counted)
    def _counted(self, message: Counted) -> None:
        if message.tally is self._tally:
            self.post_message(self.Status(self))

    def _resize(self) -> None:
        if self.following:
            self._seen = self.lines
        self.virtual_size = Size(self.virtual_size.width, self.lines)
        if self.following:
            self.scroll_end(animate=False, immediate=True, x_axis=False)
        self.refresh()
        self.post_message(self.Status(self))

    def scroll_to(self, x: float | None = None, y: float | None = None, **options: Any) -> None:
        # An animation of no length still waits for a tick, and reaching the end from inside that
        # tick starts the following, which stops the animation that Textual is about to delete.
        super().scroll_to(x, y, **{**options, "animate": False})

    def on_resize(self, event: Resize) -> None:
        if self.following:
            self.call_after_refresh(self.scroll_end, animate=False, x_axis=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        at_end = new_value >= self.max_scroll_y - 0.5
        if new_value < old_value and self.following and not at_end:
            self.following, self._seen = False, self.lines
            self.post_message(self.Status(self))
        elif at_end and not self.following and new_value > old_value:
            self.action_follow()

    # -- drawing

    def render_lines(self, crop: Region) -> list[Strip]:
        top = self.scroll_offset.y
        rows = self._file.read(top, self.size.height) if self._file else []
        self._visible = dict(enumerate(rows, top))
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        left, top = self.scroll_offset
        number = top + y
        base = self.rich_style
        row = self._visible.get(number)
        if row is None:
            return Strip.blank(self.size.width, base)
        text = clean(row.decode("utf-8", "replace").expandtabs(8))
        colours = self.app.theme_variables
        style = base + Style.parse(rich_style(role(row), colours))
        if number == self._hit:
            style += Style(reverse=True)
        strip = Strip([Segment(text, style)])
        if strip.cell_length > self.virtual_size.width:
            self.call_later(self._widen, strip.cell_length)
        return strip.crop_extend(left, left + self.size.width, base)

    def _widen(self, width: int) -> None:
        if width > self.virtual_size.width:
            self.virtual_size = Size(width, self.lines)

    # -- following

    def action_follow(self) -> None:
        self.following = not self.following
        self._hit = -1
        self._resize()

    def action_scroll_home(self) -> None:
        self.following, self._seen = False, self.lines
        self.scroll_home(animate=False)
        self.post_message(self.Status(self))

    def action_scroll_end(self) -> None:
        self.following = True
        self._resize()


class LogView(LogLines):
    """A log that can be searched; `f` follows its end, `/` searches."""

    HELP = (
        "The log, straight from its file. It follows the end until you scroll up; `f` follows "
        "again. `/` searches (a regular expression), `.` and `,` go to the next and previous hit, "
        "`]` and `[` to the next and previous warning or error."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "f", "follow", "Follow", id="log.follow", tooltip="Follow the end of the log, or stop"
        ),
        Binding(
            "right_square_bracket",
            "jump(1)",
            "Next problem",
            key_display="]",
            id="log.problem.next",
            tooltip="Next warning or error",
        ),
        Binding(
            "left_square_bracket",
            "jump(-1)",
            "Previous problem",
            key_display="[",
            show=False,
            id="log.problem.previous",
            tooltip="Previous warning or error",
        ),
        Binding(
            "full_stop",
            "hit(1)",
            "Next hit",
            key_display=".",
            show=False,
            id="log.hit.next",
            tooltip="Next search hit",
        ),
        Binding(
            "comma",
            "hit(-1)",
            "Previous hit",
            key_display=",",
            show=False,
            id="log.hit.previous",
            tooltip="Previous search hit",
        ),
        Binding("g", "scroll_home", "Top", show=False, id="log.top", tooltip="First line"),
        Binding("G", "scroll_end", "End", show=False, id="log.end", tooltip="Last line"),
    ]

    class Found(Message):
        """A search ended at a line, or nowhere."""

        def __init__(self, file: LogFile, line: int | None, what: str) -> None:
            super().__init__()
            self.file = file
            self.line = line
            self.what = what

    _pattern: re.Pattern[bytes] | None = None

    def open(self, path: Path | None) -> None:
        if self._file is None or path != self._file.path:
            self._pattern = None
        super().open(path)

    def search(self, words: str) -> None:
        """Find a regular expression from here on; an invalid one is taken literally."""
        if not words:
            self._pattern, self.note, self._hit = None, "", -1
            self._resize()
            return
        raw = words.encode()
        try:
            self._pattern = re.compile(raw, re.IGNORECASE)
        except re.error:
            self._pattern = re.compile(re.escape(raw), re.IGNORECASE)
        self._hit = -1
        self._look_for(self._pattern, -1, f"/{words}")

    def action_hit(self, direction: int) -> None:
        if self._pattern is not None:
            self._look_for(self._pattern, direction, "hit")

    def action_jump(self, direction: int) -> None:
        self._look_for(EITHER, direction, "warning or error")

    def _look_for(self, pattern: re.Pattern[bytes], direction: int, what: str) -> None:
        if self._file is None:
            return
        here = self._hit if self._hit >= 0 else self.scroll_offset.y
        if self._hit < 0 and direction < 0:
            here = self.lines
        self._find(self._file, pattern, here + direction, direction < 0, what)

    @work(thread=True, exclusive=True, exit_on_error=False, group="find")
    def _find(
        self, file: LogFile, pattern: re.Pattern[bytes], start: int, backwards: bool, what: str
    ) -> None:
        cancelled = self._cancelled()
        line = file.find(pattern, max(0, start), backwards=backwards, cancelled=cancelled)
        if line is None and not cancelled():
            # Past the end a search goes on from the other end, as in a pager.
            other = file.lines - 1 if backwards else 0
            line = file.find(pattern, other, backwards=backwards, cancelled=cancelled)
        if not cancelled():
            self.post_message(self.Found(file, line, what))

    @on(Found)
    def _found(self, message: Found) -> None:
        if message.file is not self._file:
            return
        if message.line is None:
            self.note = clean(f"no {message.what}")
        else:
            self.following, self._seen = False, self.lines
            self._hit = message.line
            self.note = clean(f"{message.what} at line {message.line + 1:,}".replace(",", " "))
            self.scroll_to(y=max(0, message.line - self.size.height // 3), animate=False)
        self.refresh()
        self.post_message(self.Status(self))
