"""What Home can do with a deployment's file: clone, edit, compare, forget."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message

from console.desk.desk import DeploymentView, DiffView
from screens import outside
from screens.asking import AskScreen
from screens.base import DeckScreen
from screens.confirm import ConfirmScreen
from screens.phrase import lines, say

CHANGING = ("clone", "edit_file", "forget")
"""Actions that do not exist with ``--readonly``."""


class DeploymentActs(DeckScreen):
    """Acts on the deployment under the cursor; a screen says which one that is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "c", "clone", "Clone", show=False, id="home.clone", tooltip="Copy it to a new name"
        ),
        Binding("e", "edit_file", "Edit", show=False, id="edit", tooltip="Edit its file"),
        Binding(
            "space", "mark", "Mark", show=False, id="home.mark", tooltip="Mark it, to compare with"
        ),
        Binding(
            "v",
            "compare",
            "Compare",
            show=False,
            id="home.compare",
            tooltip="What differs from the marked one",
        ),
    ]

    class Compared(Message):
        """What differs between two deployments."""

        def __init__(self, view: DiffView) -> None:
            super().__init__()
            self.view = view

    class Editing(Message):
        """A deployment's text lies in a private file, ready for an editor."""

        def __init__(self, name: str, file: Path, before: str) -> None:
            super().__init__()
            self.name = name
            self.file = file
            self.before = before

    class Changed(Message):
        """Something about the deployments is different now."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    marked = ""
    """Name of the deployment that `v` compares with."""

    @property
    def chosen(self) -> DeploymentView | None:
        raise NotImplementedError

    def load(self) -> object:
        raise NotImplementedError

    @on(Changed)
    def _changed(self, message: Changed) -> None:
        self.notify(message.words, markup=False, timeout=4)
        self.load()

    # -- clone

    def action_clone(self) -> None:
        if not (view := self.chosen):
            return

        def answered(name: str | None) -> None:
            if name:
                self._clone(view.name, name)

        words = say("A copy of the file, comments kept. Nothing is built.")
        self.app.push_screen(AskScreen(f"Clone {view.name} as", words, f"{view.name}-2"), answered)

    @work(thread=True, exclusive=True, exit_on_error=False, group="clone")
    def _clone(self, name: str, new: str) -> None:
        self.desk.clone(name, new)
        self.tell(self.Changed(f"cloned {name} as {new}"))

    # -- edit

    def action_edit_file(self) -> None:
        if view := self.chosen:
            self._draft_text(view.name)

    @work(thread=True, exclusive=True, exit_on_error=False, group="edit")
    def _draft_text(self, name: str) -> None:
        before = self.desk.deployment_text(name)
        self.tell(self.Editing(name, self.desk.draft_file(name, before), before))

    @on(Editing)
    def _edit(self, message: Editing) -> None:
        if self.open_outside(outside.editor, message.file):
            self._save_text(message.name, message.file, message.before)

    @work(thread=True, exclusive=True, exit_on_error=False, group="edit")
    def _save_text(self, name: str, file: Path, before: str) -> None:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
        if text != before:
            self.desk.replace_text(name, text, before)
            self.tell(self.Changed(f"saved {name}"))

    # -- compare

    def action_mark(self) -> None:
        if view := self.chosen:
            self.marked = "" if self.marked == view.name else view.name
            self.load()

    def action_compare(self) -> None:
        view = self.chosen
        if not view or not self.marked or self.marked == view.name:
            words = "Mark another deployment first (space), then v on this one"
            self.notify(words, markup=False, timeout=4)
            return
        self._compare(self.marked, view.name)

    @work(thread=True, exclusive=True, exit_on_error=False, group="compare")
    def _compare(self, left: str, right: str) -> None:
        self.tell(self.Compared(self.desk.diff(left, right)))

    @on(Compared)
    def _compared(self, message: Compared) -> None:
        self.show_copy(*difference(message.view))

    # -- forget

    def action_forget(self) -> None:
        if not (view := self.chosen):
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._forget(view.name)

        explanation = lines(
            say("The deployment file and its runs go to the trash folder."),
            say("A server that still runs is refused; the checkpoint is not touched."),
        )
        self.app.push_screen(ConfirmScreen(f"Forget {view.name}", explanation, view.name), answered)

    @work(thread=True, exclusive=True, exit_on_error=False, group="forget")
    def _forget(self, name: str) -> None:
        self.desk.forget(name)
        self.tell(self.Changed(f"{name} is in the trash folder"))


def difference(view: DiffView) -> tuple[str, tuple[str, str], tuple[str, str]]:
    """A title and two forms of what differs: by key, and as a unified difference of the files."""
    section = max((len(entry.section) for entry in view.entries), default=0)
    key = max((len(entry.key) for entry in view.entries), default=0)
    rows = [
        f"{entry.section:{section}}  {entry.key:{key}}  {entry.left or '–'}  →  {entry.right or '–'}"
        for entry in view.entries
    ]
    title = f"{view.left} → {view.right}"
    return title, ("by key", "\n".join(rows) or "nothing differs"), ("files", view.text)
