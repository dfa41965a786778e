"""Configure's server, and the server's whole life: what is shown, and what the keys do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Select

from console.app import TritonDeckApp
from console.desk.desk import DeploymentView, RouteView
from console.facts import UsageError
from console.planning.deployment import Deployment
from console.services.lifecycle import Phase
from console.settings import Settings
from screens.check import CheckScreen
from screens.confirm import ConfirmScreen
from screens.error import ErrorScreen
from screens.formed import Bound
from screens.serve import ServeScreen
from screens.serve_acts import CHANGING
from screens.widgets.options import OptionRow, OptionsForm
from screens.widgets.table import Listing
from tests.screens.conftest import make_app, until
from tests.screens.desk_double import DeskDouble
from tests.screens.steps import listed, on, point, row, shown, to_options, to_serve
from tests.screens.test_habits import lent

SIZE = (120, 40)


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
        await until(pilot, lambda: "taken by nginx" in row(app, "server.http_port").note.plain)
        row(app, "server.http_port").query_one(Input).value = "0"
        await until(pilot, lambda: "taken by nginx" not in row(app, "server.http_port").note.plain)


async def test_a_verdict_that_comes_late_does_not_hide_what_is_wrong(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        row(app, "server.http_port").query_one(Input).value = "70000"
        await until(pilot, lambda: "65535" in row(app, "server.http_port").note.plain)
        late = desk.server_verdicts(app.screen.flow.deployment)  # type: ignore[attr-defined]
        app.screen.query_one(OptionsForm).judge(late)
        assert "65535" in row(app, "server.http_port").note.plain
        row(app, "server.http_port").query_one(Input).value = "8000"
        await until(pilot, lambda: "taken by nginx" in row(app, "server.http_port").note.plain)


async def test_another_route_forgets_what_was_wrong_in_the_form_before(
    app: TritonDeckApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = DeskDouble.routes

    def both(desk: DeskDouble, checkpoints: Any) -> tuple[RouteView, ...]:
        fits, other = told(desk, checkpoints)
        return fits, replace(other, verdict=fits.verdict)

    monkeypatch.setattr(DeskDouble, "routes", both)
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        row(app, "server.http_port").query_one(Input).value = "70000"
        await until(pilot, lambda: "65535" in row(app, "server.http_port").note.plain)
        screen: Any = app.screen
        screen.query_one(Listing).table.choose("nemo-tensorrt-llm")
        await until(pilot, lambda: screen.flow.deployment.backend == "nemo-tensorrt-llm")
        await until(pilot, lambda: row(app, "server.http_port").value == "8000")
        await pilot.press("ctrl+n")
        await on(pilot, CheckScreen)


async def test_what_is_typed_while_the_form_is_bound_is_kept(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        screen: Any = app.screen
        first, second = {"server.http_port": "9000"}, {"server.grpc_port": "9001"}
        bound, _ = desk.with_options(screen.flow.deployment, first)
        fields, values = desk.form_fields(bound), desk.form_values(bound)
        screen.pending = {**first, **second}
        screen.post_message(Bound(first, bound, (), fields, values))
        await until(pilot, lambda: server(app).http_port == 9000)
        assert screen.pending == second


async def test_half_an_address_is_asked_nothing(
    app: TritonDeckApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, whole, told = set(), "http://lab.example.com", DeskDouble.script

    def script(desk: DeskDouble, deployment: Deployment) -> str:
        asked.add(deployment.server.url)
        return told(desk, deployment)

    monkeypatch.setattr(DeskDouble, "script", script)
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        await choose(pilot, "server.launcher", "attach")
        await until(pilot, lambda: "server.url" in names(app))
        row(app, "server.url").focus_field()
        await until(pilot, lambda: row(app, "server.url").has_focus_within)
        await pilot.press(*whole)
        await until(pilot, lambda: row(app, "server.url").value == whole)
        assert server(app).url == ""
        await pilot.press("enter")
        await until(pilot, lambda: whole in asked)
        assert asked == {"", whole}
        await until(pilot, lambda: not app.screen.pending)  # type: ignore[attr-defined]


async def test_no_script_is_copied_where_there_is_none(
    app: TritonDeckApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        screen: Any = app.screen
        await until(pilot, lambda: screen.text.startswith("#!"))

        def none_yet(desk: DeskDouble, deployment: object) -> str:
            raise UsageError("the checkpoint has gone", fix="choose another one")

        monkeypatch.setattr(DeskDouble, "script", none_yet)
        row(app, "server.http_port").query_one(Input).value = "9000"
        await until(pilot, lambda: "none yet" in shown(app, "#script-title"))
        assert screen.text.startswith("# no script yet: the checkpoint has gone")


def test_a_change_of_one_option_never_stands_in_for_that_of_another() -> None:
    port = OptionsForm.Changed({"server.http_port": "90"})
    assert not port.can_replace(OptionsForm.Changed({"server.grpc_port": "91"}))
    assert port.can_replace(OptionsForm.Changed({"server.http_port": "900"}))


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


# -- Serve


async def test_a_rollback_asks_first_and_says_what_answers(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_serve(pilot, desk)
        assert "● 3 live" in shown(app, "#serve-facts")
        await pilot.press("b")
        await on(pilot, ConfirmScreen)
        assert "rollback digits" not in desk.calls
        await pilot.press("enter")
        await on(pilot, ServeScreen)
        await until(pilot, lambda: "● 2 live" in shown(app, "#serve-facts"))


async def test_removing_the_models_is_refused_in_words(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    desk.needed = True
    async with app.run_test(size=SIZE) as pilot:
        await to_serve(pilot, desk)
        await pilot.press("delete")
        await on(pilot, ConfirmScreen)
        await pilot.press("enter")
        error = (await on(pilot, ErrorScreen)).error
        assert "another model needs it" in error.title


@pytest.mark.parametrize(("contained", "place"), [(False, ""), (True, " container")])
async def test_a_shell_opens_where_the_server_runs(
    app: TritonDeckApp,
    desk: DeskDouble,
    monkeypatch: pytest.MonkeyPatch,
    contained: bool,
    place: str,
) -> None:
    desk.contained = contained
    async with app.run_test(size=SIZE) as pilot:
        await to_serve(pilot, desk)
        with lent(app, monkeypatch):
            await pilot.press("exclamation_mark")
            await until(pilot, desk.log.with_name("entered").exists)
    assert f"shell digits{place}" in desk.calls


async def test_a_crash_says_its_cause_and_what_to_do(app: TritonDeckApp, desk: DeskDouble) -> None:
    desk.phase = Phase.CRASHED
    async with app.run_test(size=SIZE) as pilot:
        await to_server(pilot)
        await until(pilot, lambda: "✕ crashed" in shown(app, "#serve-title"))
        facts = shown(app, "#serve-facts")
        assert "want of memory" in facts and "raise server.memory" in facts
        assert "2 times within the hour" in facts


async def test_a_reason_that_its_row_has_no_room_for_stands_above_whatever_the_width(
    app: TritonDeckApp,
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_server(pilot)
        app.screen.query_one(Listing).table.choose("clip")

        def stands() -> bool:
            return "no onnxruntime backend" in shown(app, "#serve-facts")

        await until(pilot, lambda: app.screen.model == "clip" and not stands())  # type: ignore[attr-defined]
        await pilot.resize_terminal(80, 24)
        await until(pilot, stands)
        await pilot.resize_terminal(*SIZE)
        await until(pilot, lambda: not stands())


async def test_no_reason_stands_above_its_row_before_the_row_has_a_width(
    app: TritonDeckApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would push the list down for a frame."""
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await to_server(pilot)
        table = screen.query_one(Listing).table
        table.choose("clip")
        await until(pilot, lambda: "no onnxruntime backend" in shown(app, "#serve-facts"))
        monkeypatch.setattr(table, "width_of", lambda column: 0)
        screen.draw()
        assert "no onnxruntime backend" not in shown(app, "#serve-facts")


async def test_the_container_of_a_server_is_named(app: TritonDeckApp, desk: DeskDouble) -> None:
    desk.contained = True
    async with app.run_test(size=SIZE) as pilot:
        await to_server(pilot)
        await until(pilot, lambda: "tritonserver:26.07-py3" in shown(app, "#serve-facts"))
        assert "docker Triton" in shown(app, "#serve-title")


@pytest.mark.parametrize("control", [False, True])
async def test_an_attached_server_is_only_looked_at_unless_it_may_be_controlled(
    app: TritonDeckApp, desk: DeskDouble, control: bool
) -> None:
    desk.control = control
    async with app.run_test(size=SIZE) as pilot:
        await point(pilot, "attached:lab")
        await pilot.press("enter")
        screen = await on(pilot, ServeScreen)
        await until(pilot, lambda: screen.query_one(Listing).table.row_count)
        assert screen.allowed("unload") is control
        assert not screen.allowed("stop") and not screen.allowed("shell")


async def test_nothing_of_a_server_can_be_changed_when_only_reading(settings: Settings) -> None:
    app = make_app(DeskDouble(replace(settings, readonly=True)))
    async with app.run_test(size=SIZE) as pilot:
        screen = await to_server(pilot)
        await until(pilot, lambda: screen.server)
        assert not any(screen.allowed(action) for action in CHANGING)


async def to_server(pilot: Pilot[None]) -> ServeScreen:
    """From Home, where the first deployment serves."""
    await listed(pilot)
    await pilot.press("enter")
    screen: ServeScreen = await on(pilot, ServeScreen)
    return screen


# -- Home


async def test_an_unreadable_list_of_attached_servers_is_a_row(
    app: TritonDeckApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: DeskDouble) -> None:
        raise UsageError("cannot read servers.toml", why="line 3: no url")

    monkeypatch.setattr(DeskDouble, "attached", broken)
    async with app.run_test(size=SIZE) as pilot:
        await point(pilot, "attached:")
        await until(pilot, lambda: "line 3: no url" in shown(app, "#home-detail"))


async def test_a_server_in_trouble_is_no_serving_one(
    app: TritonDeckApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = DeskDouble._saved

    def troubled(self: DeskDouble) -> tuple[DeploymentView, ...]:
        first, *rest = whole(self)
        return (replace(first, trouble="digits no longer answers"), *rest)

    monkeypatch.setattr(DeskDouble, "_saved", troubled)
    async with app.run_test(size=SIZE) as pilot:
        table = await listed(pilot)
        await until(pilot, lambda: "▲ degraded" in str(table.get_row_at(0)[0]))
        await until(pilot, lambda: "no longer answers" in shown(app, "#home-detail"))
