"""What every screen has: the frame, the way to ask the desk, and what becomes of errors.

A screen asks the desk in thread workers only. A worker ends by posting one message that carries a
frozen value (`tell`), or by raising; it never touches a widget. A `DeckError` becomes the error
screen; anything else is our own fault and becomes a crash file and the same screen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import Worker, WorkerState, get_current_worker

from console.desk.desk import Term
from console.diagnosis.crash import in_words, write_crash
from console.facts import DeckError
from console.telemetry.sample import Sample
from screens import tour
from screens.flow import Flow, GoTo, ScreenContext, Stage
from screens.widgets.frame import HeaderLine, StepLine
from screens.widgets.keyline import KeyLine
from screens.widgets.tourline import TourLine

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
    Binding(
        "ctrl+o",
        "screen.jump",
        "Jump",
        show=False,
        priority=True,
        id="jump",
        tooltip="Put a letter on everything that can have the cursor, and go there",
    ),
    Binding(
        "alt+m",
        "app.monitor",
        "Monitor",
        show=False,
        priority=True,
        id="go.monitor",
        tooltip="GPUs, servers and processes over time",
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
    WORDS: ClassVar[tuple[str, ...]] = ()
    """Terms of the glossary that are met here; help explains them."""

    class Explained(Message):
        """The words of a step, for the guided tour."""

        def __init__(self, stage: Stage, terms: tuple[Term, ...]) -> None:
            super().__init__()
            self.stage = stage
            self.terms = terms

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
        self._left = False
        self._timers_of_ours: list[tuple[Timer, Callable[[], object]]] = []
        self._header = HeaderLine(context.hostname, context.clock)
        self._steps = StepLine(self.STAGE, flow)

    # -- the frame

    def compose(self) -> ComposeResult:
        yield self._header
        yield self._steps
        if self.flow.tour and self.stage is not Stage.HOME:
            yield TourLine()
        yield from self.body()
        yield KeyLine()

    def body(self) -> Iterable[Widget]:
        """The screen's own widgets, between the step line and the keys."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self.explain_step()
        if self.LIVE:
            self.every(self.desk.settings.screen.interval, self.sample)

    def every(self, seconds: float, ask: Callable[[], object], *, now: bool = True) -> None:
        """Ask now and again every `seconds`, while this screen is the one that is seen.

        A worker that still waits for its answer is let be: asked anew, its answer would be dropped, and
        one that takes longer than `seconds` would never come.
        """
        asked: object = None

        def again() -> None:
            nonlocal asked
            if not isinstance(asked, Worker) or asked.is_finished:
                asked = ask()

        if now:
            self.call_after_refresh(again)
        self._timers_of_ours.append((self.set_interval(seconds, again), again))

    def on_screen_suspend(self) -> None:
        self._left = True
        for timer, _ in self._timers_of_ours:
            timer.pause()

    def on_screen_resume(self) -> None:
        # Textual resumes a new screen too, which has just asked.
        if not self._left:
            return
        self._left = False
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

    def explain_step(self) -> None:
        """Say what this step is for, where the guided tour is on."""
        if line := self.query_one_optional(TourLine):
            line.at(self.stage)
            self._explain_words(self.stage)

    @work(thread=True, exclusive=True, exit_on_error=False, group="explain")
    def _explain_words(self, stage: Stage) -> None:
        found = (self.desk.explain(word) for word in tour.WORDS.get(stage, ()))
        self.tell(self.Explained(stage, tuple(term for term in found if term)))

    @on(Explained)
    def _explained(self, message: Explained) -> None:
        line = self.query_one_optional(TourLine)
        if line is not None and message.stage is self.stage:
            line.at(message.stage, message.terms)

    def words(self) -> tuple[tuple[str, bool], ...]:
        """Words that help explains here, and whether each is the name of a check."""
        met = tour.WORDS.get(self.stage, ()) if self.flow.tour else ()
        return tuple((word, False) for word in (*met, *self.WORDS))

    def commands(self) -> Iterable[tuple[str, Callable[[], object], str]]:
        """Entries of the palette beside those of the keys: "area: verb", call, help."""
        return ()

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
        from screens.error import ErrorScreen

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
        from screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self, self.desk, self.words()))

    def action_jump(self) -> None:
        from screens.jump import JumpScreen

        def chosen(widget: Widget | None) -> None:
            if widget is not None:
                widget.focus()

        self.app.push_screen(JumpScreen(self), chosen)

    def open_outside(self, program: Callable[[], list[str]], file: Path) -> bool:
        """Lend the terminal to a pager or an editor; whether it ended well."""
        from screens import outside

        return self.lend(lambda: outside.run(self.app, program(), file))

    def lend(self, use: Callable[[], None]) -> bool:
        """Let `use` have the terminal; whether it ended well."""
        try:
            use()
        except DeckError as error:
            self.show_error(error)
            return False
        return True

    def show_copy(self, title: str, *versions: tuple[str, str]) -> None:
        """Show text that `y` copies: (what it is, the text) each."""
        from screens.viewer import TextScreen

        self.app.push_screen(TextScreen(title, *versions))


_NOT_YET = {
    Stage.ROUTE: "Choose a checkpoint first (1)",
    Stage.OPTIONS: "Choose a checkpoint first (1)",
    Stage.CHECK: "Choose a checkpoint and a route first (1, 2)",
    Stage.BUILD: "Nothing has been started yet: go through Check (4)",
    Stage.SERVE: "No server yet: the build (5) starts one",
    Stage.TRY: "No server yet: the build (5) starts one",
}
