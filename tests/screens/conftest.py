"""Fixtures of the screen tests: settings of their own, a still clock, waiting for states."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from textual.css.query import NoMatches
from textual.pilot import Pilot

from console import settings as settings_module
from console.app import TritonDeckApp
from console.desk.desk import Desk
from console.settings import Settings
from tests.screens.desk_double import NOW, DeskDouble


@pytest.fixture(autouse=True)
def _still_terminal() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NO_COLOR", "TEXTUAL_THEME", "TEXTUAL_ANIMATIONS"):
            patch.delenv(name, raising=False)
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()  # what the C library took from the variable stays until it is told


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_module.load({"TRITONDECK_HOME": str(tmp_path / "home"), "HOME": os.devnull})


@pytest.fixture
def desk(settings: Settings) -> DeskDouble:
    return DeskDouble(settings)


@pytest.fixture
def app(desk: DeskDouble) -> TritonDeckApp:
    return make_app(desk)


def make_app(desk: Desk, start: str = "/opt/checkpoints", **more: object) -> TritonDeckApp:
    return TritonDeckApp(
        desk,
        clock=lambda: NOW,
        hostname="gpu-07",
        start=start,
        **more,  # type: ignore[arg-type]
    )


async def until(pilot: Pilot[None], predicate: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for a state; the screens answer from threads, so no number of pauses would be right.

    A widget that is asked for and is not there yet is part of the waiting.
    """

    def held() -> object:
        with suppress(NoMatches):
            return predicate()
        return False

    end = time.monotonic() + seconds
    while not held():
        if time.monotonic() > end:
            raise AssertionError(f"{pilot.app.screen}: the state did not come in {seconds} s")
        await pilot.pause(0.01)
    await pilot.pause()
