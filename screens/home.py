"""Home: deployments with their runs and servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from console.desk.desk import DeploymentView
from console.facts import DeckError
from console.runs.model import RunState
from console.services.model import ServiceState
from console.text import human_seconds
from screens import notice, states, tour
from screens.acts import CHANGING, DeploymentActs
from screens.flow import Flow, ScreenContext, Stage
from screens.phrase import Phrase, join, lines, say
from screens.widgets.table import Column, DeckTable, Listing, Row
from screens.widgets.words import Words

if TYPE_CHECKING:
    from console.desk.attached import AttachedServer
    from console.planning.deployment import Deployment

_EMPTY = lines(
    say("Nothing has been deployed from here yet.", "strong"),
    join(
        say("A deployment takes a checkpoint to a served, tested model. Press"),
        say("n", "accent"),
        say("to choose a checkpoint."),
        between=" ",
    ),
    say(""),
    join(
        say("t", "accent"),
        say(
            "is a guided tour: a small real model, from its file to the right words. It explains "
            "each step and each word where it stands, and needs neither a GPU nor a checkpoint."
        ),
        between=" ",
    ),
    say(""),
    join(
        say("d", "accent"), say("looks at what this machine has and what is missing."), between=" "
    ),
)


class HomeScreen(DeploymentActs):
    """Deployments, runs and servers with their state."""

    STAGE = Stage.HOME
    LIVE = True
    AREA = "home"
    WORDS = ("deployment", "run", "checkpoint", "backend", "server")
    HELP = (
        "Home lists every deployment with its last run and its server. `enter` opens it where it "
        "is: its build while it runs, its server while it serves, its checks otherwise."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", id="home.open", tooltip="Open the chosen deployment"),
        Binding("n", "new", "New", id="home.new", tooltip="New deployment from a checkpoint"),
        Binding("o", "edit", "Options", id="home.options", tooltip="Change its options"),
        Binding(
            "x",
            "forget",
            "Forget",
            show=False,
            id="home.forget",
            tooltip="Forget it, with its runs",
        ),
        Binding(
            "m",
            "app.monitor",
            "Monitor",
            id="home.monitor",
            tooltip="GPUs, servers and processes over time",
        ),
        Binding("d", "doctor", "Doctor", id="home.doctor", tooltip="Check this machine"),
        Binding(
            "t",
            "tour",
            "Tour",
            show=False,
            id="home.tour",
            tooltip="A guided tour: each step explained on a small real model",
        ),
    ]

    class Listed(Message):
        """The deployments and the attached servers as they are now."""

        def __init__(
            self,
            views: tuple[DeploymentView, ...],
            attached: tuple[AttachedServer, ...],
            problem: DeckError | None,
        ) -> None:
            super().__init__()
            self.views = views
            self.attached = attached
            self.problem = problem
            """Why the attached servers could not be read."""

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
        self._attached: dict[str, AttachedServer] = {}
        self._problem: DeckError | None = None

    def body(self) -> Iterable[Widget]:
        yield Words(say("Deployments", "strong"), classes="title")
        yield Listing(
            Column("STATE", 14),
            Column("NAME", 14),
            Column("CHECKPOINT"),
            Column("ROUTE", 18, least=100),
            Column("SERVER", 15),
            Column("SINCE", 6, right=True),
            empty=_EMPTY,
            id="deployments",
        )
        yield Words(id="home-detail")

    def on_mount(self) -> None:
        self.query_one(Listing).table.focus()
        # Not in a worker: there is no screen yet that could be kept waiting, and a list that comes
        # after it would be drawn, and laid out, a second time.
        views = self.desk.glance()
        self._show(views)
        # What servers say and whether files are right takes imports: the first paint does not wait.
        self.every(2.0, self.load, now=not all(view.seen for view in views))

    @work(thread=True, exclusive=True, exit_on_error=False, group="deployments")
    def load(self) -> None:
        attached: tuple[AttachedServer, ...] = ()
        problem = None
        try:
            attached = self.desk.attached()
        except DeckError as error:
            problem = error  # A row says so; a modal every two seconds would not.
        self.tell(self.Listed(self.desk.deployments(), attached, problem))

    @on(Listed)
    def _listed(self, message: Listed) -> None:
        self._tell_ends(message.views)
        self._attached = {f"{_ATTACHED}{server.name}": server for server in message.attached}
        self._problem = message.problem
        self._show(message.views)

    def _show(self, views: tuple[DeploymentView, ...]) -> None:
        self._views = {view.name: view for view in views}
        now = self.context.clock()
        rows = [Row(v.name, _cells(v, now, v.name == self.marked)) for v in views]
        rows += [Row(key, _attached_cells(server)) for key, server in self._attached.items()]
        if self._problem is not None:
            wrong = (
                say("✕ unreadable", "bad"),
                say("attached", "strong"),
                say(self._problem.title),
            )
            rows.append(Row(_ATTACHED, (*wrong, Phrase(), Phrase(), Phrase())))
        self.query_one(Listing).show(rows)
        self.set_class(not rows, "-nothing")
        self._divide()
        self.refresh_keys()

    @on(DeckTable.Resized)
    def _divide(self) -> None:
        # A short list has what it is about right below it; a long one takes the room that there is.
        rows = self.query_one(Listing).table.row_count
        self.set_class(rows > self.app.size.height // 2 - 3, "-long")
        self._detail()

    def _tell_ends(self, views: tuple[DeploymentView, ...]) -> None:
        """Say which runs have ended since the last look."""
        for view in views:
            before = self._views.get(view.name)
            if before and before.run and before.run.active and view.run:
                notice.ended(self.app, self.desk.settings.notify, view.run)

    @on(DeckTable.RowHighlighted)
    def _detail(self) -> None:
        view = self.chosen
        shown = _detail(view, self.size.width - 2) if view else self._attached_detail()
        if view and not self.has_class("-long"):
            shown = lines(shown, *_more(view, self._room - len(shown.lines())))
        self.query_one("#home-detail", Words).show(shown)

    @property
    def _room(self) -> int:
        """Lines between the list and the keys, where the list is short."""
        around = 6 if self.has_class("-short") else 8
        return self.size.height - around - self.query_one(Listing).table.row_count

    def _attached_detail(self) -> Phrase:
        if server := self._attached.get(self._key):
            may = (
                "its models may be loaded and unloaded" if server.control else "it is only watched"
            )
            what = say(f"Somebody else's server: {may}.")
            return lines(what, say("enter shows its models; m shows its figures", "dim"))
        if self._key == _ATTACHED and self._problem is not None:
            return lines(say(self._problem.why, "bad"), say(self._problem.fix, "accent"))
        return Phrase()

    @property
    def _key(self) -> str:
        return self.query_one(Listing).table.chosen

    @property
    def chosen(self) -> DeploymentView | None:
        return self._views.get(self._key)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "open":
            return bool(self._views or self._attached)
        if action in CHANGING:
            return self.chosen is not None and not self.context.readonly
        if action in ("edit", "mark", "compare"):
            return self.chosen is not None
        return action != "back"

    @on(DeckTable.RowSelected)
    def _selected(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        if view := self.chosen:
            self._open(view.name)
        elif server := self._attached.get(self._key):
            self.go(Stage.SERVE, Flow(name=server.name, service=self._key))

    def action_edit(self) -> None:
        if view := self.chosen:
            self._open(view.name, Stage.OPTIONS)

    @work(thread=True, exclusive=True, exit_on_error=False, group="open")
    def _open(self, name: str, stage: Stage | None = None) -> None:
        deployment = self.desk.open(name)
        # As it is now: the list may be two seconds old, or not have asked yet.
        for view in self.desk.deployments():
            if view.name == name:
                self.tell(self.Opened(stage or _destination(view), deployment, view))

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

    def action_tour(self) -> None:
        self.go(Stage.CHECKPOINT, tour.begin())

    def commands(self) -> Iterable[tuple[str, Callable[[], object], str]]:
        for view in self._views.values():
            yield f"deployment: open {view.name}", partial(self._open, view.name), view.checkpoint


_ATTACHED = "attached:"
"""Before an attached server's name, as `Desk.server` takes it."""


def _more(view: DeploymentView, room: int) -> list[Phrase]:
    """Where it stands: its files and its server; then, where there is room, its last run's steps."""
    first, steps = list(_facts(view)), list(_steps(view))
    if len(first) > room:
        return []
    return first + steps if len(first) + len(steps) <= room else first


def _facts(view: DeploymentView) -> Iterable[Phrase]:
    facts = [("checkpoint", view.checkpoint)] if view.checkpoint else []
    facts.append(("file", str(view.file)))
    if view.service is not None and view.service.state is ServiceState.RUNNING:
        facts.append(("server", f"{view.service.endpoint.url}  {' '.join(view.service.models)}"))
    yield say("")
    for label, value in facts:
        yield say(label, "dim").fit(14) + say(value)


def _steps(view: DeploymentView) -> Iterable[Phrase]:
    """The last run's steps with their times."""
    if view.run is None:
        return
    yield say("")
    number = say(f"run {view.run.number}", "dim").fit(14)
    whole = say(human_seconds(view.run.elapsed), "dim").fit(12, right=True)
    yield number + states.run(view.run).fit(14) + whole
    for step in view.run.steps:
        took = "" if step.elapsed is None else human_seconds(step.elapsed)
        when = say(took, "dim").fit(12, right=True)
        yield say("").fit(14) + states.step(step.state).fit(14) + when + say(f"  {step.title}")


def _destination(view: DeploymentView) -> Stage:
    if view.run is not None and view.run.active:
        return Stage.BUILD
    if view.service is not None and view.service.living:
        return Stage.SERVE
    if view.run is not None and (view.run.state is not RunState.SUCCEEDED or view.run.fetches_only):
        return Stage.BUILD
    return Stage.CHECK


def _cells(view: DeploymentView, now: float, marked: bool = False) -> tuple[Phrase, ...]:
    server = Phrase()
    if view.service is not None and view.service.state is ServiceState.RUNNING:
        server = say(f"{view.service.launcher} :{view.service.endpoint.url.rpartition(':')[2]}")
    started = view.service.started if server and view.service else 0.0
    started = started or (view.run.started if view.run else 0.0)
    return (
        states.deployment(view),
        say(f"{view.name} ▸" if marked else view.name, "accent" if marked else "strong"),
        say(Path(view.checkpoint).name),
        say(view.backend),
        server or say("–" if view.seen else "…", "dim"),
        say(_ago(now - started) if started else "–", "dim"),
    )


def _attached_cells(server: AttachedServer) -> tuple[Phrase, ...]:
    place = server.url.rpartition(":")[2].rstrip("/")
    return (
        say("◇ attached", "dim"),
        say(server.name, "strong"),
        say(server.url, "dim"),
        say("–", "dim"),
        say(f"{server.kind} :{place}" if place.isdigit() else server.kind),
        say("–", "dim"),
    )


def _ago(seconds: float) -> str:
    """Coarse on purpose: a list that shows seconds would be redrawn every second."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return "now"


def _detail(view: DeploymentView, width: int) -> Phrase:
    """Two lines about the row under the cursor: what it is doing, or why it failed and what next."""
    if view.problem:
        return lines(say(view.problem, "bad"), say(f"edit {view.file}", "dim"))
    if view.trouble:
        told = say(view.trouble, "bad").fit(width)
        return lines(told, say("enter shows its server and its log", "dim"))
    if not view.seen:
        return lines(Phrase(), Phrase())
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
    if run.fetches_only:
        return lines(say("Fetched, not built yet."), say("enter goes on to the build", "dim"))
    answer = join(say("verified", "ok"), say(f"“{run.answer}”" if run.answer else ""))
    return lines(
        answer.fit(width), say(time.strftime("run %d %b %H:%M", time.localtime(run.started)), "dim")
    )
