"""What a verb prints: plain lines for people, one versioned JSON object for scripts.

Results go to stdout, progress and errors to stderr. Colour only on a terminal and without
``NO_COLOR``. Every foreign string has been cleaned; this is the last door all the same.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TextIO

from console.facts import DeckError, Level
from console.text import clean

if TYPE_CHECKING:
    from console.runs.model import RunView
    from console.settings import NotifySettings

JSON_VERSION = 1
"""Of every JSON object that a verb prints: raised when a key goes or changes its meaning."""
_SURROGATES = re.compile("[\ud800-\udfff]")
_COLOURS = {"red": 31, "green": 32, "yellow": 33, "bold": 1, "dim": 2}
_LEVELS = {Level.PASS: "green", Level.WARN: "yellow", Level.UNKNOWN: "yellow", Level.FAIL: "red"}


def say(text: str = "", *, multiline: bool = False) -> None:
    """One line of a result."""
    print(clean(text, multiline=multiline))


def note(text: str) -> None:
    """One line of progress."""
    print(clean(text), file=sys.stderr, flush=True)


def notice(settings: NotifySettings, view: RunView, stream: TextIO | None = None) -> None:
    """Call somebody back to the terminal that followed a long run to its end: bell and OSC 9."""
    stream = stream or sys.stderr
    if (
        view.active
        or view.elapsed < settings.after
        or not stream.isatty()
        or os.environ.get("TERM") == "dumb"
    ):
        return
    if settings.osc9:
        words = clean(f"tritondeck: {view.deployment} {view.state.value}")
        stream.write(f"\x1b]9;{words}\x1b\\")
    if settings.bell:
        stream.write("\a")
    stream.flush()


def coloured(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in a colour where the stream shows one. The caller has cleaned it."""
    stream = stream or sys.stdout
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def level_word(level: Level, accepted: bool = False) -> str:
    word = "accepted" if accepted else level.value
    return coloured(f"{word:8}", "yellow" if accepted else _LEVELS[level])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their content, the last one free."""
    cleaned = [tuple(clean(cell) for cell in row) for row in rows]
    widths = [max(len(row[i]) for row in [tuple(head), *cleaned]) for i in range(len(head) - 1)]
    for number, row in enumerate([tuple(head), *cleaned]):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        line = "  ".join([*cells, row[-1]]).rstrip()
        print(coloured(line, "bold") if number == 0 else line)


def emit(kind: str, value: Any, **more: Any) -> None:
    """One JSON object: ``{"version": 1, "<kind>": …}``."""
    document = {"version": JSON_VERSION, kind: plain(value)}
    document.update({key: plain(item) for key, item in more.items()})
    print(json.dumps(document, indent=2, allow_nan=False))


def emit_line(value: Mapping[str, Any]) -> None:
    """One JSON object on one line, for what comes as a stream."""
    print(json.dumps({"version": JSON_VERSION, **plain(value)}, allow_nan=False), flush=True)


def plain(value: Any) -> Any:
    """Dataclasses, pydantic models, paths and enums as JSON values; NaN and infinities as null."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="python"))
    if isinstance(value, Mapping):
        return {_text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, PurePath):
        return _text(str(value))
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return _text(str(value))


def _text(text: str) -> str:
    """A file name that is not UTF-8 holds lone surrogates, which strict JSON readers refuse."""
    return text if text.isascii() else _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def show_error(error: DeckError, *, as_json: bool) -> int:
    """Say what happened, why, and what to do next; returns the exit code."""
    if as_json:
        emit(
            "error",
            {
                "title": error.title,
                "why": error.why,
                "fix": error.fix,
                "raw": error.raw,
                "exit_code": error.exit_code,
            },
        )
        return error.exit_code
    print(coloured("error: ", "red", sys.stderr) + clean(error.title), file=sys.stderr)
    for label, text in (("why", error.why), ("fix", error.fix)):
        for part in text.split("; ") if text else ():
            print(f"  {label}: {clean(part)}", file=sys.stderr)
    if error.raw:
        print(clean(error.raw, multiline=True), file=sys.stderr)
    return error.exit_code
