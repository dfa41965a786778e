"""What a line of a log means to a reader: an error, a warning, chatter, or none of them.

A line that names its own level is taken at its word (an information line may well speak of errors);
any other is judged by alarming words. Lines that are known to be harmless are none of them. Counting
looks for a few words in whole blocks first, which is some ten times as fast as looking at each line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from console.triton import logs


class Level(IntEnum):
    """Levels in rising order; a filter shows its own and those above."""

    VERBOSE = 0
    INFO = 1
    WARNING = 2
    ERROR = 3

    @property
    def word(self) -> str:
        return ("all", "info", "warnings", "errors")[self]


@dataclass(frozen=True, slots=True)
class Tally:
    """Lines of each kind; information is what is left."""

    verbose: int = 0
    warnings: int = 0
    errors: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.verbose + other.verbose,
            self.warnings + other.warnings,
            self.errors + other.errors,
        )

    def shown(self, lines: int, least: Level) -> int:
        """How many of `lines` a filter leaves."""
        match least:
            case Level.VERBOSE:
                return lines
            case Level.INFO:
                return lines - self.verbose
            case Level.WARNING:
                return self.warnings + self.errors
            case Level.ERROR:
                return self.errors


_LETTERS = {
    **dict.fromkeys((b"V", b"D", b"VERBOSE", b"DEBUG", b"TRACE"), Level.VERBOSE),
    **dict.fromkeys((b"I", b"INFO", b"NOTICE"), Level.INFO),
    **dict.fromkeys((b"W", b"WARN", b"WARNING"), Level.WARNING),
    **dict.fromkeys((b"E", b"F", b"ERROR", b"CRITICAL", b"FATAL"), Level.ERROR),
}
_HEAD = re.compile(
    rb"(?:\[rank\d+\]:\[?)?(?:"
    rb"(?P<a>[VIWEFD])\d{4} "  # Triton's default, and glog's
    rb"|\d{4}-\d\d-\d\dT[\d:.]+Z? (?P<b>[VIWEF]) "  # Triton's ISO 8601
    rb"|\[NeMo (?P<c>[VIWED]) "
    rb"|[^\n]{0,48}?\[(?:TRT|TRT-LLM|TensorRT-LLM)\] ?\[(?P<d>[A-Z]+)\]"
    rb"|[^\n]{0,64}?\b(?P<e>TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL)\b[\]: -]"
    rb")"
)
_BAD = re.compile(
    rb"\b(?:error|failed|failure|fatal|traceback|exception|killed|oom)\b|\b[A-Z]\w+Error:"
    rb"|out of memory|Segmentation fault",
    re.IGNORECASE,
)
_WARN = re.compile(rb"\bwarn(?:ing)?s?\b|\w+Warning:|\bdeprecat", re.IGNORECASE)
# Every line that is not information holds one of these; the first ones only with small letters.
_STEMS = (
    b"error", b"fail", b"fatal", b"exception", b"killed", b"out of memory", b"oom", b"critical",
    b"warn", b"deprecat", b"debug", b"trace", b"segmentation",
)  # fmt: skip
_MARKS = re.compile(
    rb"\n(?:\[rank\d+\]:\[)?[VWEFD]\d{4} |Z [VWEF] |\[NeMo [VWED] |\] ?\[(?:V|W|E|F|D|VERBOSE)\]"
)


def level(line: bytes) -> Level:
    """The level of one line without its newline."""
    head = _HEAD.match(line)
    if head is not None:
        found = _LETTERS.get(head[head.lastgroup or 0], Level.INFO)
    elif _BAD.search(line):
        found = Level.ERROR
    elif _WARN.search(line):
        found = Level.WARNING
    else:
        return Level.INFO
    if found >= Level.WARNING and logs.harmless(line.decode("utf-8", "replace")):
        return Level.INFO
    return found


def tally(lines: bytes) -> Tally:
    """Counts of the levels in a piece of whole lines."""
    verbose = warnings = errors = 0
    for line in _candidates(lines):
        match level(line):
            case Level.ERROR:
                errors += 1
            case Level.WARNING:
                warnings += 1
            case Level.VERBOSE:
                verbose += 1
            case Level.INFO:
                pass
    return Tally(verbose, warnings, errors)


def _candidates(lines: bytes) -> Iterator[bytes]:
    """Every line that may not be information, each once."""
    text = b"\n" + lines
    small = text.lower()
    starts: set[int] = set()
    for stem in _STEMS:
        place = small.find(stem)
        while place >= 0:
            starts.add(text.rfind(b"\n", 0, place) + 1)
            end = text.find(b"\n", place)
            place = small.find(stem, end) if end >= 0 else -1
    starts.update(text.rfind(b"\n", 0, mark.end()) + 1 for mark in _MARKS.finditer(text))
    for start in starts:
        end = text.find(b"\n", start)
        yield text[start : len(text) if end < 0 else end]
