"""Steps 2 and 3: choose a route, set its options, and see the script that they mean while typing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget

from console.checkpoints.model import Checkpoint, Format
from console.desk.desk import OptionField, RouteView, Term
from console.facts import Level
from console.planning.deployment import Deployment
from screens.flow import Flow, ScreenContext, Stage
from screens.formed import FormScreen
from screens.phrase import Phrase, join, lines, say
from screens.widgets.options import OptionsForm
from screens.widgets.parallelism import Parallelism
from screens.widgets.pathfield import CheckpointField
from screens.widgets.table import Column, DeckTable, Listing, Row
from screens.widgets.textview import TextView
from screens.widgets.words import Words

_EMPTY = lines(say("No export backend is installed.", "bad"), say("tritondeck doctor says why."))


class Routed(Message):
    """What routes there are for the checkpoint."""

    def __init__(self, checkpoint: Checkpoint, routes: tuple[RouteView, ...]) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.routes = routes


class Drafted(Message):
    """A deployment for a route, with the fields of its form."""

    def __init__(
        self,
        deployment: Deployment,
        fields: tuple[OptionField, ...],
        values: dict[str, Any],
        terms: dict[str, Term],
    ) -> None:
        super().__init__()
        self.deployment = deployment
        self.fields = fields
        self.values = values
        self.terms = terms


class ConfigureScreen(FormScreen):
    """Routes and options on the left, the live script on the right (below on narrow terminals)."""

    STAGE = Stage.ROUTE
    AREA = "configure"
    WORDS = ("backend", "plan", "environment")
    HELP = (
        "Choose the route that this checkpoint takes, then set its options. The script shows what "
        "the deployment will run; it works without tritondeck."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter", "forward", "Next", id="forward", tooltip="Take this route, or go on to Check"
        ),
        Binding(
            "ctrl+n",
            "check",
            "Check",
            id="configure.check",
            tooltip="Go on to Check, from anywhere",
        ),
        Binding("ctrl+s", "save", "Save", id="configure.save", tooltip="Save the deployment"),
        Binding("y", "copy", "Copy script", id="copy", tooltip="Show and copy the script"),
        Binding("e", "outside", "Pager", show=False, id="edit", tooltip="The script in your pager"),
    ]

    def __init__(self, context: ScreenContext, flow: Flow, stage: Stage = Stage.ROUTE) -> None:
        super().__init__(context, flow)
        self.stage = stage
        self._routes: dict[str, RouteView] = {}
        self._enter_form = stage is Stage.OPTIONS

    def body(self) -> Iterable[Widget]:
        with Horizontal(id="configure"):
            with Vertical(id="configure-left"):
                yield Words(say("Route", "strong"), classes="title")
                yield Listing(
                    Column("ROUTE", 21), Column("WHAT IT DOES"), empty=_EMPTY, id="routes"
                )
                yield Words(id="route-note")
                yield Parallelism()
                yield Vertical(id="form")
                yield Words(id="option-help")
            with Vertical(id="configure-right"):
                yield Words(id="script-title", classes="title")
                yield TextView(id="script")

    def on_mount(self) -> None:
        self.query_one(Listing).table.focus()
        self.title_script(say("Script", "strong"), say("what this deployment runs", "dim"))
        self.ask_routes()
        if self.flow.deployment is not None:
            self._read(self.flow.deployment)

    # -- routes

    @work(thread=True, exclusive=True, exit_on_error=False, group="routes")
    def ask_routes(self) -> None:
        checkpoint, deployment = self.flow.checkpoint, self.flow.deployment
        if deployment is None:
            assert checkpoint is not None, "the step line lets nobody in without one"
            found = {"model": checkpoint}
        else:
            found = {r: self.desk.inspect(Path(p)) for r, p in deployment.checkpoints.items()}
            checkpoint = found.get("model") or next(iter(found.values()))
        self.tell(Routed(checkpoint, self.desk.routes(found)))

    @on(Routed)
    def _routed(self, message: Routed) -> None:
        self._routes = {route.name: route for route in message.routes}
        self.move(replace(self.flow, checkpoint=message.checkpoint))
        listing = self.query_one(Listing)
        listing.show([Row(r.name, _route_cells(r, self._unknown)) for r in message.routes])
        if self.flow.deployment is not None:
            listing.table.choose(self.flow.deployment.backend)
        self._route_note()

    @property
    def _unknown(self) -> bool:
        """Whether the checkpoint's facts come only with its fetch."""
        checkpoint = self.flow.checkpoint
        return checkpoint is not None and checkpoint.format is Format.HUB

    @on(DeckTable.RowHighlighted, "#routes-table")
    def _route_note(self) -> None:
        route = self._routes.get(self.query_one(Listing).table.chosen)
        note = Phrase()
        if route is not None:
            fix = say(route.verdict.fix, "accent")
            note = join(
                say(route.verdict.summary, "dim"), fix, say(route.origin, "dim"), between=" · "
            )
            drafted = self.flow.deployment
            if _takes(route, self._unknown) and (drafted is None or drafted.backend != route.name):
                self._draft(route.name)
        self.query_one("#route-note", Words).show(note)

    # -- the draft and its form

    @work(thread=True, exclusive=True, exit_on_error=False, group="draft")
    def _draft(self, backend: str) -> None:
        assert self.flow.checkpoint is not None, "routes were asked for a checkpoint"
        name = self.flow.deployment.name if self.flow.deployment else ""
        self._tell_draft(self.desk.draft(self.flow.checkpoint.path, backend, name))

    @work(thread=True, exclusive=True, exit_on_error=False, group="draft")
    def _read(self, deployment: Deployment) -> None:
        self._tell_draft(deployment)

    def _tell_draft(self, deployment: Deployment) -> None:
        fields = self.desk.form_fields(deployment)
        found = {f.name: self.desk.explain(f.name.rpartition(".")[2]) for f in fields}
        terms = {name: term for name, term in found.items() if term is not None}
        self.tell(Drafted(deployment, fields, self.desk.form_values(deployment), terms))

    @on(Drafted)
    async def _drafted(self, message: Drafted) -> None:
        self.terms = message.terms
        await self.begin(message.deployment, message.fields, message.values)
        if self._enter_form or self.stage is Stage.OPTIONS:
            self._enter_form = False
            form_of = self.query_one(OptionsForm)
            form_of.focus_option(self.flow.option.removeprefix("options."))
        self.follow(message.deployment)

    @on(CheckpointField.Wanted)
    def _look_for_role(self, message: CheckpointField.Wanted) -> None:
        self.go(Stage.CHECKPOINT, replace(self.flow, option=f"checkpoints.{message.role}"))

    # -- onward

    @on(DeckTable.RowSelected, "#routes-table")
    def _route_taken(self) -> None:
        route = self._routes.get(self.query_one(Listing).table.chosen)
        if route is not None and not _takes(route, self._unknown):
            self.notify(f"{route.name} does not take this checkpoint", markup=False, timeout=4)
        elif form := self.query_one_optional(OptionsForm):
            form.focus_option()

    def action_forward(self) -> None:
        if self.stage is Stage.ROUTE:
            self._route_taken()
        else:
            self.action_check()

    def action_check(self) -> None:
        if self.invalid:
            self.notify("An option is invalid: it is marked in the form", markup=False, timeout=4)
        elif self.pending:
            self.take_over()
            self.notify("What was typed is taken over: now once more", markup=False, timeout=4)
        elif self.flow.deployment is not None:
            self.go(Stage.CHECK, replace(self.flow, option=""))

    def action_stage(self, number: int) -> None:
        if number == Stage.ROUTE:
            self.query_one(Listing).table.focus()
        elif number == Stage.OPTIONS and (form := self.query_one_optional(OptionsForm)):
            form.focus_option()
        elif number == Stage.CHECK:
            self.action_check()
        else:
            super().action_stage(number)

    def on_descendant_focus(self) -> None:
        form = self.query_one_optional(OptionsForm)
        inside = form is not None and form.has_focus_within
        self.stage = Stage.OPTIONS if inside else Stage.ROUTE
        self._steps.show(self.stage, self.flow)
        self.explain_step()

    def action_back(self) -> None:
        if self.stage is Stage.OPTIONS:
            self.query_one(Listing).table.focus()
        else:
            self.go(Stage.CHECKPOINT)

    def words(self) -> tuple[tuple[str, bool], ...]:
        form = self.query_one_optional(OptionsForm)
        option = form.current if form else ""
        return (*(((option, False),) if option else ()), *super().words())

    def commands(self) -> Iterable[tuple[str, Callable[[], object], str]]:
        if (form := self.query_one_optional(OptionsForm)) is None:
            return
        for option in form.options:
            words = f"option: {option.group.lower()}, {option.title.lower()}"
            yield words, partial(form.focus_option, option.name), option.help


def _takes(route: RouteView, unknown: bool = False) -> bool:
    """Whether it can be chosen; `unknown`: also where nothing is known of the checkpoint yet."""
    level = route.verdict.level
    return level in (Level.PASS, Level.WARN) or (unknown and level is Level.UNKNOWN)


def _route_cells(route: RouteView, unknown: bool) -> tuple[Phrase, ...]:
    if _takes(route):
        return (say(f"✓ {route.name}", "ok"), say(route.title))
    if _takes(route, unknown):
        return (say(f"? {route.name}", "warn"), say(route.title))
    return (say(f"✕ {route.name}", "dim"), say(route.title, "dim"))
