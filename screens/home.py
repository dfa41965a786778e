"""Home: deployments with their runs and servers."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import DataTable

from console.desk.desk import DeploymentView
from console.planning.deployment import Deployment
from console.runs.model import RunState
from console.services.model import ServiceState
from console.text import human_seconds
from screens import states
from screens.base import DeckScreen
from screens.confirm import ConfirmScreen
from screens.flow import Flow, ScreenContext, Stage
from screens.phrase import Phrase, join, lines, say
from screens.widgets.table import Column, Listing, Row
from screens.widgets.words import Words

_EMPTY = lines(
    say("Nothing has been deployed from here yet.", "strong"),
    join(
        say("A deployment takes a checkpoint to a served, tested model. Press"),
        say("n", "accent"),
        say("to choose a checkpoint."),
        between=" ",
    ),
)


class HomeScreen(DeckScreen):
    """Deployments, runs and servers with their state."""

    STAGE = Stage.HOME
    LIVE = True
    AREA = "home"
    HELP = (
        "Home lists every deployment with its last run and its server. `enter` opens it where it "
        "is: its build while it runs, its server while it serves, its checks otherwise."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", id="home.open", tooltip="Open the chosen deployment"),
        Binding("n", "new", "New", id="home.new", tooltip="New deployment from a checkpoint"),
        Binding("o", "edit", "Options", id="home.options", tooltip="Change its options"),
        Binding("d", "doctor", "Doctor", id="home.doctor", tooltip="Check this machine"),
        Binding("x", "forget", "Forget", id="home.forget", tooltip="Forget it, with its runs"),
    ]

    class Listed(Message):
        """The deployments as they are now."""

        def __init__(self, views: tuple[DeploymentView, ...]) -> None:
            super().__init__()
            self.views = views

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, HomeScreen.Listed)

    class Opened(Message):
        """A deployment was read; where to go with it."""

        def __init__(self, stage: Stage, deployment: Deployment, view: DeploymentView) -> None:
            super().__init__()
            self.stage = stage
            self.deployment = deployment
            self.view = view

    def __init__(self, context: ScreenContext, flow: Flow) -> None:
        super().__init__(context, flow)
        self._views: dict[str, DeploymentView] = {}

    def body(self) -> Iterable[Widget]:
        yield Words(say("Deployments", "strong"), classes="title")
        yield Listing(
            Column("STATE", 15),
            Column("NAME", 14),
            Column("CHECKPOINT"),
            Column("ROUTE", 18, least=100),
            Column("SERVER", 15),
            Column("SINCE", 8, right=True),
            empty=_EMPTY,
            id="deployments",
        )
        yield Words(id="home-detail")

    def on_mount(self) -> None:
        self.query_one(Listing).table.focus()
        self.every(2.0, self.load)

    @work(thread=True, exclusive=True, exit_on_error=False, group="deployments")
    def load(self) -> None:
        self.tell(self.Listed(self.desk.deployments()))

    @on(Listed)
    def _listed(self, message: Listed) -> None:
        self._views = {view.name: view for view in message.views}
        now = self.context.clock()
        self.query_one(Listing).show([Row(v.name, _cells(v, now)) for v in message.views])
        self._detail()
        self.refresh_keys()

    @on(DataTable.RowHighlighted)
    def _detail(self) -> None:
        view = self._chosen
        shown = _detail(view, self.size.width - 4) if view else Phrase()
        self.query_one("#home-detail", Words).show(shown)

    @property
    def _chosen(self) -> DeploymentView | None:
        return self._views.get(self.query_one(Listing).table.chosen)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("open", "edit"):
            return bool(self._views)
        if action == "forget":
            return bool(self._views) and not self.context.readonly
        return action != "back"

    @on(DataTable.RowSelected)
    def _selected(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        if view := self._chosen:
            self._open(_destination(view), view)

    def action_edit(self) -> None:
        if view := self._chosen:
            self._open(Stage.OPTIONS, view)

    @work(thread=True, exclusive=True, exit_on_error=False, group="open")
    def _open(self, stage: Stage, view: DeploymentView) -> None:
        self.tell(self.Opened(stage, self.desk.open(view.name), view))

    @on(Opened)
    def _opened(self, message: Opened) -> None:
        view = message.view
        flow = Flow(
            folder=str(Path(view.checkpoint).parent) if view.checkpoint else "",
            deployment=message.deployment,
            name=view.name,
            run=view.run.id if view.run else "",
            service=view.service.id if view.service else "",
        )
        self.go(message.stage, flow)

    def action_new(self) -> None:
        self.go(Stage.CHECKPOINT, Flow(folder=self.flow.folder))

    def action_doctor(self) -> None:
        self.go(Stage.CHECK, Flow())

    def action_forget(self) -> None:
        if not (view := self._chosen):
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
        self.tell(self.Listed(self.desk.deployments()))


def _destination(view: DeploymentView) -> Stage:
    if view.run is not None and view.run.active:
        return Stage.BUILD
    if view.service is not None and view.service.state is ServiceState.RUNNING:
        return Stage.SERVE
    if view.run is not None and view.run.state is not RunState.SUCCEEDED:
        return Stage.BUILD
    return Stage.CHECK


def _cells(view: DeploymentView, now: float) -> tuple[Phrase, ...]:
    server = Phrase()
    if view.service is not None and view.service.state is ServiceState.RUNNING:
        server = say(f"{view.service.launcher} :{view.service.endpoint.url.rpartition(':')[2]}")
    started = view.service.started if server and view.service else 0.0
    started = started or (view.run.started if view.run else 0.0)
    return (
        states.deployment(view),
        say(view.name, "strong"),
        say(Path(view.checkpoint).name),
        say(view.backend),
        server or say("–", "dim"),
        say(_ago(now - started) if started else "–", "dim"),
    )


def _ago(seconds: float) -> str:
    """Coarse on purpose: a list that shows seconds would be redrawn every second."""
    if seconds < 60:
        return "just now"
    return human_seconds(seconds // 60 * 60) if seconds < 86400 else f"{seconds // 86400:.0f} d"


def _detail(view: DeploymentView, width: int) -> Phrase:
    """Two lines about the row under the cursor: what it is doing, or why it failed and what next."""
    if view.problem:
        return lines(say(view.problem, "bad"), say(f"edit {view.file}", "dim"))
    if view.run is None:
        return lines(
            say("Not built yet.", "dim"), say("enter checks it and starts the build", "dim")
        )
    run = view.run
    if current := run.current:
        head = join(
            say(current.title, "accent"),
            say(states.bar(current.fraction)) if current.fraction is not None else Phrase(),
            say(f"{current.fraction:.0%}") if current.fraction is not None else Phrase(),
            say(current.message, "dim"),
        )
        return lines(head.fit(width), say("enter follows it", "dim"))
    if run.error:
        return lines(say(run.error, "bad").fit(width), say(run.fix, "accent").fit(width))
    answer = join(say("verified", "ok"), say(f"“{run.answer}”" if run.answer else ""))
    return lines(
        answer.fit(width), say(time.strftime("run %d %b %H:%M", time.localtime(run.started)), "dim")
    )
