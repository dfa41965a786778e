"""Texts that every match of a regular expression must hold.

Looking for a text goes through a file some twenty times as fast as the `re` module's automaton does,
so a search looks at lines only where one of these texts stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

_LEAST = 2


def required(pattern: bytes, flags: int) -> list[tuple[bytes, ...]]:
    """Sets of texts: every match holds at least one text of each set.

    With `re.IGNORECASE` in `flags` they are in small letters.
    """
    try:
        tree = parser.parse(pattern, flags)
    except re.error:
        return []
    if tree.state.flags & re.IGNORECASE and not flags & re.IGNORECASE:
        return []  # ignored for a part of it, by an inline flag
    sets = [s for s in _sets(tree) if s and all(len(text) >= _LEAST for text in s)]
    return [tuple(t.lower() for t in s) for s in sets] if flags & re.IGNORECASE else sets


def _best(sets: Iterable[tuple[bytes, ...]]) -> tuple[bytes, ...]:
    """The set whose shortest text is longest; few texts before many."""
    good = [s for s in sets if s and all(len(text) >= _LEAST for text in s)]
    return max(good, key=lambda s: (min(map(len, s)), -len(s)), default=())


def _sets(tree: Iterable[tuple[Any, Any]]) -> list[tuple[bytes, ...]]:
    """Alternatives that must stand, one set for each place of a sequence."""
    sets: list[tuple[bytes, ...]] = []
    run = bytearray()
    for kind, value in tree:
        if kind is op.LITERAL:
            run.append(value)
            continue
        sets.append((bytes(run),))
        run.clear()
        if kind is op.SUBPATTERN:
            if not value[1] and not value[2]:  # no flags of its own
                sets += _sets(value[3])
        elif kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT) and value[0]:
            sets += _sets(value[2])
        elif kind is op.BRANCH:
            branches = [_best(_sets(branch)) for branch in value[1]]
            if all(branches):
                sets.append(tuple(text for branch in branches for text in branch))
    return [*sets, (bytes(run),)]
