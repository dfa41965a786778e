"""One line of a log as a person reads it: time, level, place and text apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

from console.logs.levels import Level, level
from console.text import clean, redact
from console.triton import logs


@dataclass(frozen=True, slots=True)
class Entry:
    """Everything is cleaned and without secrets."""

    text: str
    level: Level = Level.INFO
    time: str = ""
    """Time of day as it was written, to the millisecond where that is known."""
    place: str = ""
    """Source file and line: ``server.cc:674``."""
    framed: bool = False
    """Whether the line names its level itself."""
    harmless: str = ""
    """Why an alarming line is none, in words."""


_LETTERS = {
    logs.Severity.VERBOSE: Level.VERBOSE,
    logs.Severity.INFO: Level.INFO,
    logs.Severity.WARNING: Level.WARNING,
    logs.Severity.ERROR: Level.ERROR,
}
_NEMO = re.compile(
    r"\[NeMo (?P<level>[VIWED]) \d{4}-\d\d-\d\d (?P<time>\d\d:\d\d:\d\d)"
    r"(?: (?P<place>[^\]\s]+))?\] ?(?P<text>.*)$",
    re.DOTALL,
)


def entry(line: bytes) -> Entry:
    """Read one line without its newline; a progress bar says what it said last."""
    told = line.rstrip(b"\r").rpartition(b"\r")[2] if b"\r" in line else line
    text = told.decode("utf-8", "replace").expandtabs(8)
    nemo = _NEMO.match(text)
    if nemo:
        return Entry(
            redact(clean(nemo["text"])),
            level(told),
            nemo["time"],
            clean(nemo["place"] or ""),
            framed=True,
        )
    parsed = logs.parse(text)
    if parsed.time is None:
        return Entry(clean(parsed.message), level(told), harmless=parsed.harmless)
    digits = "" if parsed.time.microsecond == 0 else f".{parsed.time.microsecond // 1000:03d}"
    return Entry(
        clean(parsed.message),
        Level.INFO if parsed.harmless else _LETTERS[parsed.severity],
        f"{parsed.time:%H:%M:%S}{digits}",
        parsed.place,
        framed=True,
        harmless=parsed.harmless,
    )
