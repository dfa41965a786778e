"""A hub id on the screen: its fetch, and the build that follows it, in one sitting and in two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from console import settings as settings_module
from console.app import TritonDeckApp
from console.desk.desk import Desk
from console.runs.model import RunState
from screens.build import BuildScreen
from screens.check import CheckScreen
from screens.checkpoint import CheckpointScreen
from screens.configure import ConfigureScreen
from screens.error import ErrorScreen
from screens.widgets.options import OptionsForm
from screens.widgets.textview import TextView
from tests.integration.hub_server import Hub, Repository
from tests.screens.conftest import until
from tests.screens.steps import listed, on, shown
from tests.support import ANY_PORTS, Operator, make_doubler

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    operator = Operator(tmp_path_factory.mktemp("screen-hub"))
    yield operator
    operator.leave()


@pytest.fixture(scope="module", autouse=True)
def hub(operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    graph = make_doubler(tmp_path_factory.mktemp("models")).read_bytes()
    repositories = {
        "doubler": Repository({"README.md": b"doubles", "doubler.onnx": graph}),
        "other": Repository({"doubler.onnx": graph}),
        "words": Repository({"README.md": b"no model at all"}),
    }
    with Hub(**repositories) as hub, pytest.MonkeyPatch.context() as patch:
        operator.env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(operator.home / "hf")}
        # The desk reads the cache in this process, its runs inherit the environment.
        for name in ("HF_ENDPOINT", "HF_HOME"):
            patch.setenv(name, operator.env[name])
        yield hub


@asynccontextmanager
async def console(operator: Operator) -> AsyncIterator[Pilot[None]]:
    app = TritonDeckApp(desk_of(operator), start=str(operator.home))
    async with app.run_test(size=(140, 40)) as pilot:
        yield pilot


def desk_of(operator: Operator) -> Desk:
    return Desk(settings_module.load(operator.env))


def title(pilot: Pilot[None]) -> str:
    return shown(pilot.app, "#build-title")  # type: ignore[arg-type]


async def chosen(pilot: Pilot[None], name: str) -> None:
    """From an empty Home to the form of a route for `hub:acme/<name>`."""
    await pilot.press("n")
    await on(pilot, CheckpointScreen)
    await pilot.press("o")
    await until(pilot, lambda: isinstance(pilot.app.focused, Input))
    pilot.app.focused.value = f"hub:acme/{name}"  # type: ignore[union-attr]
    await pilot.press("enter")
    await on(pilot, ConfigureScreen)
    await until(pilot, lambda: pilot.app.screen.query(OptionsForm))
    for port in ("http", "grpc", "metrics"):
        pilot.app.screen.query_one(f"#option-server-{port}_port").query_one(Input).value = "0"
    await until(
        pilot,
        lambda: pilot.app.screen.flow.deployment.server.metrics_port == 0,  # type: ignore[attr-defined]
    )


async def started(pilot: Pilot[None], name: str) -> None:
    await chosen(pilot, name)
    await pilot.press("ctrl+n")
    await on(pilot, CheckScreen)
    await until(pilot, lambda: "nothing blocks" in shown(pilot.app, "#check-title"))  # type: ignore[arg-type]
    await pilot.press("enter")
    await on(pilot, BuildScreen)


async def test_a_watched_fetch_goes_on_to_a_verified_server(operator: Operator, hub: Hub) -> None:
    async with console(operator) as pilot:
        await chosen(pilot, "doubler")
        script = pilot.app.screen.query_one(TextView)
        await until(pilot, lambda: "the first of two plans" in script.text)
        await pilot.press("ctrl+n")
        await on(pilot, CheckScreen)
        await until(pilot, lambda: "nothing blocks" in shown(pilot.app, "#check-title"))  # type: ignore[arg-type]
        hub.open.clear()
        try:
            await pilot.press("enter")
            await on(pilot, BuildScreen)
            await until(pilot, lambda: "run 1" in title(pilot) and "fetch" in title(pilot))
            assert "verified" not in title(pilot)
        finally:
            hub.open.set()
        await until(pilot, lambda: "run 2" in title(pilot))
        await until(pilot, lambda: "✓ verified" in title(pilot), 120)
        assert pilot.app.screen.flow.service  # type: ignore[attr-defined]
    second, first = desk_of(operator).runs("doubler")
    assert (first.state, first.fetches_only) == (RunState.SUCCEEDED, True)
    assert (second.state, second.fetches_only) == (RunState.SUCCEEDED, False)


async def test_a_fetch_that_nobody_watched_is_built_by_enter(operator: Operator) -> None:
    operator.does("deploy", "hub:acme/other", "--name", "other", "--detach", *ANY_PORTS)
    desk = desk_of(operator)
    (run,) = desk.runs("other")
    for view in desk.follow(run.id):
        last = view
    assert last.state is RunState.SUCCEEDED
    async with console(operator) as pilot:
        (await listed(pilot)).choose("other")
        await until(pilot, lambda: "Fetched, not built" in shown(pilot.app, "#home-detail"))  # type: ignore[arg-type]
        await pilot.press("enter")
        await on(pilot, BuildScreen)
        await until(pilot, lambda: "✓ fetched" in title(pilot))
        assert len(desk.runs("other")) == 1
        await pilot.press("enter")
        await until(pilot, lambda: "run 2" in title(pilot))
        await until(pilot, lambda: "✓ verified" in title(pilot), 120)


async def test_two_consoles_that_watch_one_fetch_build_it_once(operator: Operator) -> None:
    desk = desk_of(operator)
    newest, fetch = desk.runs("other")
    assert desk.build_fetched(fetch.id) == newest.id
    assert len(desk.runs("other")) == 2


async def test_a_fetch_without_a_checkpoint_in_it_says_so_and_builds_nothing(
    operator: Operator,
) -> None:
    async with console(operator) as pilot:
        await listed(pilot)
        await started(pilot, "words")
        error = (await on_within(pilot, ErrorScreen)).error
        assert "not a checkpoint" in str(error) or "nothing here says what it is" in str(error)
    assert len(desk_of(operator).runs("words")) == 1


async def on_within(pilot: Pilot[None], screen: type, seconds: float = 60) -> ErrorScreen:
    await until(pilot, lambda: isinstance(pilot.app.screen, screen), seconds)
    found = pilot.app.screen
    assert isinstance(found, ErrorScreen)
    return found
