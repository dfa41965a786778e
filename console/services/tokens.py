"""The token of one launch: made anew for each, in a 0600 file, gone when the server has ended."""

from __future__ import annotations

import secrets
from pathlib import Path

from console import storage
from console.planning.variables import expand
from console.services.record import Record


def write(made: Record) -> None:
    """A fresh token, readable by this user alone; never through a link that lies there."""
    if place := _place(made):
        storage.write_private(place, secrets.token_urlsafe(32).encode())


def remove(made: Record) -> None:
    """Remove the token of a server of ours that has ended."""
    if place := _place(made):
        place.unlink(missing_ok=True)


def _place(made: Record) -> Path | None:
    """The file; None for a server without one, and for an attached one, whose token is not ours."""
    text = "" if made.attached else expand(made.spec.token_file, made.values)
    return Path(text) if text else None
