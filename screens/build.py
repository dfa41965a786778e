"""Step 5: a run as its folder tells it: steps, memory, log. Leaving ends nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget

from console.runs.model import RunState, RunView, StepState, StepView
from console.telemetry.sample import Sample
from console.text import human_seconds
from screens import notice, outside, states
from screens.flow import Flow, ScreenContext, Stage
from screens.phrase import Phrase, join, lines, say
from screens.run_acts import RunActs
from screens.widgets.curve import Curve
from screens.widgets.logpane import LogPane
from screens.widgets.table import Column, DeckTable, Listing, Row
from screens.widgets.words import Words

_RETRY = (RunState.FAILED, RunState.CANCELLED, RunState.INTERRUPTED, RunState.ORPHANED)


class BuildScreen(RunActs):
    """One run: its steps, its memory over time, and the log of the step under the cursor."""

    STAGE = Stage.BUILD
    LIVE = True
    AREA = "build"
    WORDS = ("run", "step", "plan", "verification", "journal")
    HELP = (
        "The run goes on without this screen: leave with `q` or `esc` and come back when you like. "
        "The log shows the step under the cursor; the cursor follows the running step until you "
        "move it."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "forward", "To the server", id="forward", tooltip="Go on to Serve"),
        Binding(
            "enter",
            "build",
            "Build it",
            id="build.fetched",
            tooltip="Build what this run has fetched",
        ),
        Binding("y", "copy", "Copy", id="copy", tooltip="Show and copy the state of the run"),
        Binding("e", "outside", "Pager", show=False, id="edit", tooltip="The log in your pager"),
    ]

    class Followed(Message):
        """The run as it is now."""

        def __init__(self, view: RunView) -> None:
            super().__init__()
            self.view = view

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, BuildScreen.Followed)

    class Recorded(Message):
        """Memory figures so far."""

        def __init__(self, samples: tuple[Sample, ...]) -> None:
            super().__init__()
            self.samples = samples

    def __init__(self, context: ScreenContext, flow: Flow) -> None:
        super().__init__(context, flow)
        self._view: RunView | None = None
        self._samples: tuple[Sample, ...] = ()
        self._current = ""

    def body(self) -> Iterable[Widget]:
        yield Words(id="build-title", classes="title")
        with Horizontal(id="build-top"):
            yield Listing(
                Column("STEP"),
                Column("STATE", 13),
                Column("TIME", 11, right=True),
                empty=say("Reading the run …", "dim"),
                id="steps",
            )
            with Vertical(id="build-right"):
                yield Curve(id="curve")
                yield Words(id="step-detail")
        yield LogPane(id="log")

    def on_mount(self) -> None:
        self.query_one(Listing).table.focus()
        self.every(0.5, self.follow)
        self.every(2.0, self.record)

    # -- following the run

    @work(thread=True, exclusive=True, exit_on_error=False, group="run")
    def follow(self) -> None:
        view = self.desk.run(self.flow.run)
        if view != self._view:
            self.tell(self.Followed(view))

    @work(thread=True, exclusive=True, exit_on_error=False, group="telemetry")
    def record(self) -> None:
        if self._view is None or self._view.active or not self._samples:
            self.tell(self.Recorded(self.desk.telemetry(self.flow.run)))

    @on(Recorded)
    def _recorded(self, message: Recorded) -> None:
        self._samples = message.samples
        self._draw_curve()

    def _draw_curve(self) -> None:
        if self._view is not None:
            self.query_one(Curve).show(self._samples, self._view.steps)

    @on(Followed)
    def _followed(self, message: Followed) -> None:
        before, view = self._view, message.view
        self._view = view
        if before is not None and before.active and not view.active:
            self._ended(view)
        self.move(
            replace(self.flow, name=view.deployment, service=view.service or self.flow.service)
        )
        self.query_one("#build-title", Words).show(_title(view))
        # On a small terminal the reason is worth more than the curve.
        self.set_class(bool(view.error), "-failed")
        listing = self.query_one(Listing)
        listing.show([Row(step.id, _cells(step)) for step in view.steps])
        self._follow_step(view)
        self._draw_curve()
        self._show_step()
        self.refresh_keys()

    def _ended(self, view: RunView) -> None:
        if not _fetched(view):
            notice.ended(self.app, self.desk.settings.notify, view)
        elif not self.context.readonly:
            self.build_fetched()

    def _follow_step(self, view: RunView) -> None:
        """Move the cursor with the run, unless the reader has moved it off the running step."""
        table = self.query_one(Listing).table
        now = _interesting(view)
        if now != self._current and table.chosen in (
            "",
            self._current,
            view.steps[0].id if view.steps else "",
        ):
            table.choose(now)
        self._current = now

    @property
    def chosen(self) -> StepView | None:
        chosen = self.query_one(Listing).table.chosen
        return next((s for s in (self._view.steps if self._view else ()) if s.id == chosen), None)

    @on(DeckTable.RowHighlighted)
    def _show_step(self) -> None:
        step = self.chosen
        if step is None or self._view is None:
            return
        self.query_one("#step-detail", Words).show(_step_detail(step, self._view))
        self.query_one(LogPane).open(step.id, step.log)

    # -- acting on it

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        view = self._view
        if action == "cancel":
            return bool(view and view.active and not self.context.readonly)
        if action == "retry":
            return bool(view and view.state in _RETRY and not self.context.readonly)
        if action == "build":
            return bool(view and _fetched(view) and not self.context.readonly)
        if action == "forward":
            return bool(self.flow.service and not (view and view.fetches_only))
        return True

    @on(DeckTable.RowSelected)
    def _selected(self) -> None:
        if self.check_action("build", ()):
            self.action_build()
        else:
            self.action_forward()

    def action_forward(self) -> None:
        if self.check_action("forward", ()):
            self.go(Stage.SERVE)

    @on(RunActs.Continued)
    def _continued(self, message: RunActs.Continued) -> None:
        self.move(replace(self.flow, run=message.run))
        self._current, self._samples = "", ()
        self.follow()

    def action_back(self) -> None:
        self.go(Stage.HOME)

    def action_outside(self) -> None:
        if self.chosen is not None and self.chosen.log is not None:
            self.open_outside(outside.pager, self.chosen.log)

    def action_copy(self) -> None:
        if self._view is not None:
            self.show_copy("The run", ("state", _report(self._view)))


def _fetched(view: RunView) -> bool:
    """Whether it has brought everything here, and another run is to build it."""
    return view.fetches_only and view.state is RunState.SUCCEEDED


def _interesting(view: RunView) -> str:
    """The step to look at: the running one, else the one that failed, else the last that ran."""
    for wanted in (StepState.RUNNING, StepState.FAILED, StepState.CANCELLED):
        for step in view.steps:
            if step.state is wanted:
                return step.id
    ran = [step.id for step in view.steps if step.state is not StepState.PENDING]
    return ran[-1] if ran else ""


def _title(view: RunView) -> Phrase:
    leave = "you may leave: it goes on without you" if view.active else ""
    if view.fetches_only and view.active:
        leave = "stay and the build follows by itself; leave and it waits for you"
    return join(
        say(view.deployment, "strong"),
        say(f"run {view.number}"),
        states.run(view),
        say(human_seconds(int(view.elapsed) if view.active else view.elapsed)),
        say(leave, "dim"),
    )


def _cells(step: StepView) -> tuple[Phrase, ...]:
    quiet = step.state in (StepState.PENDING, StepState.SKIPPED)
    when = say("" if step.elapsed is None else _time(step), "dim")
    state = states.step(step.state)
    if step.state is StepState.RUNNING and step.fraction is not None:
        state = say(f"{states.bar(step.fraction, 7)} {step.fraction:>4.0%}", "accent")
    return (say(step.title, "dim" if quiet else ""), state, when)


def _time(step: StepView) -> str:
    assert step.elapsed is not None
    running = step.state is StepState.RUNNING
    return human_seconds(int(step.elapsed) if running and step.elapsed >= 1 else step.elapsed)


def _step_detail(step: StepView, view: RunView) -> Phrase:
    """What the step under the cursor is for, what it says now, and how the run ended."""
    said: list[Phrase] = [say(step.why, "dim")]
    if step.message and step.state is StepState.RUNNING:
        said.append(say(step.message))
    if step.reason:
        said.append(say(step.reason, "bad" if step.state is StepState.FAILED else ""))
    if step.fix:
        said.append(say(f"→ {step.fix}", "accent"))
    # The run's own reason repeats that of the step that failed.
    if view.error and not (step.state is StepState.FAILED and step.reason):
        said.append(say(view.error, "bad"))
        said.append(say(f"→ {view.fix}" if view.fix else "", "accent"))
    if _fetched(view):
        said.append(say("what came is planned and built by a run of its own", "dim"))
    elif view.state is RunState.SUCCEEDED:
        said.append(
            join(say("answer", "dim"), say(f"“{view.answer}”", "ok"))
            if view.answer
            else say("verified", "ok")
        )
    return lines(*(phrase for phrase in said if phrase))


def _report(view: RunView) -> str:
    head = f"{view.deployment} run {view.number}: {view.state.value} after {human_seconds(view.elapsed)}"
    rows = [
        f"  {s.state.value:10}{s.title}  {'' if s.elapsed is None else human_seconds(s.elapsed)}"
        f"  {s.reason}".rstrip()
        for s in view.steps
    ]
    ends = [f"error: {view.error}", f"fix: {view.fix}"] if view.error else []
    return "\n".join([head, *rows, *ends, *([f"answer: {view.answer}"] if view.answer else [])])
