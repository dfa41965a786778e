"""How one line of a log is drawn: its time, level and place in columns, then what it says."""

from __future__ import annotations

from enum import IntEnum

from console.logs.entry import Entry
from console.logs.levels import Level
from screens.phrase import Phrase, Role, say

_ROLES: dict[Level, Role] = {
    Level.VERBOSE: "dim",
    Level.INFO: "",
    Level.WARNING: "warn",
    Level.ERROR: "bad",
}
_LETTERS = {Level.VERBOSE: "V", Level.INFO: "I", Level.WARNING: "W", Level.ERROR: "E"}
_PLACES_FROM = 110
"""Columns from which a line says where in a source it was written."""


class Stamps(IntEnum):
    """What stands before a line that has a head."""

    TIME = 0
    NONE = 1

    @property
    def word(self) -> str:
        return ("times", "no times")[self]


def phrase(line: Entry, stamps: Stamps, width: int) -> Phrase:
    """A line for a view of `width` columns; it may be longer than that."""
    role = _ROLES[line.level]
    text = say(line.text.replace("\n", " ⏎ "), "dim" if line.harmless else role)
    if line.harmless:
        text += say(f"   harmless: {line.harmless}", "dim")
    if not line.framed:
        return text
    head = say(line.time, "dim").fit(13) if stamps is Stamps.TIME and line.time else Phrase()
    head += say(f"{_LETTERS[line.level]} ", role or "dim")
    if width >= _PLACES_FROM and line.place:
        head += say(line.place, "dim").fit(26) + say(" ")
    return head + text
