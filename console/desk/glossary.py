"""The words that an operator meets, explained: terms of the screens and options, names of checks.

The data is `glossary.toml` beside this file; the documents are made from it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Term:
    """One entry."""

    name: str
    means: str
    """One or two sentences; a name in `backquotes` is code."""
    also: tuple[str, ...] = ()
    """Other names of the same thing, names of options among them."""
    fix: str = ""
    """For a check: what to do when it does not pass."""
    check: bool = False

    def called(self, word: str) -> bool:
        """Whether `word` is one of its names, whatever its capitals. ``*`` stands for any ending."""
        wanted = word.casefold()
        return any(fnmatchcase(wanted, name.casefold()) for name in (self.name, *self.also))


@lru_cache(maxsize=1)
def terms() -> tuple[Term, ...]:
    """Every entry, terms before checks, each part by name."""
    text = (resources.files(__package__) / "glossary.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    found = [
        Term(**{**entry, "also": tuple(entry.get("also", ())), "check": kind == "check"})
        for kind in ("term", "check")
        for entry in data[kind]
    ]
    return tuple(sorted(found, key=lambda term: (term.check, term.name.casefold())))


def explain(word: str, *, check: bool = False) -> Term | None:
    """The entry of a term or an option; with `check`, of a check by its name. An exact name wins
    over one with ``*``. None for a word that needs no explanation."""
    fitting = [term for term in terms() if term.check is check and term.called(word)]
    wanted = word.casefold()
    exact = (t for t in fitting if wanted in {n.casefold() for n in (t.name, *t.also)})
    return next(exact, fitting[0] if fitting else None)
