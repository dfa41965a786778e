"""What each screen looks like, small and large, in every theme."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from console.runs.model import RunState
from console.services.lifecycle import Phase
from console.settings import Settings
from screens.confirm import ConfirmScreen
from screens.help import HelpScreen
from screens.viewer import TextScreen
from screens.widgets.logview import LogView
from screens.widgets.options import OptionRow
from tests.screens import steps
from tests.screens import test_servers as servers
from tests.screens.conftest import make_app, until
from tests.screens.desk_double import DeskDouble

Arrive = Callable[[Pilot[None], DeskDouble], Awaitable[None]]


async def home(pilot: Pilot[None], desk: DeskDouble) -> None:
    await steps.listed(pilot)
    await until(pilot, lambda: pilot.app.screen._header._strip)  # type: ignore[attr-defined]


async def checkpoint(pilot: Pilot[None], desk: DeskDouble) -> None:
    await steps.to_checkpoint(pilot)
    await until(pilot, lambda: "✓ onnx" in steps.shown(pilot.app, "#detail"))  # type: ignore[arg-type]


async def options(pilot: Pilot[None], desk: DeskDouble) -> None:
    await steps.to_options(pilot)
    await pilot.press("tab")
    await until(pilot, lambda: "Operator set" in steps.shown(pilot.app, "#option-help"))  # type: ignore[arg-type]
    port = pilot.app.screen.query_one("#option-server-http_port", OptionRow)
    await until(pilot, lambda: "taken" in port.note.plain)


async def counted(pilot: Pilot[None]) -> None:
    """The log's lines, warnings and errors have all been counted."""
    log = pilot.app.screen.query_one(LogView)
    await until(pilot, lambda: log.lines > 30 and log.state.settled and log.state.tallied)


async def check(pilot: Pilot[None], desk: DeskDouble) -> None:
    desk.blocks = True
    await steps.to_check(pilot)


async def build(pilot: Pilot[None], desk: DeskDouble) -> None:
    await steps.to_build(pilot)
    await until(pilot, lambda: pilot.app.screen._samples)  # type: ignore[attr-defined]
    await counted(pilot)


async def failed(pilot: Pilot[None], desk: DeskDouble) -> None:
    desk.run_state = RunState.FAILED
    await build(pilot, desk)


async def serve(pilot: Pilot[None], desk: DeskDouble) -> None:
    await steps.to_serve(pilot, desk)
    await counted(pilot)


async def try_(pilot: Pilot[None], desk: DeskDouble) -> None:
    await steps.to_try(pilot, desk)
    await pilot.press("enter")
    await until(pilot, lambda: "seven three one" in steps.shown(pilot.app, "#answers"))  # type: ignore[arg-type]


async def copying(pilot: Pilot[None], desk: DeskDouble) -> None:
    await steps.to_try(pilot, desk)
    await pilot.press("ctrl+y")
    await steps.on(pilot, TextScreen)


async def confirm(pilot: Pilot[None], desk: DeskDouble) -> None:
    await steps.listed(pilot)
    await pilot.press("x")
    await steps.on(pilot, ConfirmScreen)


async def help_(pilot: Pilot[None], desk: DeskDouble) -> None:
    await steps.listed(pilot)
    await pilot.press("question_mark")
    await steps.on(pilot, HelpScreen)


def standing(phase: Phase, *, contained: bool = False) -> Arrive:
    """The Serve screen of a server of ours in a phase of its life."""

    async def arrive(pilot: Pilot[None], desk: DeskDouble) -> None:
        desk.phase, desk.contained = phase, contained
        await servers.to_server(pilot)
        await until(pilot, lambda: f" {phase.value}" in steps.shown(pilot.app, "#serve-title"))  # type: ignore[arg-type]
        await counted(pilot)

    return arrive


async def attached(pilot: Pilot[None], desk: DeskDouble) -> None:
    await steps.point(pilot, "attached:lab")
    await pilot.press("enter")
    await until(pilot, lambda: "ready" in steps.shown(pilot.app, "#serve-title"))  # type: ignore[arg-type]


PHASES: dict[str, Arrive] = {
    "starting": standing(Phase.STARTING), "versions": standing(Phase.SERVING),
    "crashed": standing(Phase.CRASHED), "degraded": standing(Phase.DEGRADED),
    "container": standing(Phase.SERVING, contained=True), "attached": attached,
}  # fmt: skip
SCREENS: dict[str, Arrive] = {
    "home": home, "checkpoint": checkpoint, "options": options, "check": check, "build": build,
    "failed": failed, "serve": serve, "try": try_, "copy": copying, "confirm": confirm, "help": help_,
}  # fmt: skip


def compare(snap_compare: Any, settings: Settings, go: Arrive, size: tuple[int, int]) -> bool:
    desk = DeskDouble(settings)

    async def arrive(pilot: Pilot[None]) -> None:
        await go(pilot, desk)
        await until(pilot, lambda: not pilot.app.workers)
        await pilot.pause(0.2)

    return bool(snap_compare(make_app(desk), run_before=arrive, terminal_size=size))


@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=["80x24", "160x48"])
@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_looks_as_it_did(
    snap_compare: Any, settings: Settings, name: str, size: tuple[int, int]
) -> None:
    assert compare(snap_compare, settings, SCREENS[name], size)


@pytest.mark.parametrize("size", [(80, 24), (200, 60)], ids=["80x24", "200x60"])
@pytest.mark.parametrize("name", PHASES)
def test_a_phase_of_a_server_looks_as_it_did(
    snap_compare: Any, settings: Settings, name: str, size: tuple[int, int]
) -> None:
    assert compare(snap_compare, settings, PHASES[name], size)


@pytest.mark.parametrize("theme", ["tritondeck-light", "tritondeck-mono"])
@pytest.mark.parametrize("name", ["home", "build"])
def test_a_theme_looks_as_it_did(
    snap_compare: Any, settings: Settings, name: str, theme: str
) -> None:
    themed = replace(settings.screen, theme=theme)
    changed = replace(settings, screen=themed)
    assert compare(snap_compare, changed, SCREENS[name], (120, 36))
