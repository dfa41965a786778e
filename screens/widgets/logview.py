"""`LogView`: a log with its keys: search, jumps to problems, levels, wrapping, time stamps."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Any, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message

from console.logs.child import Scan
from console.logs.entry import entry
from console.logs.levels import Level
from console.text import clean
from console.triton import logs
from screens.widgets.logline import Stamps
from screens.widgets.loglines import LogLines


def _binding(key: str, action: str, label: str, name: str, tooltip: str, **more: Any) -> Binding:
    return Binding(key, action, label, id=f"log.{name}", tooltip=tooltip, **more)


class LogView(LogLines):
    """A log that can be searched; `f` follows its end, `/` searches."""

    HELP = (
        "The log, straight from its file. It follows the end until you scroll up; `f` follows "
        "again. `/` searches (a regular expression; small letters find capitals too), `.` and `,` "
        "go to the next and previous hit, `]` and `[` to the next and previous warning or error. "
        "`L` shows only a level and those above, `W` wraps long lines, `T` hides the times."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        _binding("f", "follow", "Follow", "follow", "Follow the end of the log, or stop"),
        _binding(
            "right_square_bracket", "jump(1)", "Next problem", "problem.next",
            "Next warning or error", key_display="]",
        ),
        _binding(
            "left_square_bracket", "jump(-1)", "Previous problem", "problem.previous",
            "Previous warning or error", key_display="[", show=False,
        ),
        _binding(
            "full_stop", "hit(1)", "Next hit", "hit.next", "Next search hit",
            key_display=".", show=False,
        ),
        _binding(
            "comma", "hit(-1)", "Previous hit", "hit.previous", "Previous search hit",
            key_display=",", show=False,
        ),
        _binding(
            "L", "level", "Level", "level", "Show only a level and those above", show=False
        ),
        _binding("W", "wrap", "Wrap", "wrap", "Wrap long lines, or cut them", show=False),
        _binding("T", "stamps", "Times", "times", "Show the time of each line, or not", show=False),
        _binding("g", "scroll_home", "Top", "top", "First line", show=False),
        _binding("G", "scroll_end", "End", "end", "Last line", show=False),
    ]  # fmt: skip

    class Found(Message):
        """A part of a search's result."""

        def __init__(self, search: int, said: Mapping[str, Any]) -> None:
            super().__init__()
            self.search = search
            self.said = said

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.words = ""
        """What is searched for; empty for nothing."""
        self.total = 0
        """Hits that were found so far."""
        self.searching = False
        self._hits: array[int] = array("Q")
        self._start = 0
        self._wanted = 0
        self._search = 0
        self._scan: Scan | None = None

    def close(self) -> None:
        self._stop_search()
        super().close()

    # -- numbers

    @property
    def number(self) -> int | None:
        """Number of the first visible line, from 1; None while it is not settled, or filtered."""
        region = self._region
        if region is None or not region.whole or self.least is not Level.VERBOSE:
            return None
        return self.scroll_offset.y + 1

    def number_of(self, offset: int) -> int | None:
        """Number of the line that begins at `offset`, from 1; None while it is not settled."""
        region = self._feed.region(Level.VERBOSE) if self._feed else None
        if self._feed is None or region is None or not region.whole:
            return None
        with self._feed.lock:
            return region.row_of(offset) - region.counts.start + 1

    # -- search

    def _stop_search(self) -> None:
        if self._scan is not None:
            self._scan.cancel()
        self._scan, self.searching = None, False
        self._search += 1
        self.words, self.total, self._wanted, self._hits = "", 0, 0, array("Q")

    def search(self, words: str) -> None:
        """Find a regular expression from here on; an invalid one is taken literally."""
        self._stop_search()
        self.note, self._hit = "", -1
        if words and self.path is not None:
            self.words, self.searching, self._wanted = words, True, 1
            number = self._search
            self._start = self._here()
            request = {"path": str(self.path), "pattern": words, "start": self._start}
            self._scan = Scan(request, lambda said: self._said(number, said))
        self.refresh()
        self._tell_status()

    def _said(self, search: int, said: Mapping[str, Any]) -> None:
        if self.is_running:
            self.post_message(self.Found(search, said))

    def _here(self) -> int:
        """Where the reader is, as an offset: the hit, else the first visible line."""
        if self._hit >= 0:
            return self._hit
        rows = self._read(self._base + self.scroll_offset.y, 1)
        return rows[0].offset if rows else 0

    @on(Found)
    def _found(self, message: Found) -> None:
        message.stop()
        if message.search != self._search:
            return
        said = message.said
        if "failed" in said:
            self.searching = False
            self.note = clean(f"the search ended: {said['failed']}")
        else:
            if said["hits"]:
                self._hits = array("Q", sorted((*self._hits, *said["hits"])))
            self.total, self.searching = said["total"], not said.get("end")
            if self._wanted and self._hits:
                self._go_to_hit(self._wanted)
        self._tell_status()

    def action_hit(self, direction: int) -> None:
        if self.words:
            self._wanted = direction
            self._go_to_hit(direction)

    def _go_to_hit(self, direction: int) -> None:
        if not self._hits:
            return
        self._wanted = 0
        here = self._here()
        if direction > 0:
            place = (
                bisect_right(self._hits, here) if self._hit >= 0 else bisect_left(self._hits, here)
            )
        else:
            place = bisect_left(self._hits, here) - 1
        # Past the end a search goes on from the other end, as in a pager.
        place %= len(self._hits)
        self._go(self._hits[place])
        self.note = f"hit {place + 1}{self._at(self._hits[place])}"
        self._tell_status()

    def _go(self, offset: int) -> None:
        self._hit = offset
        if self.least is not Level.VERBOSE and self._filtered_out(offset):
            self.least, self._region = Level.VERBOSE, None
        self.show_offset(offset)

    def _filtered_out(self, offset: int) -> bool:
        if self._feed is None:
            return False
        region = self._feed.region(self.least)
        with self._feed.lock:
            if not region.covers(offset):
                return True
            rows = region.rows(region.row_of(offset), 1)
        return not rows or rows[0].offset != offset

    # -- warnings and errors

    def action_jump(self, direction: int) -> None:
        """To the next line of the level `warnings` or above; said in words where there is none."""
        if self._feed is None or not self.state.age:
            return
        region = self._feed.region(Level.WARNING)
        here = self._here() if self._hit >= 0 or not self.following else self.state.size
        with self._feed.lock:
            counts = region.counts
            if here >= self._feed.file.size:
                row = counts.end
            else:
                row = region.row_of(here) if region.covers(here) else counts.start
            at = region.rows(row, 1)
            if direction < 0:
                row -= 1
            elif self._hit >= 0 and at and at[0].offset == self._hit:
                row += 1
            wrapped = not counts.start <= row < counts.end
            if wrapped:
                row = counts.start if direction > 0 else counts.end - 1
            found = region.rows(row, 1)
        if not found:
            counting = "" if self.state.tallied else " so far; still counting"
            self.note = f"no warning or error{counting}"
            self._tell_status()
            return
        self._go(found[0].offset)
        known = logs.explain_line(entry(found[0].data).text)
        what = f"{known.what} → {known.fix}" if known else "warning or error"
        self.note = clean(what + self._at(found[0].offset))
        self._tell_status()

    def _at(self, offset: int) -> str:
        number = self.number_of(offset)
        return f" at line {number:,}".replace(",", " ") if number else ""

    # -- looks

    def action_level(self) -> None:
        """The next level: everything, information, warnings, errors."""
        rows = self._read(self._base + self.scroll_offset.y, 1)
        self.least = Level((self.least + 1) % len(Level))
        self._region = None
        self._show()
        if rows and not self.following:
            self.show_offset(rows[0].offset)

    def action_wrap(self) -> None:
        self.wrapping = not self.wrapping
        self._show()
        if self._hit >= 0 and not self.following:
            self.show_offset(self._hit)

    def action_stamps(self) -> None:
        self.stamps = Stamps((self.stamps + 1) % len(Stamps))
        self._show()
