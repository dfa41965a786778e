"""The monitor: this machine's GPUs, its servers and processes, now or as they were recorded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.geometry import Size
from textual.widget import Widget

from console.desk.monitor import MonitorSource
from screens.flow import Flow, ScreenContext
from screens.monitoring import rows, view
from screens.monitoring.ending import Ending
from screens.monitoring.ticker import SPANS, Frame, Wanted
from screens.monitoring.time import TIME_BINDINGS, Moment
from screens.phrase import Phrase, join, lines, say
from screens.widgets.chart import Chart
from screens.widgets.scrub import ScrubBar
from screens.widgets.table import DeckTable, Listing
from screens.widgets.words import Words

_NO_SERVER = lines(
    say("No server is watched.", "strong"),
    say("A deployment's server shows when it runs; tritondeck attach URL adds one."),
)
_NO_PROCESS = say("No process is on a GPU, and no run or server of ours is up.", "dim")
_SORTS = {
    "devices": ("", "memory", "utilisation", "temperature", "power"),
    "servers": ("", "requests", "failures", "pending", "name"),
    "processes": ("memory", "sm", "pid", "user"),
}
"""What each table may be sorted by; "" is the order in which they are known."""
_PARTS = tuple(_SORTS)


class MonitorScreen(Moment, Ending):
    """GPUs, servers and processes; curves of what the cursor is on, with marks of what happened."""

    AREA = "monitor"
    HELP = (
        "What this machine and its servers do, looked at in the background: a slow driver or server "
        "never holds this screen up. The charts show what the cursor is on. A process is ended with "
        "`x` only when it is one of ours."
    )
    WORDS = ("server", "run")
    BINDINGS: ClassVar[list[BindingType]] = [
        *TIME_BINDINGS,
        Binding("s", "sort", "Sort", id="monitor.sort", tooltip="Sort this list by the next figure"),
        Binding(
            "S", "reverse", "Reverse", show=False, id="monitor.reverse", tooltip="Turn the order round"
        ),
        Binding(
            "z", "large", "Large", id="monitor.large", tooltip="This list alone, or all of them again"
        ),
    ]  # fmt: skip
    DEFAULT_CSS = """
    MonitorScreen #monitor-title { height: 1; padding: 0 1; }
    MonitorScreen #charts { height: 0; }
    MonitorScreen Chart { width: 1fr; height: 1fr; }
    MonitorScreen.-narrow #second { display: none; }
    MonitorScreen #processes { height: 1fr; }
    MonitorScreen.-replay ScrubBar { display: block; }
    """

    def __init__(
        self, context: ScreenContext, flow: Flow, source: MonitorSource | None = None
    ) -> None:
        super().__init__(context, flow, source)
        self._charts = (Chart(id="first"), Chart(id="second"))
        self._sorts = dict.fromkeys(_PARTS, 0)
        self._reversed: set[str] = set()
        self._large = ""
        self._arranged: tuple[object, ...] = ()
        self._drawn = Size()
        """The screen's size when it was drawn last."""
        self.span = 600.0
        self.paused = False
        self._begun = False

    # -- the frame

    def compose(self) -> Iterable[Widget]:
        from screens.widgets.keyline import KeyLine

        yield self._header
        yield Words(id="monitor-title")
        yield Listing(*rows.DEVICES, empty=say("Looking …", "dim"), id="devices")
        with Horizontal(id="charts"):
            yield from self._charts
        yield Listing(*rows.SERVERS, empty=_NO_SERVER, id="servers")
        yield Listing(*rows.PROCESSES, empty=_NO_PROCESS, id="processes")
        yield ScrubBar(id="scrub")
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one("#devices", Listing).table.focus()

    # -- one look

    def draw(self) -> None:
        frame = self._frame
        if frame is None or frame.view.reading is None:
            return
        reading, self._drawn = frame.view.reading, self.size
        found = {
            "devices": rows.devices(reading, self._spark("devices", 4)),
            "servers": rows.servers(frame.view, self._spark("servers", 10)),
            "processes": rows.processes(reading),
        }
        with self.app.batch_update():
            self._arrange({part: sum(map(len, groups)) for part, groups in found.items()})
            for part, groups in found.items():
                by = _SORTS[part][self._sorts[part]]
                self.query_one(f"#{part}", Listing).show(
                    rows.ordered(groups, by, part in self._reversed)
                )
            self._draw_charts(frame)
            said = (*self.moment(frame), *self._trouble(frame), *self._order())
            self.query_one("#monitor-title", Words).show(
                view.title(frame, self.size.width - 2, said)
            )
        if self._ticker is not None:
            self._ticker.want(self.wanted())
        self.refresh_keys()
        if not self._begun:
            # The charts show what the cursor is on: a GPU says more than the host.
            self._begun = True
            self.query_one("#devices", Listing).table.move_cursor(row=1)

    def _spark(self, part: str, column: int) -> rows.Sparkline:
        from screens.monitoring.figures import sparkline

        width = self._column(part, column)
        curves = self._frame.curves if self._frame else {}

        def draw(series: str, top: float | None) -> str:
            return sparkline(curves.get((series, width), ()), top)

        return draw

    def _column(self, part: str, column: int) -> int:
        return self.query_one(f"#{part}", Listing).table.width_of(column)

    def _draw_charts(self, frame: Frame) -> None:
        names = view.chart_series(self._subject())
        for chart, name in zip(self._charts, names, strict=True):
            if chart.size.height > 2 and chart.room:
                chart.show(view.plot(frame, name, chart.room))
        if not frame.view.live and frame.whole is not None:
            marks = [(mark.time, view.word(mark)) for mark in frame.all_marks]
            span = (frame.view.start, frame.view.end)
            self.query_one(ScrubBar).show(span, frame.view.time, frame.whole.values, marks)

    def _subject(self) -> str:
        assert self._frame is not None
        table = self.query_one(f"#{self._last}", Listing).table
        key = table.chosen
        if self._last == "devices" and key == "host" and not table.has_focus:
            key = ""
        return view.subject(self._frame.view, key)

    def wanted(self) -> Wanted:
        """The curves that there is room for."""
        curves: list[tuple[str, int]] = []
        if self._frame is not None:
            found = self._frame.view
            width = self._column("devices", 4)
            gpus = found.reading.gpus if found.reading else ()
            curves += [(f"gpu/{gpu.index}/memory", width) for gpu in gpus]
            curves.append(("host/memory", width))
            width = self._column("servers", 10)
            for server in found.servers if width else ():
                curves.append((f"server/{server.name}/requests", width))
                curves += [(f"model/{server.name}/{m.name}/requests", width) for m in server.models]
            names = view.chart_series(self._subject())
            for chart, name in zip(self._charts, names, strict=True):
                if chart.size.height > 2 and chart.room:
                    curves.append((name, chart.room))
        return Wanted(tuple(dict.fromkeys(curves)), self.span)

    def _arrange(self, counts: dict[str, int]) -> None:
        """Divide the lines; lays out only when another division is due."""
        room = self.size.height - 3 - (2 if self.has_class("-replay") else 0)
        wanted = (room, self._large, tuple(counts.values()))
        if wanted == self._arranged:
            return
        self._arranged = wanted
        parts = view.heights(room, counts["devices"], counts["servers"], counts["processes"])
        for part in _PARTS:
            listing = self.query_one(f"#{part}", Listing)
            listing.display = self._large in ("", part)
            listing.styles.height = "1fr" if self._large == part or part == "processes" else (
                parts.devices if part == "devices" else parts.servers
            )  # fmt: skip
        charts = self.query_one("#charts")
        charts.styles.height = parts.charts
        charts.display = bool(parts.charts) and not self._large

    def _order(self) -> Iterable[Phrase]:
        by = _SORTS[self._last][self._sorts[self._last]]
        if by:
            turned = ", reversed" if self._last in self._reversed else ""
            yield join(say(f"{self._last} by", "dim"), say(f"{by}{turned}"), between=" ")

    def _trouble(self, frame: Frame) -> Iterable[Phrase]:
        """Why the server under the cursor does not answer: its row may have no room for it."""
        key = self.query_one("#servers", Listing).table.chosen if self._last == "servers" else ""
        for server in frame.view.servers:
            if key == f"server/{server.name}" and server.problem:
                yield say(f"{server.name}: {server.problem}", "warn")

    # -- keys

    @on(Chart.Resized)
    @on(DeckTable.Resized)
    def _resized(self) -> None:
        """Draw what there is room for now: a replay has no later look that would."""
        if self.size != self._drawn:
            self.draw()
        elif self._ticker is not None:
            self._ticker.want(self.wanted())

    @on(DeckTable.RowHighlighted)
    def _moved(self) -> None:
        if self._frame is not None:
            self._focused()
            self.draw()

    def on_descendant_focus(self) -> None:
        self._moved()

    def _focused(self) -> str:
        """The list that has the cursor, or had it last."""
        focused = self.focused
        if isinstance(focused, DeckTable) and isinstance(focused.parent, Listing):
            self._last = str(focused.parent.id)
        return self._last

    def action_sort(self) -> None:
        part = self._focused()
        self._sorts[part] = (self._sorts[part] + 1) % len(_SORTS[part])
        self.draw()

    def action_reverse(self) -> None:
        self._reversed ^= {self._focused()}
        self.draw()

    def action_large(self) -> None:
        self._large = "" if self._large else self._focused()
        self.draw()

    def action_back(self) -> None:
        if self._large:
            self.action_large()
        elif len(self.app.screen_stack) > 1:
            self.app.pop_screen()
        else:
            self.action_leave()

    @on(ScrubBar.Chosen)
    def _clicked(self, message: ScrubBar.Chosen) -> None:
        self.seek(message.time)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.may_end() if action in ("end", "kill") else self.offered(action)

    def zoomed(self, step: int) -> None:
        """The next nearer or farther span."""
        place = SPANS.index(self.span) + step
        self.span = SPANS[max(0, min(place, len(SPANS) - 1))]
        self.draw()
