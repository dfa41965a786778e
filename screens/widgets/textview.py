"""`TextView`: shows a text of any length; only visible lines are ever rendered."""

from __future__ import annotations

import re

from rich.cells import cell_len
from rich.segment import Segment
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from console.text import clean
from screens.phrase import Role, rich_style

_COMMENT = re.compile(r"^\s*#")
_HEADING = re.compile(r"^# ?[─=-]{2,} \d")
_HERE = re.compile(r"<<-?'?([A-Za-z_]+)'?\s*$")


class TextView(ScrollView, can_focus=True):
    """Lines of text, scrolled both ways. Comments are dim, their headings in the accent."""

    HELP = "Text that this screen would run or has received. `y` copies all of it."

    def __init__(self, text: str = "", *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: list[str] = []
        self._text = ""
        self.show(text)

    @property
    def text(self) -> str:
        return self._text

    def show(self, text: str) -> None:
        """Replace the text; keeps the place where the reader is."""
        if text == self._text and self._lines:
            return
        self._text = text
        self._lines = clean(text.expandtabs(4), multiline=True).split("\n")
        longest = max((cell_len(line) for line in self._lines), default=0)
        self.virtual_size = Size(longest, len(self._lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        left, top = self.scroll_offset
        number = top + y
        base = self.rich_style
        if number >= len(self._lines):
            return Strip.blank(self.size.width, base)
        line = self._lines[number]
        style = rich_style(self._role(line), base, self.app.theme_variables)
        strip = Strip([Segment(line, style)])
        return strip.crop_extend(left, left + self.size.width, base)

    def _role(self, line: str) -> Role:
        if _HEADING.match(line):
            return "accent"
        return "dim" if _COMMENT.match(line) else ""


def fold(script: str) -> str:
    """A shell script with each carried program or lock as one line: what runs, and its configuration.

    Configurations stay: they are what an option changes.
    """
    shown: list[str] = []
    end, hidden = "", 0
    for line in script.split("\n"):
        if end and line != end:
            hidden += 1
            continue
        if end:
            shown[-1] += f"  … {hidden} lines"
            end, hidden = "", 0
            continue
        shown.append(line)
        if (match := _HERE.search(line)) and "config.pbtxt" not in line:
            end = match[1]
    return "\n".join(shown)
