"""Step 4: every verdict before any time is spent; without a deployment, on this machine alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from console.desk.desk import CheckReport
from console.facts import Level, Verdict
from console.planning.deployment import Deployment
from console.text import human_seconds
from screens import states
from screens.base import DeckScreen
from screens.confirm import ConfirmScreen
from screens.flow import Flow, ScreenContext, Stage
from screens.phrase import Phrase, Role, join, lines, say
from screens.widgets.table import Column, DeckTable, Listing, Row
from screens.widgets.words import Words


class CheckScreen(DeckScreen):
    """A page of verdicts; each with its number, its source and a one-line fix."""

    STAGE = Stage.CHECK
    AREA = "check"
    WORDS = ("verdict", "environment")
    HELP = (
        "Every check on this deployment here. A failure blocks the build unless it is accepted by "
        "name; a warning or an unknown does not."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter",
            "mend",
            "Mend it",
            id="check.mend",
            tooltip="To the option of the check that fails",
        ),
        Binding("enter", "enter", "Build", id="check.build", tooltip="Start the build"),
        Binding(
            "ctrl+n",
            "build",
            "Build",
            show=False,
            id="check.forward",
            tooltip="Go on: start the build",
        ),
        Binding("f", "fix", "Option", id="check.fix", tooltip="Go to the option to change"),
        Binding("a", "accept", "Accept", id="check.accept", tooltip="Accept this failure by name"),
        Binding("r", "again", "Again", id="again", tooltip="Check again"),
        Binding("y", "copy", "Copy", show=False, id="copy", tooltip="Show and copy the report"),
    ]

    class Checked(Message):
        """The verdicts."""

        def __init__(self, report: CheckReport) -> None:
            super().__init__()
            self.report = report

    class Progressed(Message):
        """What is being checked now."""

        def __init__(self, message: str) -> None:
            super().__init__()
            self.message = message

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, CheckScreen.Progressed)

    class Started(Message):
        """A run was started."""

        def __init__(self, run: str) -> None:
            super().__init__()
            self.run = run

    def __init__(self, context: ScreenContext, flow: Flow) -> None:
        super().__init__(context, flow)
        self._verdicts: dict[str, Verdict] = {}
        self._report: CheckReport | None = None

    def body(self) -> Iterable[Widget]:
        yield Words(id="check-title", classes="title")
        yield Listing(
            Column("STATE", 10),
            Column("CHECK", 20),
            Column("WHAT WAS FOUND"),
            Column("FIGURE", 34, least=110, wide=70),
            empty=say("Checking …", "dim"),
            id="verdicts",
        )
        yield Words(id="check-detail")

    def on_mount(self) -> None:
        self.query_one(Listing).table.focus()
        self.action_again()

    def action_again(self) -> None:
        self._title(say("checking …", "dim"))
        self._check(self.flow.deployment)

    @work(thread=True, exclusive=True, exit_on_error=False, group="check")
    def _check(self, deployment: Deployment | None) -> None:
        if deployment is None:
            self.tell(self.Checked(self.desk.doctor()))
            return

        def progress(message: str, fraction: float | None = None) -> None:
            self.tell(self.Progressed(message))

        self.tell(self.Checked(self.desk.check(deployment, progress)))

    @on(Progressed)
    def _progressed(self, message: Progressed) -> None:
        self._title(say(f"checking {message.message} …", "dim"))

    @on(Checked)
    def _checked(self, message: Checked) -> None:
        self._report = message.report
        self._verdicts = {f"{v.check}:{n}": v for n, v in enumerate(message.report.verdicts)}
        self.query_one(Listing).show(
            [Row(key, _cells(v)) for key, v in self._verdicts.items()],
            say("No check applies here.", "dim"),
        )
        self._title(*_counts(message.report, builds=self.flow.deployment is not None))
        self._show_detail()
        self.refresh_keys()

    def _title(self, *words: Phrase) -> None:
        name = self.flow.deployment.name if self.flow.deployment else "this machine"
        title = join(say("Check", "strong"), say(name), *words)
        self.query_one("#check-title", Words).show(title)

    @property
    def _chosen(self) -> Verdict | None:
        return self._verdicts.get(self.query_one(Listing).table.chosen)

    @on(DeckTable.RowHighlighted)
    def _show_detail(self) -> None:
        found = self._chosen
        shown = _detail(found) if found else Phrase()
        self.query_one("#check-detail", Words).show(shown)
        self.refresh_keys()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "mend":
            return self.flow.deployment is not None and self._mends
        if action in ("build", "enter"):
            return self.flow.deployment is not None and not self.context.readonly
        if action == "fix":
            return bool(self.flow.deployment and self._chosen and self._chosen.option)
        if action == "accept":
            return bool(
                self.flow.deployment
                and self._chosen
                and self._chosen.blocks
                and not self.context.readonly
            )
        return True

    @property
    def _mends(self) -> bool:
        """Whether enter goes to the option: what blocks is mended before anything is started."""
        return bool(self._chosen and self._chosen.blocks and self._chosen.option)

    @on(DeckTable.RowSelected)
    def _selected(self) -> None:
        self.action_enter()

    def action_enter(self) -> None:
        if self._mends:
            self.action_fix()
        else:
            self.action_build()

    def action_mend(self) -> None:
        self.action_fix()

    def words(self) -> tuple[tuple[str, bool], ...]:
        found = self._chosen
        return (*(((found.check, True),) if found else ()), *super().words())

    def action_build(self) -> None:
        if self.flow.deployment is None or self.context.readonly or self._report is None:
            return
        if self._report.blocks:
            words = "A check fails: enter on it goes to its option, a accepts it by name"
            self.notify(words, markup=False, timeout=5)
        else:
            self._deploy(self.flow.deployment)

    @work(thread=True, exclusive=True, exit_on_error=False, group="deploy")
    def _deploy(self, deployment: Deployment) -> None:
        self.tell(self.Started(self.desk.deploy(deployment)))

    @on(Started)
    def _started(self, message: Started) -> None:
        self.go(Stage.BUILD, replace(self.flow, run=message.run))

    def action_fix(self) -> None:
        if self._chosen is not None:
            option = self._chosen.option
            stage = Stage.CHECKPOINT if option.startswith("checkpoints.") else Stage.OPTIONS
            self.go(stage, replace(self.flow, option=option))

    def action_accept(self) -> None:
        found, deployment = self._chosen, self.flow.deployment
        if found is None or deployment is None:
            return

        def answered(yes: bool | None) -> None:
            if yes:
                accepted = (*deployment.checks.accept, found.check)
                checks = deployment.checks.model_copy(update={"accept": accepted})
                self.move(
                    replace(self.flow, deployment=deployment.model_copy(update={"checks": checks}))
                )
                self.action_again()

        explanation = lines(
            say(found.summary, "bad"),
            say("The build will start although this check fails, now and later."),
        )
        self.app.push_screen(
            ConfirmScreen("Accept a failing check", explanation, found.check), answered
        )

    def action_copy(self) -> None:
        self.show_copy("The report", ("report", _report(self._verdicts.values())))


def _report(verdicts: Collection[Verdict]) -> str:
    """A line a verdict with its figure; below what does not pass, what to do."""
    wide = max((len(v.check) for v in verdicts), default=0)
    told: list[str] = []
    for v in verdicts:
        told.append(f"{v.level.value:9}{v.check:{wide}}  {v.summary}  {v.figure}".rstrip())
        if v.fix and v.level is not Level.PASS:
            told.append(f"{'':9}{'':{wide}}  → {v.fix}")
    return "\n".join(told)


_COUNTED: tuple[tuple[Level, Role], ...] = (
    (Level.PASS, "ok"),
    (Level.WARN, "warn"),
    (Level.UNKNOWN, "warn"),
    (Level.FAIL, "bad"),
)


def _counts(report: CheckReport, *, builds: bool) -> tuple[Phrase, ...]:
    """``15 pass · 2 warn · 1 fail``, how long it took, and whether a build may start."""
    levels = [Level.WARN if v.accepted else v.level for v in report.verdicts]
    counts = [
        say(f"{levels.count(level)} {level.value}", role)
        for level, role in _COUNTED
        if level in levels
    ]
    took = say(f"{len(levels)} checks in {human_seconds(report.elapsed)}", "dim")
    ready = say("nothing blocks" if builds and not report.blocks else "", "dim")
    return (join(*counts, between=" · "), took, ready)


def _cells(found: Verdict) -> tuple[Phrase, ...]:
    quiet: Role = "dim" if found.level is Level.PASS else ""
    return (
        states.verdict(found),
        say(found.check, "" if quiet else "strong"),
        say(found.summary, quiet),
        say(found.figure, quiet),
    )


def _detail(found: Verdict) -> Phrase:
    """The verdict under the cursor in full: finding, number, source, fix."""
    return lines(
        join(states.verdict(found), say(found.summary, "strong")),
        say(found.figure) if found.figure else Phrase(),
        say(f"source: {found.source}" if found.source else "", "dim"),
        say(f"→ {found.fix}" if found.fix else "", "accent"),
    )
