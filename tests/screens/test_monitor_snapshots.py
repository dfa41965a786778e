"""What the monitor and a log look like, from 80×24 to 300×80, without a GPU and with sixteen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget

from console.settings import Settings
from screens.flow import Flow
from screens.monitor import MonitorScreen
from screens.widgets.logpane import LogPane
from tests.screens.conftest import make_app, until
from tests.screens.desk_double import DeskDouble
from tests.screens.monitor_double import MonitorDouble

SIZES = [(80, 24), (120, 40), (160, 48), (300, 80)]
NAMES = ["80x24", "120x40", "160x48", "300x80"]


def monitor(snap_compare: Any, settings: Settings, source: MonitorDouble, size: Any) -> bool:
    app = make_app(DeskDouble(settings))

    async def arrive(pilot: Pilot[None]) -> None:
        screen = MonitorScreen(app._given, Flow(), source)
        app.push_screen(screen)
        # Every curve that there is room for has come.
        await until(
            pilot,
            lambda: (
                screen._frame is not None
                and screen._frame.curves
                and screen._frame.wanted == screen.wanted()
            ),
        )
        await pilot.pause(0.2)

    return bool(snap_compare(app, run_before=arrive, terminal_size=size))


@pytest.mark.parametrize("size", SIZES, ids=NAMES)
@pytest.mark.parametrize("gpus", [0, 1, 8, 16])
def test_the_monitor_looks_as_it_did(
    snap_compare: Any, settings: Settings, gpus: int, size: tuple[int, int]
) -> None:
    assert monitor(snap_compare, settings, MonitorDouble(gpus), size)


@pytest.mark.parametrize("size", SIZES, ids=NAMES)
def test_a_replay_looks_as_it_did(
    snap_compare: Any, settings: Settings, size: tuple[int, int]
) -> None:
    assert monitor(snap_compare, settings, MonitorDouble(2, live=False), size)


LOG = """\
I1121 00:02:53.545741 30405 pinned_memory_manager.cc:277] "Pinned memory pool is created"
E1121 00:02:53.545800 30405 server.cc:241] "CudaDriverHelper has not been initialized."
I1121 00:02:54.101200 30405 model_lifecycle.cc:472] "loading: digits:1"
+-----------+---------+--------+
| Model     | Version | Status |
+-----------+---------+--------+
| digits    | 1       | READY  |
+-----------+---------+--------+
[NeMo W 2026-11-21 00:02:55 patch_utils:109] torch.stft() signature has been updated
W1121 00:02:56.000001 30405 metrics.cc:798] "DCGM unable to start: no GPU"
E1121 00:02:56.545741 30405 model_lifecycle.cc:654] "failed to load 'clip': \
ModuleNotFoundError: No module named 'soundfile'"
Traceback (most recent call last):
  File "/srv/clip/1/model.py", line 3, in <module>
ModuleNotFoundError: No module named 'soundfile'
I1121 00:02:57.100000 30405 http_server.cc:4725] "Started HTTPService at 127.0.0.1:8000"
\rwarming up 10%\rwarming up 100%
"""


class LogScreen(Screen[None]):
    """A log pane alone."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def compose(self) -> Iterable[Widget]:
        yield LogPane()

    def on_mount(self) -> None:
        pane = self.query_one(LogPane)
        pane.open("server", self._file)
        pane.view.focus()


@pytest.mark.parametrize("size", SIZES, ids=NAMES)
@pytest.mark.parametrize("keys", [(), ("left_square_bracket", "W")], ids=["end", "problem"])
def test_a_log_looks_as_it_did(
    snap_compare: Any,
    settings: Settings,
    tmp_path: Path,
    size: tuple[int, int],
    keys: tuple[str, ...],
) -> None:
    log = tmp_path / "server.log"
    log.write_text(LOG * 8)
    app = make_app(DeskDouble(settings))

    async def arrive(pilot: Pilot[None]) -> None:
        screen = LogScreen(log)
        app.push_screen(screen)
        await until(
            pilot, lambda: screen.is_running and screen.query_one(LogPane).view.state.tallied
        )
        await pilot.press(*keys)
        await until(pilot, lambda: not keys or screen.query_one(LogPane).view._hit >= 0)
        await pilot.pause(0.3)

    assert snap_compare(app, run_before=arrive, terminal_size=size)
