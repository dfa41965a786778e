"""What a failed command said last: the lines of its log that a person would look for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from console.text import clean, redact

_TAIL = 1 << 16
_NOISE = re.compile(r"^(?:[-=+|*#~_.\s]*|\[tritondeck\] progress .*|\s*\^+\s*)$")
_FRAME = re.compile(r"^\s+(?:File \"|at |in )|^\s{4,}|^Traceback ")
_PLAIN_ERROR = re.compile(
    r"\b(?:[A-Za-z_.]*(?:Error|Exception|Interrupt|Exit)\b|error:|fatal:|failed\b|cannot\b"
    r"|no such|not found|no space left|killed|out of memory)",
    re.IGNORECASE,
)
_OURS = re.compile(r"^\[tritondeck\] error:? +(?P<words>.+)")
"""How our workers say why they failed."""
LINES = 6


def last_lines(log: Path, secrets: Iterable[str] = ()) -> tuple[str, ...]:
    """The last meaningful lines of a log, cleaned and redacted, oldest first."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ()
    hidden = tuple(secrets)
    lines = [redact(line.rstrip(), hidden) for line in clean(text, multiline=True).split("\n")]
    return tuple([line for line in lines if not _NOISE.match(line)][-LINES:])


def cause(lines: Iterable[str]) -> str:
    """The one line that says why, out of the last lines: the last that reads like an error."""
    lines = tuple(lines)
    for line in reversed(lines):
        if match := _OURS.match(line):
            return match["words"][:300]
    candidates = [line for line in lines if not _FRAME.match(line)]
    for line in reversed(candidates):
        if _PLAIN_ERROR.search(line):
            return line[:300]
    return candidates[-1][:300] if candidates else ""
