"""Where in a TOML text a value stands, for errors that name file, key and line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from console.text import clean

if TYPE_CHECKING:
    from pydantic import ValidationError


def problems(error: ValidationError, text: str, prefix: tuple[str, ...] = ()) -> list[str]:
    """One line a problem: ``line 7, server.http_port: Input should be … (got 70000)``."""
    lines = []
    for item in error.errors(include_url=False):
        location = (*prefix, *(str(part) for part in item["loc"]))
        key = ".".join(location) or "(file)"
        line = line_of(text, location)
        where = f"line {line}, " if line else ""
        got = item.get("input")
        shown = "" if isinstance(got, Mapping) else f" (got {clean(repr(got))[:80]})"
        lines.append(
            f"{where}{clean(key)}: {clean(item['msg'].removeprefix('Value error, '))}{shown}"
        )
    return lines


_TABLE = re.compile(r"^\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)


def line_of(text: str, location: tuple[str, ...]) -> int | None:
    """The 1-based line of a dotted key, of its nearest table where the key itself is missing.

    `tomllib` keeps no positions and tomlkit none that are public, so tables and keys are found
    again by their spelling; array tables are counted.
    """
    best: tuple[int, int] | None = None
    table: tuple[str, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if match := _TABLE.match(line):
            table = _parts(match[1])
            if line.lstrip().startswith("[["):
                index = counts.get(table, -1) + 1
                counts[table] = index
                table = (*table, str(index))
            here = table
        elif match := _KEY.match(line):
            here = (*table, *_parts(match[1]))
        else:
            continue
        depth = len(here)
        if here == location[:depth] and (best is None or depth > best[0]):
            best = (depth, number)
    return best[1] if best else None


def _parts(dotted: str) -> tuple[str, ...]:
    found = re.findall(r""""([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+)""", dotted)
    return tuple(a or b or c for a, b, c in found)
