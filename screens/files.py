"""Picks one file: folders and the files that fit, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.worker import get_current_worker

from screens.modal import DeckModal
from screens.phrase import say
from screens.widgets.fields import entry_names
from screens.widgets.table import Column, DeckTable, Listing, Row
from screens.widgets.words import Words


class FileScreen(DeckModal[Path | None]):
    """A folder's entries; enter opens a folder or takes a file."""

    HELP = "`enter` opens a folder or takes the file, `backspace` goes up, `esc` takes nothing."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "Take", id="files.take", tooltip="Open the folder, take the file"),
        Binding("backspace", "up", "Up", id="files.up", tooltip="The folder above"),
    ]

    class Listed(Message):
        """A folder's entries, or why there are none."""

        def __init__(self, folder: Path, names: tuple[str, ...], problem: str) -> None:
            super().__init__()
            self.folder = folder
            self.names = names
            self.problem = problem

    def __init__(self, folder: Path, suffixes: tuple[str, ...]) -> None:
        kinds = " ".join(suffixes) or "any file"
        super().__init__(f"Pick a file · {kinds}")
        self._folder = folder.absolute()
        self._suffixes = suffixes

    def body(self) -> Iterable[Widget]:
        yield Words(id="files-folder")
        yield Listing(Column("NAME"), empty=say("Nothing here.", "dim"), id="files")

    def on_mount(self) -> None:
        self._open(self._folder)
        self.query_one(Listing).table.focus()

    def _open(self, folder: Path) -> None:
        self._list(folder)

    @work(thread=True, exclusive=True, exit_on_error=False, group="files")
    def _list(self, folder: Path) -> None:
        problem, names = "", []
        try:
            names = sorted(
                entry_names(folder, self._suffixes), key=lambda n: (not n.endswith("/"), n.lower())
            )
        except OSError as error:
            problem = error.strerror or str(error)
        if not get_current_worker().is_cancelled:
            self.post_message(self.Listed(folder, tuple(names), problem))

    @on(Listed)
    def _listed(self, message: Listed) -> None:
        self._folder = message.folder
        note = (
            say(f"{message.folder}", "dim")
            if not message.problem
            else say(f"{message.folder}: {message.problem}", "bad")
        )
        self.query_one("#files-folder", Words).show(note)
        rows = [Row("../", (say("../", "dim"),))]
        rows += [
            Row(name, (say(name, "accent" if name.endswith("/") else ""),))
            for name in message.names
        ]
        self.query_one(Listing).show(rows)

    @on(DeckTable.RowSelected)
    def _clicked(self) -> None:
        self.action_take()

    def action_take(self) -> None:
        name = self.query_one(Listing).table.chosen
        if name == "../":
            self.action_up()
        elif name.endswith("/"):
            self._open(self._folder / name)
        elif name:
            self.dismiss(self._folder / name)

    def action_up(self) -> None:
        self._open(self._folder.parent)
