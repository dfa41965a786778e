"""What every screen has: the frame, the way to ask the desk, and what becomes of errors.

A screen asks the desk in thread workers only. A worker ends by posting one message that carries a
frozen value (`tell`), or by raising; it never touches a widget. A `DeckError` becomes the error
screen; anything else is our own fault and becomes a crash file and the same screen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import Worker, WorkerState, get_current_worker

from console.diagnosis.crash import in_words, write_crash
from console.facts import DeckError
from console.telemetry.sample import Sample
from screens.error import ErrorScreen
from screens.flow import Flow, GoTo, ScreenContext, Stage
from screens.help import HelpScreen
from screens.viewer import TextScreen
from screens.widgets.frame import HeaderLine, StepLine
from screens.widgets.keyline import KeyLine

STEP_BINDINGS: list[BindingType] = [
    *(
        Binding(
            f"{stage.value}",
            f"stage({stage.value})",
            stage.title,
            show=False,
            id=f"go.{stage.name.lower()}",
            tooltip=f"Go to step {stage.value}, {stage.title}",
        )
        for stage in list(Stage)[1:]
    ),
    *(
        Binding(
            f"alt+{stage.value}",
            f"stage({stage.value})",
            stage.title,
            show=False,
            priority=True,
            id=f"go.alt.{stage.name.lower()}",
            tooltip=f"Go to step {stage.value}, {stage.title}, also from a text field",
        )
        for stage in list(Stage)[1:]
    ),
]


LEFT = "left tritondeck; runs and servers go on. See them: tritondeck runs"

FRAME_BINDINGS: list[BindingType] = [
    Binding("escape", "screen.back", "Back", id="go.back", tooltip="One step back"),
    Binding(
        "question_mark", "screen.help", "Help", id="help", tooltip="Keys and words of this place"
    ),
    Binding(
        "ctrl+p",
        "command_palette",
        "Commands",
        id="palette",
        tooltip="Everything that can be done here, by name",
    ),
    Binding("q", "screen.leave", "Leave", id="go.leave", tooltip="Leave the console; runs go on"),
]
"""Keys of every screen. The app holds them, so that the footer names a screen's own keys first."""


class DeckScreen(Screen[None]):
    """Base of every step's screen."""

    BINDINGS: ClassVar[list[BindingType]] = STEP_BINDINGS
    STAGE: ClassVar[Stage] = Stage.HOME
    LIVE: ClassVar[bool] = False
    """Whether the GPU strip is sampled here."""
    AREA: ClassVar[str] = "home"
    """First word of this screen's entries in the palette."""

    class Sampled(Message):
        """Host and GPU figures arrived."""

        def __init__(self, sample: Sample) -> None:
            super().__init__()
            self.sample = sample

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, DeckScreen.Sampled)

    def __init__(self, context: ScreenContext, flow: Flow) -> None:
        super().__init__()
        self.context = context
        self.desk = context.desk
        self.flow = flow
        self.stage = self.STAGE
        self._keys: list[tuple[str, bool]] = []
        self._timers_of_ours: list[tuple[Timer, Callable[[], object]]] = []
        self._header = HeaderLine(context.hostname, context.clock)
        self._steps = StepLine(self.STAGE, flow)

    # -- the frame

    def compose(self) -> ComposeResult:
        yield self._header
        yield self._steps
        yield from self.body()
        yield KeyLine()

    def body(self) -> Iterable[Widget]:
        """The screen's own widgets, between the step line and the keys."""
        raise NotImplementedError

    def on_mount(self) -> None:
        if self.LIVE:
            self.every(self.desk.settings.screen.interval, self.sample)

    def every(self, seconds: float, ask: Callable[[], object]) -> None:
        """Ask now and again every `seconds`, while this screen is the one that is seen."""
        ask()
        self._timers_of_ours.append((self.set_interval(seconds, ask), ask))

    def on_screen_suspend(self) -> None:
        for timer, _ in self._timers_of_ours:
            timer.pause()

    def on_screen_resume(self) -> None:
        for timer, ask in self._timers_of_ours:
            ask()
            timer.resume()

    @work(thread=True, exclusive=True, exit_on_error=False, group="sample")
    def sample(self) -> None:
        self.tell(self.Sampled(self.desk.sample()))

    @on(Sampled)
    def _sampled(self, message: Sampled) -> None:
        self._header.show(message.sample)

    def move(self, flow: Flow) -> None:
        """Take over a new flow and show it in the step line."""
        self.flow = flow
        self._steps.show(self.stage, flow)

    def refresh_keys(self) -> None:
        """Draw the footer again, but only when other keys apply than those it names."""
        keys = [(key, active.enabled) for key, active in self.active_bindings.items()]
        if keys != self._keys:
            self._keys = keys
            self.refresh_bindings()

    # -- asking the desk

    def tell(self, message: Message) -> None:
        """From a worker: hand a result to this screen, unless the question is no longer asked."""
        if not get_current_worker().is_cancelled and self.is_attached:
            self.post_message(message)

    @on(Worker.StateChanged)
    def _worker_ended(self, event: Worker.StateChanged) -> None:
        if event.state is not WorkerState.ERROR or event.worker.error is None:
            return
        event.stop()
        self.failed(event.worker.error, event.worker.group)

    def failed(self, error: BaseException, group: str) -> None:
        """Show an error; a group that is asked again and again shows the same one once."""
        if isinstance(error, DeckError):
            self.show_error(error)
            return
        folders = self.desk.settings.folders
        saved = write_crash(folders, error, f"screen {self.AREA}, worker {group}")
        self.show_error(in_words(error, saved))

    def show_error(self, error: DeckError) -> None:
        """The error screen; a second error while it is open replaces nothing and adds nothing."""
        if isinstance(self.app.screen, ErrorScreen):
            return
        self.app.push_screen(ErrorScreen(error))

    # -- moving about

    def go(self, stage: Stage, flow: Flow | None = None) -> None:
        """Ask the app for another stage."""
        self.post_message(GoTo(stage, flow or self.flow))

    def action_stage(self, number: int) -> None:
        stage = Stage(number)
        if stage is self.stage:
            return
        if self.flow.reaches(stage):
            self.go(stage)
        else:
            self.notify(_NOT_YET[stage], markup=False, timeout=4)

    @on(StepLine.Chosen)
    def _step_clicked(self, message: StepLine.Chosen) -> None:
        self.action_stage(int(message.stage))

    def action_back(self) -> None:
        previous = self.stage - 1
        while previous > 0 and not self.flow.reaches(Stage(previous)):
            previous -= 1
        self.go(Stage(previous))

    def action_leave(self) -> None:
        self.app.exit(message=LEFT)

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen(self))

    def show_copy(self, title: str, *versions: tuple[str, str]) -> None:
        """Show text that `y` copies: (what it is, the text) each."""
        self.app.push_screen(TextScreen(title, *versions))


_NOT_YET = {
    Stage.ROUTE: "Choose a checkpoint first (1)",
    Stage.OPTIONS: "Choose a checkpoint first (1)",
    Stage.CHECK: "Choose a checkpoint and a route first (1, 2)",
    Stage.BUILD: "Nothing has been started yet: go through Check (4)",
    Stage.SERVE: "No server yet: the build (5) starts one",
    Stage.TRY: "No server yet: the build (5) starts one",
}
