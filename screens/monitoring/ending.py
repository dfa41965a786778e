"""Ending processes from the monitor: only ours, and only after a question."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from console.desk.signals import end_process
from console.telemetry.reading import GpuProcess
from screens.confirm import ConfirmScreen
from screens.monitoring.watching import Watching
from screens.phrase import join, lines, say
from screens.widgets.table import Listing


class Ending(Watching):
    """The process under the cursor, and the two ways to end it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "end", "End", id="monitor.end", tooltip="Ask a process of ours to end"),
        Binding(
            "X", "kill", "Kill", show=False, id="monitor.kill", tooltip="Kill a process of ours"
        ),
    ]

    def _process(self) -> GpuProcess | None:
        if self._frame is None or self._frame.view.reading is None or self._last != "processes":
            return None
        key = self.query_one("#processes", Listing).table.chosen
        for one in self._frame.view.reading.processes:
            if key.startswith(f"process/{one.pid}/"):
                return one
        return None

    def may_end(self) -> bool:
        """Whether the cursor is on a process of ours that may be ended."""
        one = self._process()
        live = self._source is not None and self._source.live
        return bool(one and one.owner and live and not self.context.readonly)

    def action_end(self) -> None:
        self._ask(force=False)

    def action_kill(self) -> None:
        self._ask(force=True)

    def _ask(self, *, force: bool) -> None:
        one = self._process()
        if one is None:
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._end(one, force)

        explanation = lines(
            join(say(one.pid, "strong"), say(one.user, "dim"), say(one.command)),
            say(f"It belongs to {one.owner}, which will notice that it is gone."),
        )
        verb = "Kill" if force else "End"
        self.app.push_screen(ConfirmScreen(f"{verb} this process", explanation), answered)

    @work(thread=True, exclusive=True, exit_on_error=False, group="act")
    def _end(self, process: GpuProcess, force: bool) -> None:
        end_process(self.desk.settings, process, force=force)
