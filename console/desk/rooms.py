"""`Room`: a module of this package that is imported when it is first asked for something."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Room:
    """Stands for ``console.desk.<name>``. The console paints its first screen before any of them
    is needed, and a verb needs one or two."""

    def __init__(self, name: str) -> None:
        self._name = f"console.desk.{name}"

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)
