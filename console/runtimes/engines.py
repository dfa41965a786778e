"""Which engine a plan's images run in."""

from __future__ import annotations

import os
from collections.abc import Mapping

from console.facts import DeckError, UsageError
from console.runtimes.docker import Docker
from console.runtimes.engine import Engine, Unreachable
from console.runtimes.podman import Podman
from console.text import clean

ENGINES: tuple[type[Engine], ...] = (Docker, Podman)
"""In the order that ``auto`` asks them."""


def engine(name: str, environ: Mapping[str, str] = os.environ) -> Engine:
    """The engine called `name`, or with ``auto`` the first that answers; asks nothing else.

    Raises `Unreachable` with what each said when none answers.
    """
    for kind in ENGINES:
        if kind.name == name:
            return kind(environ)
    if name != "auto":
        raise UsageError(f"no such container engine: {clean(name)}", fix="docker, podman or auto")
    said: list[str] = []
    fix = ""
    for kind in ENGINES:
        one = kind(environ)
        try:
            one.facts()
        except DeckError as error:
            said.append(": ".join(filter(None, (error.title, error.why))))
            fix = fix or error.fix
            continue
        return one
    raise Unreachable("no container engine answers", why="; ".join(said), fix=fix)
