"""Input fields: text that does not blink, and the completion of paths."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.suggester import Suggester
from textual.widgets import Input


class TextField(Input):
    """One line of text. A blinking cursor would cost 2.5 kB/s over SSH."""

    HELP = "A text field: type, `enter` accepts, `esc` goes back. Letters belong to the field here."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Accept", id="field.accept", tooltip="Take what was typed"),
    ]

    def __init__(
        self,
        value: str = "",
        *,
        placeholder: str = "",
        id: str | None = None,  # noqa: A002
        suggester: Suggester | None = None,
    ) -> None:
        super().__init__(value, placeholder=placeholder, id=id, compact=True, suggester=suggester)
        self.cursor_blink = False


class PathSuggester(Suggester):
    """Completes a path with the first entry of its folder that fits."""

    def __init__(self, suffixes: tuple[str, ...] = ()) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._suffixes = suffixes

    async def get_suggestion(self, value: str) -> str | None:
        return await asyncio.to_thread(self._first, value) if value else None

    def _first(self, value: str) -> str | None:
        head, _, start = value.rpartition("/")
        try:
            names = sorted(entry_names(Path(f"{head}/").expanduser(), self._suffixes))
        except OSError:
            return None  # a folder that cannot be listed has no suggestion
        for name in names:
            if start and name.startswith(start) and name != start:
                return f"{head}/{name}"
        return None


def entry_names(folder: Path, suffixes: tuple[str, ...] = ()) -> Iterable[str]:
    """Names in a folder, sub-folders with a slash; files only with one of `suffixes`.

    Raises OSError for what cannot be listed. Hidden entries are left out.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield f"{entry.name}/"
            elif not suffixes or entry.name.lower().endswith(suffixes):
                yield entry.name
