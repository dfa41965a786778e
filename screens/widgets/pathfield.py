"""`PathField`: a path that completes and can be browsed for."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message

from screens.files import FileScreen
from screens.widgets.fields import PathSuggester, TextField


class PathField(Horizontal):
    """A path that can be typed, completed (right arrow) or browsed for (ctrl+f)."""

    HELP = "A path: type it, complete it with the right arrow, or browse with `ctrl+f`."
    DEFAULT_CSS = """
    PathField { height: 1; }
    PathField > TextField { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+f", "browse", "Browse", id="path.browse", tooltip="Pick a file in a list"),
    ]

    def __init__(
        self,
        value: str = "",
        *,
        suffixes: tuple[str, ...] = (),
        placeholder: str = "ctrl+f browses",
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self._suffixes = suffixes
        self._field = TextField(value, placeholder=placeholder, suggester=PathSuggester(suffixes))

    def compose(self) -> ComposeResult:
        yield self._field

    @property
    def value(self) -> str:
        return self._field.value.strip()

    @value.setter
    def value(self, path: str) -> None:
        self._field.value = path

    def focus(self, scroll_visible: bool = True) -> PathField:
        self._field.focus(scroll_visible)
        return self

    def action_browse(self) -> None:
        start = Path(self.value).expanduser() if self.value else Path.cwd()
        folder = next(place for place in (start, *start.absolute().parents) if place.is_dir())

        def taken(path: Path | None) -> None:
            if path is not None:
                self.value = str(path)

        self.app.push_screen(FileScreen(folder, self._suffixes), taken)


class CheckpointField(PathField):
    """The checkpoint of one role; ctrl+f looks for it on the Checkpoint screen."""

    HELP = "A checkpoint: type its path or hub id, or look for it with `ctrl+f`."

    class Wanted(Message):
        """The operator wants to look for a checkpoint of `role`."""

        def __init__(self, role: str) -> None:
            super().__init__()
            self.role = role

    def __init__(self, role: str, value: str = "") -> None:
        super().__init__(value, placeholder="ctrl+f chooses it")
        self._role = role

    def action_browse(self) -> None:
        self.post_message(self.Wanted(self._role))
