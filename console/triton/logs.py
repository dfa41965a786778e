"""Triton's log: its grammar, what stands outside it, and what its failures mean.

An ``E`` line does not mean failure (some are harmless on a host without a GPU), and some failures are
``I`` lines: what a line means is data (`log_knowledge.toml`), not its letter.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

from console.text import clean, redact


class Severity(StrEnum):
    VERBOSE = "verbose"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    NONE = ""
    """The line stands outside the grammar: a table, a traceback, a model's own output."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. `message` is cleaned, its quotes and escapes undone (so it may have line breaks)."""

    message: str
    severity: Severity = Severity.NONE
    time: datetime | None = None
    """UTC. The default format has no year: the year is then 2000."""
    pid: int | None = None
    place: str = ""
    """Source file and line: ``server.cc:674``."""
    harmless: str = ""
    """Why an alarming line is none, in words."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A known failure: what happened, why, and what to do; `line` is its 1-based place in the log."""

    id: str
    what: str
    why: str
    fix: str
    raw: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class _Known:
    pattern: re.Pattern[str]
    id: str
    what: str
    why: str
    fix: str


_FRAME = r"(?P<pid>\d+) (?P<place>\S+?:\d+)\] ?(?P<message>.*)$"
_DEFAULT = re.compile(r"^(?P<level>[VIWE])(?P<time>\d{4} \d{2}:\d{2}:\d{2}\.\d{6,9}) +" + _FRAME)
_ISO = re.compile(r"^(?P<time>\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z) (?P<level>[VIWE]) " + _FRAME)
_LETTERS = {
    "V": Severity.VERBOSE,
    "I": Severity.INFO,
    "W": Severity.WARNING,
    "E": Severity.ERROR,
}
_OUTSIDE_ERRORS = re.compile(
    r"^(?:error: |Error: |\[libprotobuf ERROR|tritonserver: unrecognized option|Bad option:"
    r"|\S+: error while loading shared libraries)"
)


def parse(line: str) -> LogLine:
    """Read one line in either of Triton's formats; anything else comes back as it is, cleaned.

    Errors that the server writes outside its grammar (``error: creating server: …``) count as
    errors; tables, tracebacks and what models print have no severity.
    """
    text = line.rstrip("\r\n")
    match = _ISO.match(text) or _DEFAULT.match(text)
    if match is None:
        shown = redact(clean(text))
        severity = Severity.ERROR if _OUTSIDE_ERRORS.match(text) else Severity.NONE
        return LogLine(shown, severity, harmless=harmless(shown))
    message = redact(clean(_unquoted(match["message"]), multiline=True))
    return LogLine(
        message,
        _LETTERS[match["level"]],
        _time(match["time"]),
        int(match["pid"]),
        clean(match["place"]),
        harmless(message),
    )


def _unquoted(message: str) -> str:
    """A message without its quotes; Triton writes it as a JSON string."""
    text = message.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            told = json.loads(text)
        except ValueError:
            return text[1:-1]
        return str(told)
    return message.rstrip()


def _time(text: str) -> datetime | None:
    try:
        if "T" in text:
            return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        # gRPC's own lines have nine digits; a datetime holds six.
        return datetime.strptime(f"2000{text[:20]}", "%Y%m%d %H:%M:%S.%f").replace(tzinfo=UTC)
    except ValueError:
        return None  # a damaged line


# ---------------------------------------------------------------------------- meaning


@cache
def _knowledge() -> tuple[tuple[tuple[re.Pattern[str], str], ...], tuple[_Known, ...]]:
    data: dict[str, list[dict[str, Any]]] = tomllib.loads(
        (files("console.triton") / "log_knowledge.toml").read_text(encoding="utf-8")
    )
    harmless = tuple((re.compile(entry["pattern"]), entry["why"]) for entry in data["harmless"])
    known = tuple(
        _Known(re.compile(e["pattern"]), e["id"], e["what"], e["why"], e["fix"])
        for e in data["failure"]
    )
    return harmless, known


def harmless(message: str) -> str:
    """Why an alarming message is none, in words; empty where that is not known."""
    return next((why for pattern, why in _knowledge()[0] if pattern.search(message)), "")


def explain_line(message: str, line: int = 0) -> Explanation | None:
    """What one message (or a load's reason) means, where that is known."""
    for known in _knowledge()[1]:
        match = known.pattern.search(message)
        if match:
            words = {k: clean(v or "").rstrip(" ;,.\"'") for k, v in match.groupdict().items()}
            what, why, fix = (t.format_map(words) for t in (known.what, known.why, known.fix))
            return Explanation(known.id, what, why, fix, message, line)
    return None


def explain(lines: Iterable[str]) -> tuple[Explanation, ...]:
    """The known failures in a log, in its order, each once.

    The first is the cause, as a rule: consequences (``failed to load all models``) come later.
    """
    found: dict[tuple[str, str], Explanation] = {}
    for number, line in enumerate(lines, 1):
        parsed = parse(line)
        if parsed.harmless:
            continue
        explanation = explain_line(parsed.message, number)
        if explanation is not None:
            found.setdefault((explanation.id, explanation.what), explanation)
    return tuple(found.values())
