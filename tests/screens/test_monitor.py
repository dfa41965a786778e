"""The monitor: what it shows of which machine, keys of time, sorting, ending processes, replay."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot

from console.desk.signals import end_process
from console.facts import Refused
from console.settings import Settings
from console.telemetry.reading import GpuProcess
from screens.checkpoint import CheckpointScreen
from screens.confirm import ConfirmScreen
from screens.flow import Flow
from screens.home import HomeScreen
from screens.monitor import MonitorScreen
from screens.monitoring.figures import nice
from screens.monitoring.ticker import Ticker
from screens.monitoring.trace import Trace
from screens.monitoring.view import heights
from screens.widgets.chart import Chart
from screens.widgets.scrub import ScrubBar
from screens.widgets.table import Listing
from tests.screens.conftest import make_app, until
from tests.screens.desk_double import NOW, DeskDouble
from tests.screens.monitor_double import LENGTH, MonitorDouble
from tests.screens.steps import filtered
from tests.screens.test_poison import POISON, shown_everywhere


@asynccontextmanager
async def opened(
    desk: DeskDouble, source: MonitorDouble, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[tuple[Pilot[None], MonitorScreen]]:
    app = make_app(desk)
    async with app.run_test(size=size) as pilot:
        screen = MonitorScreen(app._given, Flow(), source)
        app.push_screen(screen)
        await until(pilot, lambda: screen._frame is not None and screen._frame.curves)
        yield pilot, screen


def rows(screen: MonitorScreen, part: str) -> list[str]:
    table = screen.query_one(f"#{part}", Listing).table
    return [" ".join(" ".join(table.get_row_at(n)).split()) for n in range(table.row_count)]


def shown(pilot: Pilot[None]) -> str:
    return shown_everywhere(pilot.app)  # type: ignore[arg-type]


def charts(screen: MonitorScreen) -> list[str]:
    return [" ".join(chart.lines[0].split()) for chart in screen.query(Chart) if chart.lines]


# -- getting there and away


async def test_m_lays_the_monitor_over_home_and_esc_uncovers_it(desk: DeskDouble) -> None:
    app = make_app(desk)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))
        await pilot.press("m")
        await until(pilot, lambda: "GPU 7" in shown(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))
        await pilot.press("alt+m")
        await until(pilot, lambda: isinstance(app.screen, MonitorScreen))
        await pilot.press("1")
        await until(pilot, lambda: isinstance(app.screen, CheckpointScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))


async def test_the_console_may_open_at_the_monitor(desk: DeskDouble) -> None:
    source = MonitorDouble(1)
    app = make_app(desk, monitor=source)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "GPU 0" in shown(pilot))
        await pilot.press("1")
        await until(pilot, lambda: isinstance(app.screen, CheckpointScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))


# -- machines


@pytest.mark.parametrize(("gpus", "count"), [(0, 1), (1, 2), (8, 11), (16, 19)])
@pytest.mark.parametrize("size", [(80, 24), (300, 80)], ids=["80x24", "300x80"])
async def test_every_device_has_a_row_whatever_the_size(
    desk: DeskDouble, gpus: int, count: int, size: tuple[int, int]
) -> None:
    async with opened(desk, MonitorDouble(gpus), size) as (pilot, screen):
        await until(pilot, lambda: len(rows(screen, "devices")) == count)
        assert rows(screen, "devices")[0].startswith("host")
        for part in ("devices", "servers", "processes"):
            assert screen.query_one(f"#{part}", Listing).size.height >= 2


async def test_a_gpu_shows_its_memory_as_used_of_total(desk: DeskDouble) -> None:
    async with opened(desk, MonitorDouble(8), (160, 48)) as (pilot, screen):
        await until(pilot, lambda: len(rows(screen, "devices")) > 8)
        row = rows(screen, "devices")[2]
        for words in ("GPU 1 H200", "73 %", "109/141 GiB", "530/700", "76", "▲ power cap"):
            assert words in row


async def test_a_lost_gpu_says_so_and_comes_back(desk: DeskDouble) -> None:
    source = MonitorDouble(2)
    source.lost = {1}
    async with opened(desk, source) as (pilot, screen):
        await until(pilot, lambda: "✕ lost: GPU is lost" in rows(screen, "devices")[2])
        source.lost, source.time = set(), NOW + 1
        await until(pilot, lambda: "GiB" in rows(screen, "devices")[2])


async def test_servers_say_live_ready_and_each_model_apart(desk: DeskDouble) -> None:
    async with opened(desk, MonitorDouble(1), (160, 48)) as (pilot, screen):
        await until(pilot, lambda: len(rows(screen, "servers")) == 9)
        said = rows(screen, "servers")
        assert "◐ not ready" in said[0]
        assert said[1].startswith("llama 2 ● ready 35 0 0.8 212 5.9 3")
        assert "◐ loading" in said[3]
        assert "75 %" in said[5]
        assert "✕ unavailable" in said[6]
        assert "431 tok/s" in said[7]
        assert "✕ away 11 min" in said[8]


async def test_without_servers_the_list_teaches(desk: DeskDouble) -> None:
    source = MonitorDouble(1)
    source.servers = False
    async with opened(desk, source) as (pilot, _):
        await until(pilot, lambda: "tritondeck attach URL" in shown(pilot))


async def test_poison_is_shown_without_acting(desk: DeskDouble) -> None:
    async with opened(desk, MonitorDouble(4, poison=POISON), (160, 48)) as (pilot, _):
        await until(pilot, lambda: "H200 [/]" in shown(pilot))
        assert "PWN" not in shown(pilot)
        assert "\x1b" not in shown(pilot)


# -- charts and time


async def test_the_charts_follow_the_cursor(desk: DeskDouble) -> None:
    async with opened(desk, MonitorDouble(4)) as (pilot, screen):
        await until(pilot, lambda: charts(screen)[:1] == ["GPU 0 memory 111 GiB of 141 GiB"])
        await pilot.press("down")
        await until(pilot, lambda: charts(screen)[1].startswith("GPU 1 utilisation"))
        await pilot.press("home")
        await until(pilot, lambda: charts(screen)[0].startswith("host memory"))
        await pilot.press("tab", "down")
        await until(pilot, lambda: charts(screen)[0] == "llama31-8b/llama requests 35 requests/s")


async def test_zoom_changes_the_span_of_every_curve(desk: DeskDouble) -> None:
    async with opened(desk, MonitorDouble(2)) as (pilot, screen):
        await until(pilot, lambda: "curves 10 min" in shown(pilot))
        await pilot.press("plus")
        await until(pilot, lambda: "curves 5 min" in shown(pilot) and "-5 min" in shown(pilot))
        await pilot.press("minus", "minus", "minus", "minus", "minus", "minus")
        await until(pilot, lambda: "-12 h" in shown(pilot))
        cells = next(iter(screen._frame.curves.values()))  # type: ignore[union-attr]
        assert cells[0] is None
        assert cells[-1] is not None


async def test_pause_holds_the_figures_and_loses_none(desk: DeskDouble) -> None:
    source = MonitorDouble(1)
    async with opened(desk, source) as (pilot, screen):
        await pilot.press("p")
        await until(pilot, lambda: "paused: p goes on" in shown(pilot))
        await until(pilot, lambda: not pilot.app.workers)  # nothing is on its way any more
        source.time = NOW + 30
        await pilot.pause(1.2)
        assert screen._frame.view.time == NOW  # type: ignore[union-attr]
        await pilot.press("p")
        await until(pilot, lambda: screen._frame.view.time == NOW + 30)  # type: ignore[union-attr]


async def test_marks_stand_where_things_happened(desk: DeskDouble) -> None:
    async with opened(desk, MonitorDouble(1), (120, 40)) as (pilot, screen):
        await until(pilot, lambda: "╵llama READY" in shown(pilot))
        axis = screen.query_one("#first", Chart).lines[-1]
        room = screen.query_one("#first", Chart).room
        assert abs(axis.index("╵llama") - room * 180 / 600) <= 1


# -- sorting, filter, one list alone


async def test_lists_are_sorted_by_the_next_figure(desk: DeskDouble) -> None:
    async with opened(desk, MonitorDouble(4)) as (pilot, screen):

        def degrees() -> list[int]:
            return [int(row.split()[-1]) for row in rows(screen, "devices") if "GPU" in row]

        await pilot.press("s", "s", "s")
        await until(pilot, lambda: "devices by temperature" in shown(pilot))
        await until(pilot, lambda: degrees() == sorted(degrees(), reverse=True) != degrees()[::-1])
        falling = degrees()
        await pilot.press("S")
        await until(pilot, lambda: degrees() == falling[::-1])


async def test_a_filter_leaves_rows_with_a_text(desk: DeskDouble) -> None:
    async with opened(desk, MonitorDouble(4)) as (pilot, screen):
        await pilot.press("tab", "tab")
        await filtered(pilot, "ana")
        await pilot.press("enter")
        await until(pilot, lambda: len(rows(screen, "processes")) == 1)
        assert "train.py" in rows(screen, "processes")[0]


async def test_one_list_can_have_the_screen(desk: DeskDouble) -> None:
    async with opened(desk, MonitorDouble(16), (80, 24)) as (pilot, screen):
        await pilot.press("z")
        await until(pilot, lambda: not screen.query_one("#servers").display)
        await pilot.press("escape")
        await until(pilot, lambda: screen.query_one("#servers").display)


# -- ending processes


async def test_only_processes_of_ours_can_be_ended(desk: DeskDouble) -> None:
    async with opened(desk, MonitorDouble(2)) as (pilot, _):
        await pilot.press("tab", "tab", "s", "s", "end")  # by pid: the smallest is last
        await until(pilot, lambda: "x End" not in shown(pilot))
        await pilot.press("home")
        await until(pilot, lambda: "x End" in shown(pilot))
        await pilot.press("x")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        assert "llama31-8b" in shown(pilot)


@pytest.mark.parametrize("why", ["replay", "readonly"])
async def test_a_replay_and_the_read_only_mode_end_nothing(settings: Settings, why: str) -> None:
    desk = DeskDouble(replace(settings, readonly=why == "readonly"))
    async with opened(desk, MonitorDouble(2, live=why != "replay")) as (pilot, screen):
        await pilot.press("tab", "tab")
        await until(pilot, lambda: screen._focused() == "processes")
        await until(pilot, lambda: not screen.check_action("end", ()))


@pytest.fixture
def sleeper() -> Any:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def reading_of(process: subprocess.Popen[bytes], **changes: Any) -> GpuProcess:
    created = psutil.Process(process.pid).create_time()
    return replace(GpuProcess(process.pid, 0, owner="run", created=created), **changes)


def test_ending_a_process_sends_it_a_signal(settings: Settings, sleeper: Any) -> None:
    end_process(settings, reading_of(sleeper))
    assert sleeper.wait(60) == -15


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"owner": ""}, "not one of ours"), ({"created": 5.0}, "has ended already")],
)
def test_a_process_that_is_not_ours_or_is_another_by_now_is_left_alone(
    settings: Settings, sleeper: Any, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        end_process(settings, reading_of(sleeper, **changes))
    assert sleeper.poll() is None


# -- replay


async def test_a_replay_starts_at_its_end_and_goes_back_by_key_and_click(desk: DeskDouble) -> None:
    source = MonitorDouble(2, live=False)
    async with opened(desk, source) as (pilot, screen):
        await until(pilot, lambda: "21 Sep 14:13:20" in shown(pilot))
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: "21 Sep 14:10:20" in shown(pilot))
        await pilot.press("left_square_bracket", "left_square_bracket")
        await until(pilot, lambda: screen._frame.view.time < NOW - 400)  # type: ignore[union-attr]
        await pilot.press("right")
        await pilot.click(ScrubBar, offset=(1, 0))
        await until(pilot, lambda: source.time == NOW - LENGTH)
        assert "13:13:20" in screen.query_one(ScrubBar).lines[1]


async def test_a_replay_fills_the_room_that_a_terminal_gets(desk: DeskDouble) -> None:
    async with opened(desk, MonitorDouble(2, live=False), (80, 24)) as (pilot, screen):
        await pilot.resize_terminal(160, 48)
        await until(pilot, lambda: screen.query_one("#second", Chart).lines)
        first = screen.query_one("#first", Chart)
        await until(pilot, lambda: ("gpu/0/memory", first.room) in screen._frame.curves)  # type: ignore[union-attr]
        await until(pilot, lambda: any("▁" in line or "█" in line for line in first.lines))


async def test_a_replay_plays_by_itself(desk: DeskDouble) -> None:
    source = MonitorDouble(1, live=False)
    async with opened(desk, source) as (pilot, _):
        await pilot.press("shift+left", "p")
        await until(pilot, lambda: "playing" in shown(pilot))
        there = source.time
        await until(pilot, lambda: source.time > there)


# -- parts


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 100)), max_size=60))
def test_a_trace_gives_the_largest_value_of_each_slice(points: list[tuple[float, float]]) -> None:
    trace = Trace(step=10.0, width=100, interval=1.0)
    trace.fill(sorted(points))
    cells = trace.cells(1000.0)
    for place, value in enumerate(cells):
        number = place + 1
        inside = [v for t, v in points if int(t // 10) == number]
        assert value == (max(inside) if inside else None)


def test_a_curve_stands_still_until_a_slice_is_full() -> None:
    trace = Trace(step=10.0, width=5, interval=1.0)
    trace.fill((float(t), float(t)) for t in range(50))
    before = trace.cells(49.0)
    trace.add(50.0, 1.0)
    assert trace.cells(50.0)[:-1] == before[1:]
    trace.add(55.0, 7.0)
    assert trace.cells(55.0) == (*before[1:], 7.0)


def test_slices_shorter_than_the_interval_have_no_holes() -> None:
    trace = Trace(step=0.5, width=10, interval=2.0)
    trace.fill((float(t), 3.0) for t in range(0, 21, 2))
    assert None not in trace.cells(20.0)


def test_a_gap_stays_a_gap() -> None:
    trace = Trace(step=1.0, width=10, interval=1.0)
    trace.fill(((1.0, 5.0), (9.0, 5.0)))
    assert trace.cells(9.0)[4] is None


@given(st.floats(1e-3, 1e9))
def test_a_round_scale_holds_the_largest_value(largest: float) -> None:
    top = nice(largest, 1e-3)
    assert largest <= top <= 10.001 * largest


@given(
    room=st.integers(15, 80),
    devices=st.integers(1, 40),
    servers=st.integers(0, 40),
    processes=st.integers(0, 60),
)
def test_the_parts_never_take_more_lines_than_there_are(
    room: int, devices: int, servers: int, processes: int
) -> None:
    parts = heights(room, devices, servers, processes)
    assert parts.devices >= 2
    assert parts.servers >= 2
    assert room - parts.devices - parts.charts - parts.servers >= 2


@pytest.mark.parametrize("left", [False, True])
def test_a_look_that_fails_is_told_to_whoever_is_still_there(
    monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    """Who leaves closes the source, under a look that is late perhaps."""
    source, told = MonitorDouble(1), []

    def closed() -> None:
        if left:
            ticker.close()
        raise OSError("closed")

    monkeypatch.setattr(source, "snapshot", closed)
    ticker = Ticker(source, lambda frame: None, told.append)
    ticker._run()
    assert len(told) == (not left)
