"""Configure's server, and the server's whole life: what is shown, and what the keys do."""

from __future__ import annotations

from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input, Select

from console.app import TritonDeckApp
from screens.confirm import ConfirmScreen
from screens.widgets.options import OptionRow, OptionsForm
from screens.widgets.words import Words
from tests.screens.conftest import until
from tests.screens.test_tour import on, shown, to_options

SIZE = (120, 40)


def row(app: TritonDeckApp, name: str) -> Any:
    return app.screen.query_one(f"#option-{name.replace('.', '-')}", OptionRow)


def names(app: TritonDeckApp) -> set[str]:
    return {one.option.name for one in app.screen.query(OptionRow)}


def server(app: TritonDeckApp) -> Any:
    return app.screen.flow.deployment.server  # type: ignore[attr-defined]


async def choose(pilot: Pilot[None], name: str, value: str) -> None:
    app: Any = pilot.app
    row(app, name).query_one(Select).value = value
    await until(pilot, lambda: str(getattr(server(app), name.rpartition(".")[2])) == value)


# -- Configure


async def test_a_launcher_shows_its_own_options_and_keeps_the_others(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        assert "server.image" not in names(app) and "server.url" not in names(app)
        await choose(pilot, "server.launcher", "container")
        await until(pilot, lambda: "server.image" in names(app))
        row(app, "server.image").query_one(Input).value = "24.10-py3"
        await until(pilot, lambda: server(app).image == "24.10-py3")
        await choose(pilot, "server.launcher", "attach")
        await until(pilot, lambda: "server.url" in names(app))
        assert "server.image" not in names(app) and "server.http_port" not in names(app)
        assert server(app).image == "24.10-py3"


async def test_a_form_that_changes_keeps_the_cursor(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        row(app, "server.launcher").focus_field()
        await choose(pilot, "server.launcher", "container")
        await until(pilot, lambda: "server.image" in names(app))
        await until(pilot, lambda: app.screen.query_one(OptionsForm).current == "launcher")


async def test_what_holds_a_port_stands_beside_it(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        note = row(app, "server.http_port").query_one(".option-note", Words)
        await until(pilot, lambda: "taken by nginx" in str(note.content))
        row(app, "server.http_port").query_one(Input).value = "0"
        await until(pilot, lambda: "taken by nginx" not in str(note.content))


async def test_every_verdict_on_the_image_is_said_where_the_cursor_is(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        await choose(pilot, "server.launcher", "container")
        await until(pilot, lambda: "server.image" in names(app))
        row(app, "server.image").focus_field()
        await until(pilot, lambda: "will be pulled first" in shown(app, "#option-help"))
        assert "Triton backends: onnxruntime, python" in shown(app, "#option-help")


async def test_joining_a_running_server_leaves_nothing_else_to_choose(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        await choose(pilot, "server.join", "facts")
        await until(pilot, lambda: "server.http_port" not in names(app))
        assert {"server.launcher", "server.join"} < names(app)


async def test_the_server_is_not_exposed_before_the_word_is_typed(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        row(app, "server.expose")._input.value = True
        await on(pilot, ConfirmScreen)
        before: Any = app.screen_stack[-2]
        assert not before.flow.deployment.server.expose and not before.pending
        app.screen.query_one(Input).value = "digits"
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, ConfirmScreen))
        await until(pilot, lambda: server(app).expose)
