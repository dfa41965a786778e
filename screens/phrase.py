"""`Phrase`: a short text whose parts have roles; the only way that text reaches a screen.

Every part goes through `console.text.clean`, so nothing that we did not write can act on the
terminal, and none of it is ever read as markup. A role is a meaning, not a colour: the theme gives
it one, and no meaning stands on colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from rich.cells import cell_len, set_cell_size
from rich.style import Style
from textual.content import Content

from console.text import clean

Role = Literal["", "strong", "dim", "fill", "accent", "ok", "warn", "bad"]
ROLES: tuple[Role, ...] = get_args(Role)

_VARIABLES: Mapping[str, str] = {
    "strong": "bold $text-strong",
    "dim": "$text-dim",
    "fill": "$line",
    "accent": "$accent",
    "ok": "$success",
    "warn": "$warning",
    "bad": "$error",
}


@dataclass(frozen=True, slots=True)
class Phrase:
    """Parts of text with their roles, in order. Already cleaned."""

    parts: tuple[tuple[str, Role], ...] = ()

    @property
    def plain(self) -> str:
        return "".join(text for text, _ in self.parts)

    @property
    def width(self) -> int:
        """Terminal cells."""
        return sum(cell_len(text) for text, _ in self.parts)

    def __add__(self, other: Phrase) -> Phrase:
        return Phrase(self.parts + other.parts)

    def __bool__(self) -> bool:
        return any(text for text, _ in self.parts)

    def lines(self) -> list[Phrase]:
        """The lines that it has, each a phrase; at least one."""
        found: list[list[tuple[str, Role]]] = [[]]
        for text, role in self.parts:
            first, *more = text.split("\n")
            found[-1].append((first, role))
            found += [[(line, role)] for line in more]
        return [Phrase(tuple(part for part in line if part[0])) for line in found]

    def content(self) -> Content:
        """For Textual widgets; colours follow the theme by themselves."""
        return Content.assemble(*((text, _VARIABLES.get(role, "")) for text, role in self.parts))

    def fit(self, width: int, *, right: bool = False) -> Phrase:
        """Cut with an ellipsis, or pad with spaces, to exactly `width` cells."""
        if self.width <= width:
            space: tuple[tuple[str, Role], ...] = ((" " * (width - self.width), ""),)
            return Phrase(space + self.parts if right else self.parts + space)
        kept: list[tuple[str, Role]] = []
        left = width - 1
        for text, role in self.parts:
            if left <= 0:
                break
            kept.append((text if cell_len(text) <= left else set_cell_size(text, left), role))
            left -= min(left, cell_len(text))
        return Phrase((*kept, ("…", "dim"))) if width > 0 else Phrase()


def rich_style(role: Role, base: Style, colours: Mapping[str, str]) -> Style:
    """The look of a role over `base`, a widget's own; `base` where the theme says nothing of it."""
    words = _VARIABLES.get(role, "").split()
    own = " ".join(colours.get(word[1:], "") if word.startswith("$") else word for word in words)
    return base + Style.parse(own)


def rich_styles(base: Style, colours: Mapping[str, str]) -> dict[Role, Style]:
    """The look of every role, for a widget that draws many lines at once."""
    return {role: rich_style(role, base, colours) for role in ROLES}


def say(text: object, role: Role = "") -> Phrase:
    """One part, cleaned to one line."""
    return Phrase(((clean(str(text)), role),))


def paragraph(text: str, role: Role = "") -> Phrase:
    """One part that keeps its line breaks."""
    return Phrase(((clean(text, multiline=True), role),))


def join(*phrases: Phrase, between: str = "  ") -> Phrase:
    """The phrases that are not empty, with `between` them."""
    parts: list[tuple[str, Role]] = []
    for phrase in phrases:
        if not phrase:
            continue
        if parts:
            parts.append((between, ""))
        parts.extend(phrase.parts)
    return Phrase(tuple(parts))


def lines(*phrases: Phrase) -> Phrase:
    """The phrases, one a line."""
    parts: list[tuple[str, Role]] = []
    for number, phrase in enumerate(phrases):
        if number:
            parts.append(("\n", ""))
        parts.extend(phrase.parts)
    return Phrase(tuple(parts))
