"""The one guard of the read-only mode."""

from __future__ import annotations

from console.facts import Refused
from console.settings import Settings


def require_writable(settings: Settings, action: str) -> None:
    """Raise `Refused` when `settings.readonly`; `action` completes "cannot …"."""
    if settings.readonly:
        raise Refused(
            f"cannot {action}: this console is read-only",
            why="readonly is set in the settings file or by TRITONDECK_READONLY",
            fix="unset it to change anything",
        )
