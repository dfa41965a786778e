"""The Textual app: wires the desk to the screens, and guards the terminal. Holds no logic."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import ClassVar, cast

from rich.console import Console, RenderableType
from rich.text import Text
from textual import events, on
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.command import Provider
from textual.filter import LineFilter
from textual.screen import Screen
from textual.types import CSSPathType
from textual.widgets import Input, TextArea

import themes
from console.commands import DeckCommands
from console.desk.desk import Desk
from console.desk.monitor import MonitorSource
from console.diagnosis.crash import one_line, write_crash
from console.driver import CellDriver, ControlFilter
from console.facts import UsageError
from console.text import clean
from screens.base import FRAME_BINDINGS, LEFT, DeckScreen
from screens.flow import Flow, GoTo, ScreenContext, Stage
from screens.home import HomeScreen
from themes import files as theme_files
from themes.glyphs import AsciiFilter, ascii_only
from themes.palettes import THEMES

# Imported when they are opened: the first paint does not wait for them.
_SCREENS: dict[Stage, tuple[str, str]] = {
    Stage.CHECKPOINT: ("checkpoint", "CheckpointScreen"),
    Stage.ROUTE: ("configure", "ConfigureScreen"),
    Stage.OPTIONS: ("configure", "ConfigureScreen"),
    Stage.CHECK: ("check", "CheckScreen"),
    Stage.BUILD: ("build", "BuildScreen"),
    Stage.SERVE: ("serve", "ServeScreen"),
    Stage.TRY: ("try_", "TryScreen"),
}


def _screen(stage: Stage, context: ScreenContext, flow: Flow) -> DeckScreen:
    module, name = _SCREENS[stage]
    make = getattr(import_module(f"screens.{module}"), name)
    made = make(context, flow, stage=stage) if module == "configure" else make(context, flow)
    return cast(DeckScreen, made)


class TritonDeckApp(App[None]):
    """The console. `flow` and `stage` open it somewhere else than at Home, `monitor` at its monitor."""

    TITLE = "tritondeck"
    CSS_PATH: ClassVar[CSSPathType | None] = [
        Path(path) / name for path in themes.__path__ for name in ("frame.tcss", "steps.tcss")
    ]
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {DeckCommands}
    BINDINGS: ClassVar[list[BindingType]] = FRAME_BINDINGS
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 - Textual's own type
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]  # noqa: RUF012
    ENABLE_COMMAND_PALETTE = True

    def __init__(
        self,
        desk: Desk,
        *,
        flow: Flow | None = None,
        stage: Stage = Stage.HOME,
        clock: Callable[[], float] = time.time,
        hostname: str = "",
        start: str = "",
        monitor: MonitorSource | None = None,
    ) -> None:
        super().__init__(driver_class=CellDriver)
        self.desk = desk
        self.animation_level = "none"
        self._given = ScreenContext(desk, clock, hostname or socket.gethostname(), start)
        self._flow = flow or Flow()
        self._stage = stage
        self._monitor = monitor
        self._controls = ControlFilter()
        self._ending = False
        self._ascii = (AsciiFilter(),) if ascii_only() else ()
        own, self._wrong_themes = theme_files.load(desk.settings.folders.config / "themes")
        for theme in (*THEMES, *own):
            self.register_theme(theme)
        self._theme_names = tuple(theme.name for theme in (*THEMES, *own))
        self._worn = ""
        self._take_theme(desk.settings.screen.theme)

    def _take_theme(self, name: str) -> None:
        """Before any style is read: Textual would read them all, and then again for the theme."""
        if name not in self.available_themes:
            why = "; ".join(str(error) for error in self._wrong_themes)
            fix = f"one of {', '.join(self._theme_names)}"
            raise UsageError(f"no theme named {clean(name)}", why=why, fix=fix)
        self._worn = name
        self.set_reactive(App.theme, name)
        self.stylesheet.set_variables(self.get_css_variables())

    # -- start

    def get_default_screen(self) -> Screen[None]:
        if self._monitor is not None:
            return self._fitted(self._watching(self._monitor))
        return self._fitted(HomeScreen(self._given, self._flow))

    def _fitted(self, screen: DeckScreen) -> DeckScreen:
        """With the classes of the terminal's size, which Textual sets after a layout for none."""
        width, height = self.size
        for points, cells in (
            (self.HORIZONTAL_BREAKPOINTS, width),
            (self.VERTICAL_BREAKPOINTS, height),
        ):
            screen.add_class(max(point for point in points if point[0] <= cells)[1])
        return screen

    def on_load(self) -> None:
        self.set_keymap(self.desk.settings.screen.keymap)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Textual restores the terminal for SIGINT only; a closed SSH line sends SIGHUP.
            loop.add_signal_handler(number, self._signalled, number)

    @property
    def theme_names(self) -> tuple[str, ...]:
        """Our themes and the operator's own."""
        return self._theme_names

    def refresh_css(self, animate: bool = True) -> None:
        # Textual may also ask at the start, when the theme that is worn has just been read.
        if self.theme != self._worn:
            self._worn = self.theme
            super().refresh_css(animate)

    def on_mount(self) -> None:
        self.call_after_refresh(self._started)
        # After SIGCONT the terminal is empty, and Textual draws only what has changed.
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        for error in self._wrong_themes:
            self.notify(str(error), severity="warning", markup=False, timeout=10)
        if self._stage is not Stage.HOME:
            self._open(self._stage, self._flow)

    def _started(self) -> None:
        """The first screen is there; see `console.verbs.screen`."""
        if not gc.isenabled():
            gc.freeze()
            gc.enable()

    def _signalled(self, number: signal.Signals) -> None:
        self.exit(return_code=128 + number, message=Text(f"{number.name}: {LEFT}"))

    # -- moving about

    @on(GoTo)
    def _go_to(self, message: GoTo) -> None:
        self._open(message.stage, message.flow)

    def _watching(self, source: MonitorSource | None) -> DeckScreen:
        make = import_module("screens.monitor").MonitorScreen
        return cast(DeckScreen, make(self._given, self._flow, source))

    def action_monitor(self) -> None:
        """Lay the monitor over whatever is shown; `esc` uncovers that again."""
        if isinstance(self.screen, DeckScreen) and self.screen.AREA != "monitor":
            self.push_screen(self._fitted(self._watching(None)))

    def _open(self, stage: Stage, flow: Flow) -> None:
        if cast(DeckScreen, self.screen).AREA == "monitor" and len(self.screen_stack) > 1:
            self.pop_screen()
        if len(self.screen_stack) == 1 and not isinstance(self.screen, HomeScreen):
            self.push_screen(self._fitted(HomeScreen(self._given, flow)))
        at_home = isinstance(self.screen, HomeScreen)
        if stage is Stage.HOME:
            if not at_home:
                self.pop_screen()
            return
        screen = self._fitted(_screen(stage, self._given, flow))
        if at_home:
            self.push_screen(screen)
        else:
            self.switch_screen(screen)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        # Textual's own inputs (the palette's) blink too: 2.5 kB/s over SSH.
        if isinstance(event.widget, Input | TextArea):
            event.widget.cursor_blink = False

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        yield from ()

    # -- guarding the terminal

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), self._controls, *self._ascii]

    def panic(self, *renderables: RenderableType) -> None:
        # Textual's way to end with a rendered message: a dead terminal, an unreadable style sheet.
        out = Console(file=StringIO(), width=100)
        out.print(*renderables)
        note = clean(cast(StringIO, out.file).getvalue(), multiline=True)
        self._return_code = 1
        self._crashed(RuntimeError(note.strip().rpartition("\n")[2]), note)

    def _handle_exception(self, error: Exception) -> None:
        # Textual would print a traceback with the values of all local variables: tokens, paths.
        self._return_code = 1
        if self._ending:
            return
        self._ending = True
        self._exception = error
        self._crashed(error)
        self._exception_event.set()

    def _crashed(self, error: Exception, note: str = "") -> None:
        saved = write_crash(self.desk.settings.folders, error, note)
        self._exit_renderables.append(Text(one_line(error, saved)))
        self._close_messages_no_wait()
