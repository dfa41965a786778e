"""Steps 2 and 3: choose a route, set its options, and see the script that they mean while typing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget

from console.checkpoints.model import Checkpoint, Format
from console.desk.desk import OptionField, OptionProblem, RouteView, Term
from console.facts import DeckError, Level
from console.planning.deployment import Deployment
from screens import outside
from screens.base import DeckScreen
from screens.confirm import ConfirmScreen
from screens.flow import Flow, ScreenContext, Stage
from screens.phrase import Phrase, join, lines, say
from screens.widgets.options import OptionsForm, explain
from screens.widgets.pathfield import CheckpointField
from screens.widgets.table import Column, DeckTable, Listing, Row
from screens.widgets.textview import TextView, fold
from screens.widgets.words import Words

_EMPTY = lines(say("No export backend is installed.", "bad"), say("tritondeck doctor says why."))

_EXPOSE = "server.expose"
_EXPOSED = lines(
    say("Triton asks nobody who they are: whoever reaches its ports can send requests and,"),
    say(
        "where model control is open, load and unload models. Loopback and an ssh tunnel are safe."
    ),
)


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


class Bound(Message):
    """Changed options: the deployment that they make, or what is wrong with them."""

    def __init__(self, deployment: Deployment, problems: tuple[OptionProblem, ...]) -> None:
        super().__init__()
        self.deployment = deployment
        self.problems = problems


class Scripted(Message):
    """The script, or why there is none yet."""

    def __init__(self, script: str, problem: DeckError | None = None) -> None:
        super().__init__()
        self.script = script
        self.problem = problem


class Saved(Message):
    """The deployment file was written."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path


class ScriptScreen(DeckScreen):
    """What can be done with the script and the file of a deployment that is being configured."""

    text = ""
    """The script as it was rendered last."""
    pending: dict[str, Any]
    """Changed fields that do not make a valid deployment yet."""

    def title_script(self, *words: Phrase) -> None:
        self.query_one("#script-title", Words).show(join(*words))

    @work(thread=True, exclusive=True, exit_on_error=False, group="script")
    def render_script(self, deployment: Deployment) -> None:
        try:
            self.tell(Scripted(self.desk.script(deployment)))
        except DeckError as error:
            # Shown in the script's own place: an option is being typed, a modal would interrupt.
            self.tell(Scripted("", error))

    @on(Scripted)
    def _scripted(self, message: Scripted) -> None:
        if message.problem is not None:
            text = f"# no script yet: {message.problem.title}\n# {message.problem.why}\n# {message.problem.fix}"
            self.query_one(TextView).show(text)
            return
        self.title_script(
            say("Script", "strong"),
            say(f"{message.script.count(chr(10))} lines, carried files folded", "dim"),
        )
        self.text = message.script
        self.query_one(TextView).show(fold(message.script))

    def action_copy(self) -> None:
        self.show_copy("The deployment as a shell script", ("script", self.text))

    def action_outside(self) -> None:
        with NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as file:
            file.write(self.text)
            file.flush()
            self.open_outside(outside.pager, Path(file.name))

    def action_save(self) -> None:
        if self.flow.deployment is not None and not self.pending:
            self._save(self.flow.deployment)

    @work(thread=True, exclusive=True, exit_on_error=False, group="save")
    def _save(self, deployment: Deployment) -> None:
        self.tell(Saved(str(self.desk.save(deployment))))

    @on(Saved)
    def _saved(self, message: Saved) -> None:
        self.notify(f"saved {message.path}", markup=False, timeout=4)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not (action == "save" and self.context.readonly)


class ConfigureScreen(ScriptScreen):
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
        self.pending: dict[str, Any] = {}
        self._terms: dict[str, Term] = {}
        self._enter_form = stage is Stage.OPTIONS

    def body(self) -> Iterable[Widget]:
        with Horizontal(id="configure"):
            with Vertical(id="configure-left"):
                yield Words(say("Route", "strong"), classes="title")
                yield Listing(
                    Column("ROUTE", 21), Column("WHAT IT DOES"), empty=_EMPTY, id="routes"
                )
                yield Words(id="route-note")
                yield Vertical(id="form")
                yield Words(id="option-help")
            with Vertical(id="configure-right"):
                yield Words(id="script-title", classes="title")
                yield TextView(id="script")

    def on_mount(self) -> None:
        self.query_one(Listing).table.focus()
        self.title_script(say("Script", "strong"), say("what this deployment runs", "dim"))
        self._ask_routes()
        if self.flow.deployment is not None:
            self._read(self.flow.deployment)

    # -- routes

    @work(thread=True, exclusive=True, exit_on_error=False, group="routes")
    def _ask_routes(self) -> None:
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
        self.move(replace(self.flow, deployment=message.deployment))
        self._terms = message.terms
        form = self.query_one("#form", Vertical)
        await form.remove_children()
        await form.mount(OptionsForm(message.fields, message.values))
        if self._enter_form or self.stage is Stage.OPTIONS:
            self._enter_form = False
            form_of = self.query_one(OptionsForm)
            form_of.focus_option(self.flow.option.removeprefix("options."))
        self.render_script(message.deployment)

    @on(CheckpointField.Wanted)
    def _look_for_role(self, message: CheckpointField.Wanted) -> None:
        self.go(Stage.CHECKPOINT, replace(self.flow, option=f"checkpoints.{message.role}"))

    @on(OptionsForm.Changed)
    def _changed(self, message: OptionsForm.Changed) -> None:
        if message.values.get(_EXPOSE) is True:
            self._confirm_exposure()
        self.pending.update(message.values)
        if self.flow.deployment is not None:
            self._bind(self.flow.deployment, dict(self.pending))

    def _confirm_exposure(self) -> None:
        def answered(yes: bool | None) -> None:
            if not yes:
                self.query_one(OptionsForm).turn_off(_EXPOSE)

        word = self.flow.deployment.name if self.flow.deployment else ""
        self.app.push_screen(
            ConfirmScreen("Let other machines reach the server", _EXPOSED, word), answered
        )

    @work(thread=True, exclusive=True, exit_on_error=False, group="bind")
    def _bind(self, deployment: Deployment, changes: dict[str, Any]) -> None:
        self.tell(Bound(*self.desk.with_options(deployment, changes)))

    @on(Bound)
    def _bound(self, message: Bound) -> None:
        self.query_one(OptionsForm).blame(message.problems)
        if message.problems:
            self.title_script(say("Script", "strong"), say("of the last valid options", "warn"))
            return
        self.pending.clear()
        before = self.flow.deployment
        self.move(replace(self.flow, deployment=message.deployment))
        if before is None or before.checkpoints != message.deployment.checkpoints:
            self._ask_routes()
        self.render_script(message.deployment)

    @on(OptionsForm.Focused)
    def _explain(self, message: OptionsForm.Focused) -> None:
        term = self._terms.get(message.option.name)
        self.query_one("#option-help", Words).show(explain(message.option, term))

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
        if self.pending:
            self.notify("An option is invalid: it is marked in the form", markup=False, timeout=4)
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
