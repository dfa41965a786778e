"""What Build can do with a run: cancel it, continue it, build what it fetched, compare it."""

from __future__ import annotations

from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message

from console.desk.desk import DiffView
from console.facts import UsageError
from console.runs.model import StepState, StepView
from screens.acts import difference
from screens.base import DeckScreen
from screens.confirm import ConfirmScreen
from screens.phrase import lines, say


class RunActs(DeckScreen):
    """Acts on the run of the flow; a screen says which step is under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "c", "cancel", "Cancel", id="build.cancel", tooltip="End the current step and stop"
        ),
        Binding(
            "r", "retry", "Retry", id="build.retry", tooltip="Continue at the step under the cursor"
        ),
        Binding(
            "v",
            "compare",
            "Compare",
            show=False,
            id="build.compare",
            tooltip="What differs from the run before",
        ),
    ]

    class Continued(Message):
        """The run goes on, or another one goes on from it."""

        def __init__(self, run: str) -> None:
            super().__init__()
            self.run = run

    class Compared(Message):
        """What differs between two runs."""

        def __init__(self, view: DiffView) -> None:
            super().__init__()
            self.view = view

    @property
    def chosen(self) -> StepView | None:
        """The step under the cursor."""
        raise NotImplementedError

    def action_cancel(self) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._cancel()

        explanation = lines(
            say("The current step is ended and the run stops; what is finished stays."),
            say("The run can be continued later from the step that was ended."),
        )
        self.app.push_screen(ConfirmScreen("Cancel this run", explanation), answered)

    @work(thread=True, exclusive=True, exit_on_error=False, group="act")
    def _cancel(self) -> None:
        self.desk.cancel(self.flow.run)

    def action_retry(self) -> None:
        step = self.chosen
        chosen = step is not None and step.state in (StepState.DONE, StepState.SKIPPED)
        self._retry(step.id if step is not None and chosen else "")

    @work(thread=True, exclusive=True, exit_on_error=False, group="act")
    def _retry(self, from_step: str) -> None:
        self.tell(self.Continued(self.desk.retry(self.flow.run, from_step)))

    # -- the second run of a hub id

    def action_build(self) -> None:
        self.build_fetched()

    @work(thread=True, exclusive=True, exit_on_error=False, group="act")
    def build_fetched(self) -> None:
        self.tell(self.Continued(self.desk.build_fetched(self.flow.run)))

    # -- compare

    def action_compare(self) -> None:
        self._compare(self.flow.name, self.flow.run)

    @work(thread=True, exclusive=True, exit_on_error=False, group="compare")
    def _compare(self, deployment: str, run: str) -> None:
        older = [view.id for view in self.desk.runs(deployment)]
        before = older[older.index(run) + 1 :] if run in older else []
        if not before:
            raise UsageError("there is no run before this one to compare with")
        self.tell(self.Compared(self.desk.diff(before[0], run)))

    @on(Compared)
    def _compared(self, message: Compared) -> None:
        self.show_copy(*difference(message.view))
