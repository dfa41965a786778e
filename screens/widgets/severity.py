"""What a line of a log means to a reader: a problem, a warning, or neither; and how many there are."""

from __future__ import annotations

import re
from collections.abc import Callable

from screens.phrase import Role
from screens.widgets.logfile import LogFile

_BAD = re.compile(
    rb"\b(?:error|failed|failure|fatal|traceback|exception|killed|oom)\b|^E\d{4} |\[E\]|\[NeMo E "
    rb"|\b[A-Z]\w+Error:|out of memory",
    re.IGNORECASE,
)
_WARN = re.compile(rb"\bwarn(?:ing)?s?\b|^W\d{4} |\[W\]|\[NeMo W |\bdeprecat", re.IGNORECASE)
EITHER = re.compile(_BAD.pattern + b"|" + _WARN.pattern, re.IGNORECASE | re.MULTILINE)
_PIECE = 256 * 1024


def role(row: bytes) -> Role:
    """The role that a line is drawn with."""
    if row.startswith((b"I0", b"I1", b"D")) and row[1:5].isdigit():
        return ""
    if _BAD.search(row):
        return "bad"
    return "warn" if _WARN.search(row) else ""


class Tally:
    """Counts the warnings and errors of a growing file, from where it stopped the last time."""

    def __init__(self, file: LogFile) -> None:
        self.file = file
        self.warnings = 0
        self.errors = 0
        self._position = 0

    def grow(self, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Count what is new, whole lines only; True when a figure changed."""
        before = (self.warnings, self.errors)
        if self._position > self.file.size:
            self._position = self.warnings = self.errors = 0
        while not cancelled():
            piece, newline, _ = self.file.piece(self._position, _PIECE).rpartition(b"\n")
            if not newline:
                break
            self._count(piece)
            self._position += len(piece) + 1
        return before != (self.warnings, self.errors)

    def _count(self, lines: bytes) -> None:
        place = 0
        while found := EITHER.search(lines, place):
            start = lines.rfind(b"\n", 0, found.start()) + 1
            end = lines.find(b"\n", found.end())
            end = len(lines) if end < 0 else end
            match role(lines[start:end]):
                case "bad":
                    self.errors += 1
                case "warn":
                    self.warnings += 1
                case _:
                    pass
            place = end + 1
