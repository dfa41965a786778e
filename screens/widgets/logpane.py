"""`LogPane`: a log view with its status line and its search field."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from screens.phrase import Phrase, join, say
from screens.widgets.fields import TextField
from screens.widgets.logview import LogView
from screens.widgets.words import Words


class LogPane(Vertical):
    """Title, state and search above the lines."""

    DEFAULT_CSS = """
    LogPane > Horizontal { height: 1; }
    LogPane .log-title { width: 1fr; text-wrap: nowrap; text-overflow: ellipsis; }
    LogPane TextField { width: 24; display: none; }
    LogPane.-searching TextField { display: block; }
    LogPane LogView { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", id="filter", tooltip="Search the log"),
        Binding(
            "escape",
            "close",
            "Close search",
            id="log.close",
            tooltip="Close the search field",
        ),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._label = ""
        self.view = LogView()
        self._title = Words(classes="log-title")
        self._search = TextField(placeholder="search")
        self._search.disabled = True

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield self._title
            yield self._search
        yield self.view

    def open(self, name: str, path: Path | None) -> None:
        """Show the log of something; the same file again keeps the reader's place."""
        self._label = name
        self.view.open(path)
        self._status()

    @on(LogView.Status)
    def _status(self) -> None:
        view = self.view
        if not view.lines:
            nothing = say(view.note or "nothing written yet", "dim")
            self._title.show(join(say("Log", "strong"), say(self._label), nothing))
            return
        settled = "" if view.state.settled else "≥ "
        place = f"line {_grouped(view.number)} of " if view.number and not view.following else ""
        unknown = "" if view.state.tallied else " …"
        self._title.show(
            join(
                say("Log", "strong"),
                say(self._label),
                say("follows", "ok") if view.following else say("paused: f follows", "warn"),
                say(f"{_grouped(view.pending)} new" if view.pending else "", "accent"),
                # What was asked for stands before what is always told: a narrow line is cut at its end.
                _search(view),
                say(view.note),
                say(f"{place}{settled}{_grouped(view.lines)} lines", "dim"),
                say(
                    _many(view.state.errors, "error") + (unknown if view.state.errors else ""),
                    "bad",
                ),
                say(_many(view.state.warnings, "warning") + unknown, "warn"),
                say(f"only {view.least.word}" if view.least else "", "accent"),
            )
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "close" or self.has_class("-searching")

    def action_search(self) -> None:
        self.add_class("-searching")
        self._search.disabled = False
        self._search.focus()
        self.refresh_bindings()

    def action_close(self) -> None:
        self.remove_class("-searching")
        self.view.focus()
        self._search.disabled = True
        self.refresh_bindings()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.view.search(event.value)
        # The line says what is searched for, and needs the room for what was found.
        self.action_close()


def _search(view: LogView) -> Phrase:
    """What is searched for and how often it was found, as far as the file was gone through."""
    if not view.words:
        return Phrase()
    going = " …" if view.searching else ""
    words = say(f"/{view.words}", "accent")
    if view.total:
        return join(words, say(_many(view.total, "hit") + going), between=" ")
    return join(words, say(going.strip() or "no hit", "dim" if going else "warn"), between=" ")


def _grouped(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def _many(count: int, word: str) -> str:
    """``3 warnings``; nothing for none."""
    return f"{_grouped(count)} {word}{'s' if count > 1 else ''}" if count else ""
