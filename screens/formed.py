"""The form of a deployment: changed options are bound, judged here and now, and explained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from textual import events, on, work
from textual.containers import Vertical
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input

from console.desk.desk import OptionField, OptionProblem, Term
from console.facts import DeckError, Verdict
from console.planning.deployment import Deployment
from console.planning.parallelism import ParallelismView
from screens.confirm import ConfirmScreen
from screens.flow import Flow, ScreenContext
from screens.phrase import lines, say
from screens.script import ScriptScreen
from screens.widgets.options import OptionsForm, explain
from screens.widgets.parallelism import Parallelism
from screens.widgets.words import Words

_PAUSE = 0.3
"""Seconds without a key before ports, engines and images are looked at."""
_WHOLE = frozenset({"server.url"})
"""Options that count when their field is left: what is there is asked, with the token, and half an
address may be somebody else's."""
_EXPOSE = "server.expose"
_EXPOSED = say(
    "Triton asks nobody who they are: whoever reaches its ports can send requests and, where model "
    "control is open, load and unload models. Loopback and an ssh tunnel are safe."
)


class Bound(Message):
    """Changed options: the deployment that they make with its form, or what is wrong with them."""

    def __init__(
        self,
        changes: dict[str, Any],
        deployment: Deployment,
        problems: tuple[OptionProblem, ...],
        fields: tuple[OptionField, ...],
        values: dict[str, Any],
    ) -> None:
        super().__init__()
        self.changes = changes
        self.deployment = deployment
        self.problems = problems
        self.fields = fields
        self.values = values


class Judged(Message):
    """What there is to say of the server's options here and now."""

    def __init__(self, verdicts: tuple[Verdict, ...]) -> None:
        super().__init__()
        self.verdicts = verdicts


class Spread(Message):
    """How the model lies on this machine's GPUs; None for a route without parallel sizes."""

    def __init__(self, view: ParallelismView | None) -> None:
        super().__init__()
        self.view = view


class FormScreen(ScriptScreen):
    """Keeps form, deployment, script and verdicts at one."""

    terms: dict[str, Term]
    """What the options' words mean, by option."""

    def __init__(self, context: ScreenContext, flow: Flow) -> None:
        super().__init__(context, flow)
        self.pending = {}
        self.terms = {}
        self._option: OptionField | None = None
        self._verdicts: tuple[Verdict, ...] = ()
        self._problems: tuple[OptionProblem, ...] = ()
        self._pause: Timer | None = None

    def ask_routes(self) -> object:
        """Ask again which routes take the checkpoints."""
        raise NotImplementedError

    async def begin(
        self, deployment: Deployment, fields: tuple[OptionField, ...], values: dict[str, Any]
    ) -> None:
        """The form of another draft: what was typed into the one before belongs to that."""
        self.workers.cancel_group(self, "bind")
        self.pending.clear()
        self._problems = ()
        self.invalid = False
        self.move(replace(self.flow, deployment=deployment))
        await self.fill(fields, values)

    async def fill(self, fields: tuple[OptionField, ...], values: dict[str, Any]) -> None:
        """A new form in place of the old one."""
        place = self.query_one("#form", Vertical)
        await place.remove_children()
        await place.mount(OptionsForm(fields, values))
        self.query_one(OptionsForm).judge(self._verdicts)

    def follow(self, deployment: Deployment) -> None:
        """Show what this deployment runs and, once no key is pressed, what stands in its way."""
        self.render_script(deployment)
        self._spread(deployment)
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(_PAUSE, lambda: self._judge(deployment))

    # -- changes

    @on(OptionsForm.Changed)
    def _changed(self, message: OptionsForm.Changed) -> None:
        changes = dict(message.values)
        if changes.get(_EXPOSE) is True:
            del changes[_EXPOSE]
            self._confirm_exposure()
        if changes and changes.keys() <= _WHOLE:
            self.pending.update(changes)
        else:
            self._apply(changes)

    @on(events.DescendantBlur)
    def take_over(self) -> None:
        """Bind what was held back while it was typed."""
        self._apply({})

    def _apply(self, changes: dict[str, Any]) -> None:
        self.pending.update(changes)
        if self.flow.deployment is not None and self.pending:
            self._bind(self.flow.deployment, dict(self.pending))

    def _confirm_exposure(self) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._apply({_EXPOSE: True})
            else:
                self.query_one(OptionsForm).turn_off(_EXPOSE)

        word = self.flow.deployment.name if self.flow.deployment else ""
        self.app.push_screen(
            ConfirmScreen("Let other machines reach the server", _EXPOSED, word), answered
        )

    @work(thread=True, exclusive=True, exit_on_error=False, group="bind")
    def _bind(self, deployment: Deployment, changes: dict[str, Any]) -> None:
        bound, problems = self.desk.with_options(deployment, changes)
        fields = self.desk.form_fields(bound)
        self.tell(Bound(changes, bound, problems, fields, self.desk.form_values(bound)))

    @on(Bound)
    async def _bound(self, message: Bound) -> None:
        before = self.flow.deployment
        if before is None or before.backend != message.deployment.backend:
            return  # its draft has gone
        form = self.query_one(OptionsForm)
        form.blame(message.problems)
        self._problems = message.problems
        self.invalid = bool(message.problems)
        self._explain_option()
        if message.problems:
            self.title_script(say("Script", "strong"), say("of the last valid options", "warn"))
            return
        # What was changed meanwhile is on its way.
        bound = message.changes.items()
        self.pending = {
            name: value for name, value in self.pending.items() if (name, value) not in bound
        }
        self.move(replace(self.flow, deployment=message.deployment))
        if before.checkpoints != message.deployment.checkpoints:
            self.ask_routes()
        if [f.name for f in message.fields] != [f.name for f in form.options]:
            name = self._option.name if self._option and form.has_focus_within else ""
            await self.fill(message.fields, message.values)
            if name:
                self.query_one(OptionsForm).focus_option(name)
        self.follow(message.deployment)

    # -- verdicts and words

    @work(thread=True, exclusive=True, exit_on_error=False, group="judge")
    def _judge(self, deployment: Deployment) -> None:
        try:
            self.tell(Judged(self.desk.server_verdicts(deployment)))
        except DeckError:
            self.tell(Judged(()))  # The script's place says why there is no plan to judge.

    @work(thread=True, exclusive=True, exit_on_error=False, group="spread")
    def _spread(self, deployment: Deployment) -> None:
        try:
            self.tell(Spread(self.desk.parallelism(deployment)))
        except DeckError:
            self.tell(Spread(None))  # The script's place says what is wrong with the deployment.

    @on(Spread)
    def _lies(self, message: Spread) -> None:
        self.query_one(Parallelism).spread(message.view)

    @on(Judged)
    def _judged(self, message: Judged) -> None:
        self._verdicts = message.verdicts
        if form := self.query_one_optional(OptionsForm):
            form.judge(message.verdicts)
        self._explain_option()

    @on(Input.Submitted)
    def _accepted(self) -> None:
        self.focus_next()

    @on(OptionsForm.Focused)
    def _focused(self, message: OptionsForm.Focused) -> None:
        self._option = message.option
        self._explain_option()

    def _explain_option(self) -> None:
        if (option := self._option) is None:
            return
        said = [v for v in self._verdicts if v.option == option.name]
        # In full here: beside its field there may be no room for all of it.
        wrong = (say(f"✕ {p.message}", "bad") for p in self._problems if p.field == option.name)
        plain = replace(option, help=option.help.replace("`", ""))
        told = explain(plain, self.terms.get(option.name), said)
        self.query_one("#option-help", Words).show(lines(*wrong, told))
