"""Themes of the operator's own: one TOML file each in the settings folder's ``themes``.

A theme is made from one of ours by naming what is different::

    base = "dark"            # dark, light or mono
    accent = "#ff9e64"
    cursor = ["#ffffff", "#3b2b20"]
"""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from textual.color import Color, ColorParseError
from textual.theme import Theme

from console.facts import UsageError
from console.text import clean
from console.tomllines import line_of
from themes.palettes import PALETTES, Palette

_COLOURS = tuple(field.name for field in fields(Palette))


def load(folder: Path) -> tuple[tuple[Theme, ...], tuple[UsageError, ...]]:
    """Every theme of the folder, by file name, and what is wrong with those that cannot be used."""
    themes: list[Theme] = []
    wrong: list[UsageError] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            themes.append(read(path))
        except UsageError as error:
            wrong.append(error)
    return tuple(themes), tuple(wrong)


def read(path: Path) -> Theme:
    """One theme; `UsageError` names file, line, key and what was expected."""
    shown = clean(str(path))
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the theme {shown}", why=clean(str(error))) from error
    base = raw.pop("base", "dark")
    if base not in PALETTES:
        raise _wrong(shown, text, "base", f"one of {', '.join(PALETTES)}")
    palette, dark = PALETTES[base]
    for key, value in raw.items():
        if key not in _COLOURS:
            raise _wrong(shown, text, key, f"one of base, {', '.join(_COLOURS)}")
        palette = replace(palette, **{key: _colour(shown, text, key, value)})
    return palette.theme(clean(path.stem), dark=dark)


def _colour(shown: str, text: str, key: str, value: Any) -> Any:
    """A colour as it was written; for the cursor its two, foreground and background."""
    wanted = value if key == "cursor" else [value]
    words = (
        "two colours, foreground and background" if key == "cursor" else 'a colour like "#7cc4b8"'
    )
    if not isinstance(wanted, list) or len(wanted) != (2 if key == "cursor" else 1):
        raise _wrong(shown, text, key, words)
    for colour in wanted:
        try:
            Color.parse(str(colour))
        except ColorParseError as error:
            raise _wrong(shown, text, key, words) from error
    return tuple(wanted) if key == "cursor" else value


def _wrong(shown: str, text: str, key: str, expected: str) -> UsageError:
    return UsageError(f"{shown}: line {line_of(text, (key,))}, {clean(key)}: expected {expected}")
