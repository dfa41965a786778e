"""The whole job through the screen: the real desk, real NeMo, a real Triton, and a line that drops.

One story in one state folder, so that the export runs once: a console starts the build and is left,
a second one in a pseudo-terminal loses its line in the middle of the export, a third finds the run
again and follows it to the served answer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from console import settings as settings_module
from console.app import TritonDeckApp
from console.desk.desk import Desk
from console.keeper import look
from console.runs.folder import RunFolder
from console.runs.model import RunState, RunView, StepState
from screens.build import BuildScreen
from screens.check import CheckScreen
from screens.checkpoint import CheckpointScreen
from screens.configure import ConfigureScreen
from screens.confirm import ConfirmScreen
from screens.home import HomeScreen
from screens.serve import ServeScreen
from screens.try_ import TryScreen
from screens.viewer import TextScreen
from screens.widgets.fields import TextField
from screens.widgets.flag import Flag
from screens.widgets.logview import LogView
from screens.widgets.textview import TextView
from tests import processes
from tests.screens.conftest import until
from tests.screens.pseudo import Terminal
from tests.screens.steps import listed, on, shown
from tests.support import Operator, managed, until_gone

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits"
SOUND = DIGITS / "wavs" / "digits_2.wav"
SAID = "seven nine two"
NAME = "digits"


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    managed("nemo")
    managed("embedded")
    person = Operator(tmp_path_factory.mktemp("screen-job"))
    yield person
    person.does("stop", NAME, code=None)


def desk_of(operator: Operator) -> Desk:
    return Desk(settings_module.load(operator.env))


@asynccontextmanager
async def console(operator: Operator) -> AsyncIterator[Pilot[None]]:
    """A console of its own on the operator's state folder."""
    app = TritonDeckApp(desk_of(operator), start=str(DIGITS))
    async with app.run_test(size=(140, 40)) as pilot:
        yield pilot


async def sees(pilot: Pilot[None], selector: str, text: str, seconds: float = 60) -> None:
    await until(pilot, lambda: text in shown(pilot.app, selector), seconds)  # type: ignore[arg-type]


async def choose_and_start(operator: Operator) -> None:
    """Home, Checkpoint, route, options, Check, Build; then leave."""
    async with console(operator) as pilot:
        screen = pilot.app.screen
        await until(pilot, lambda: screen.query_one("#deployments").has_class("-empty"))
        await pilot.press("n")
        await on(pilot, CheckpointScreen)
        (await listed(pilot)).choose(str(DIGITS / "digits.nemo"))
        await sees(pilot, "#detail", "✓ onnx")
        await pilot.press("enter")
        await on(pilot, ConfigureScreen)
        last = "#option-server-metrics_port Input"
        await until(pilot, lambda: pilot.app.screen.query(last))
        await pilot.press("enter")
        for option, value in (
            ("#option-max_batch_size", "4"),
            ("#option-server-http_port", "0"),
            ("#option-server-grpc_port", "0"),
            ("#option-server-metrics_port", "0"),
        ):
            pilot.app.screen.query_one(option).query_one(Input).value = value
        script = pilot.app.screen.query_one(TextView)
        await until(
            pilot, lambda: pilot.app.screen.flow.deployment.options.get("max_batch_size") == 4
        )  # type: ignore[attr-defined]
        await until(pilot, lambda: "verify" in script.text)
        await pilot.press("ctrl+n")
        await on(pilot, CheckScreen)
        await sees(pilot, "#check-title", "nothing blocks", 60)
        await pilot.press("enter")
        await on(pilot, BuildScreen)
        await sees(pilot, "#build-title", "you may leave")
        await pilot.press("q")


def running_step(view: RunView) -> str:
    return view.current.id if view.current else ""


def wait_for_step(desk: Desk, step: str, seconds: float = 300) -> RunView:
    end = time.monotonic() + seconds
    while True:
        view = desk.runs(NAME)[0]
        if running_step(view) == step:
            return view
        assert view.active, view
        assert time.monotonic() < end, view
        time.sleep(0.1)


@pytest.fixture(scope="module")
def left(operator: Operator) -> Iterator[RunView]:
    """A run that was started on the screen; its console was left while it exports.

    The export is halted until another console has found it: nobody is in a hurry.
    """
    asyncio.run(choose_and_start(operator))
    view = wait_for_step(desk_of(operator), "export")
    export = exporting(view)
    os.killpg(export, signal.SIGSTOP)
    yield view
    with suppress(ProcessLookupError):
        os.killpg(export, signal.SIGCONT)


def exporting(view: RunView) -> int:
    """The process group of the export's command."""
    folder = RunFolder(view.folder).kept("1-export")
    processes.until(lambda: look(folder).child_alive)
    child = look(folder).child
    assert child is not None
    return child.pid


@pytest.fixture(scope="module")
def dropped(operator: Operator, left: RunView) -> tuple[int, RunView]:
    """Exit status of a console that lost its line in the middle of the export, and the run then."""
    terminal = Terminal([sys.executable, "-m", "console.cli"], operator.env)
    terminal.until(b"building")
    terminal.press(b"\r")
    terminal.until(b"you may leave")
    terminal.hang_up()
    status = terminal.process.wait(60)
    return status, desk_of(operator).runs(NAME)[0]


@pytest.fixture(scope="module")
def served(operator: Operator, dropped: tuple[int, RunView]) -> dict[str, str]:
    """What a later console showed of the run, from Home to its end."""
    return asyncio.run(follow(operator, exporting(dropped[1])))


async def follow(operator: Operator, export: int) -> dict[str, str]:
    words: dict[str, str] = {}
    async with console(operator) as pilot:
        await listed(pilot)
        await sees(pilot, "#home-detail", "follows it")
        await pilot.press("enter")
        await on(pilot, BuildScreen)
        await pilot.press("escape")
        await on(pilot, HomeScreen)
        await pilot.press("enter")
        await on(pilot, BuildScreen)
        table = await listed(pilot)
        await until(pilot, lambda: table.chosen == "export")
        os.killpg(export, signal.SIGCONT)
        log = pilot.app.screen.query_one(LogView)
        await until(pilot, lambda: log.lines > 3)
        rows = (log.render_line(y).text.rstrip(" …") for y in range(log.size.height))
        words["log"] = "\n".join(row for row in rows if row)
        words["log title"] = shown(pilot.app, ".log-title")  # type: ignore[arg-type]
        await sees(pilot, "#build-title", "verified", 120)
        words["title"] = shown(pilot.app, "#build-title")  # type: ignore[arg-type]
        words["detail"] = shown(pilot.app, "#step-detail")  # type: ignore[arg-type]
        await until(pilot, lambda: table.row_count == len(pilot.app.screen._view.steps))  # type: ignore[attr-defined]
        words["steps"] = "\n".join(
            " ".join(str(cell) for cell in table.get_row_at(n)) for n in range(table.row_count)
        )
        await pilot.press("enter")
        await on(pilot, ServeScreen)
    return words


def test_a_build_is_chosen_and_started_on_the_screen(operator: Operator, left: RunView) -> None:
    assert left.active
    assert desk_of(operator).open(NAME).options["max_batch_size"] == 4


def test_a_dropped_line_ends_the_console_and_not_the_run(dropped: tuple[int, RunView]) -> None:
    status, view = dropped
    # 128 + SIGHUP, or Python's own 120 where its last words found no terminal to go to.
    assert status in (1, 120, 128 + signal.SIGHUP)
    assert view.active
    assert running_step(view) == "export"


def test_another_console_finds_the_run_and_sees_every_step_finish(served: dict[str, str]) -> None:
    assert "✓ verified" in served["title"]
    rows = served["steps"].splitlines()
    assert len(rows) > 4
    assert all("✓" in row or "unchanged" in row for row in rows), rows


def test_the_log_of_the_export_is_on_the_screen(operator: Operator, served: dict[str, str]) -> None:
    assert "export" in served["log title"]
    file = desk_of(operator).log_file(desk_of(operator).runs(NAME)[0].id, "export")
    written = " ".join(file.read_text(errors="replace").split())
    # Time, level and origin stand in columns of their own; what is said ends the line.
    said = " ".join(served["log"].splitlines()[-1].split()[-3:])
    assert said in written


async def test_a_model_is_unloaded_and_loaded_again(
    operator: Operator, served: dict[str, str]
) -> None:
    async with console(operator) as pilot:
        await listed(pilot)
        await sees(pilot, "#home-detail", "verified")
        await pilot.press("enter")
        await on(pilot, ServeScreen)
        table = await listed(pilot)

        def state() -> str:
            return " ".join(str(cell) for cell in table.get_row_at(0))

        await until(pilot, lambda: "● ready" in state())
        assert NAME in state()
        await pilot.press("u")
        await on(pilot, ConfirmScreen)
        await pilot.press("enter")
        await on(pilot, ServeScreen)
        await until(pilot, lambda: "○ unloaded" in state())
        await pilot.press("l")
        await until(pilot, lambda: "● ready" in state(), 60)


async def test_a_sound_is_sent_and_answered_right(
    operator: Operator, served: dict[str, str]
) -> None:
    async with console(operator) as pilot:
        await listed(pilot)
        await sees(pilot, "#home-detail", "verified")
        await pilot.press("enter")
        await on(pilot, ServeScreen)
        await listed(pilot)
        await pilot.press("7")
        await on(pilot, TryScreen)
        await until(pilot, lambda: isinstance(pilot.app.focused, TextField))
        pilot.app.focused.value = str(SOUND)  # type: ignore[union-attr]
        await pilot.press("enter")
        await sees(pilot, "#answers", SAID)
        pilot.app.screen.query_one(Flag).value = True
        await pilot.press("ctrl+s")
        # One line a word, with its seconds.
        await until(
            pilot,
            lambda: (
                [
                    line.split()[-2]
                    for line in shown(pilot.app, "#answers").splitlines()  # type: ignore[arg-type]
                    if " s  " in line
                ]
                == SAID.split()
            ),
        )
        await pilot.press("ctrl+y")
        copied = await on(pilot, TextScreen)
        assert f"/v2/models/{NAME}/infer" in copied.query_one(TextView).text
        await pilot.press("y")
        copied_text = pilot.app.clipboard
    done = subprocess.run(["bash", "-c", copied_text], capture_output=True, timeout=60)
    assert SAID.encode() in done.stdout, done


async def test_the_server_is_stopped_from_its_screen(
    operator: Operator, served: dict[str, str]
) -> None:
    async with console(operator) as pilot:
        await listed(pilot)
        await sees(pilot, "#home-detail", "verified")
        await pilot.press("enter")
        await on(pilot, ServeScreen)
        await sees(pilot, "#serve-facts", "● live")
        await pilot.press("x")
        await on(pilot, ConfirmScreen)
        await pilot.press("enter")
        await on(pilot, ServeScreen)
        await sees(pilot, "#serve-title", "○ stopped")
    until_gone(str(operator.home))
    (view,) = desk_of(operator).runs(NAME)
    assert view.state is RunState.SUCCEEDED
    assert {step.state for step in view.steps} <= {StepState.DONE, StepState.SKIPPED}
