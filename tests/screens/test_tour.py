"""The guided path with a pilot: every screen, what it shows, and what its keys do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from console.app import TritonDeckApp
from console.desk.desk import DeploymentView
from console.facts import UsageError
from console.runs.model import RunState
from console.settings import Settings
from screens.build import BuildScreen
from screens.check import CheckScreen
from screens.checkpoint import CheckpointScreen
from screens.configure import ConfigureScreen
from screens.confirm import ConfirmScreen
from screens.error import ErrorScreen
from screens.flow import Flow, Stage
from screens.help import HelpScreen
from screens.home import HomeScreen
from screens.serve import ServeScreen
from screens.try_ import TryScreen
from screens.viewer import TextScreen
from screens.widgets.fields import TextField
from screens.widgets.logview import LogView
from screens.widgets.options import OptionRow
from screens.widgets.table import DeckTable, Listing
from screens.widgets.textview import TextView
from tests.screens.conftest import make_app, until
from tests.screens.desk_double import DeskDouble
from tests.screens.steps import (
    filtered,
    listed,
    on,
    shown,
    to_build,
    to_check,
    to_checkpoint,
    to_options,
    to_serve,
    to_try,
)

SIZE = (120, 36)


async def test_the_whole_path_ends_with_an_answer(app: TritonDeckApp, desk: DeskDouble) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_try(pilot, desk)
        await pilot.press("enter")
        await until(pilot, lambda: "seven three one" in shown(app, "#answers"))
        assert "38 ms" in shown(app, "#answers")
    assert desk.calls == ["deploy digits", "infer digits"]


async def test_home_says_why_the_chosen_deployment_failed(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        (await listed(pilot)).move_cursor(row=2)
        await until(pilot, lambda: "/dev/shm is 64 MiB" in shown(app, "#home-detail"))
        assert "--shm-size=4g" in shown(app, "#home-detail")


async def test_home_opens_a_serving_deployment_at_its_server(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("enter")
        await on(pilot, ServeScreen)
        await pilot.press("escape", "escape")
        await on(pilot, HomeScreen)


async def test_an_empty_home_teaches_the_first_key(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeskDouble, "deployments", lambda self: ())
    monkeypatch.setattr(DeskDouble, "attached", lambda self: ())
    app = make_app(DeskDouble(settings))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.screen.query_one(Listing).has_class("-empty"))
        assert "n to choose a checkpoint" in shown(app, ".empty")


async def test_the_filter_leaves_the_names_that_hold_its_text(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_checkpoint(pilot, 0)
        await filtered(pilot, "llama")
        table = app.screen.query_one(Listing).table
        await until(pilot, lambda: table.row_count == 2)
        await pilot.press("escape")
        await until(pilot, lambda: table.row_count == 7)


async def test_digits_go_into_a_text_field_and_not_to_a_step(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        await pilot.press("tab")
        await until(pilot, lambda: isinstance(app.focused, Input))
        await pilot.press("1")
        assert isinstance(app.screen, ConfigureScreen)
        assert isinstance(app.focused, Input)
        await pilot.press("alt+1")
        await on(pilot, CheckpointScreen)


async def test_an_invalid_option_is_said_at_its_field_and_stops_the_way_on(
    app: TritonDeckApp,
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        await pilot.press("tab")
        row = app.screen.query_one("#option-opset", OptionRow)
        await until(pilot, lambda: row.has_focus_within)
        await pilot.press("9", "9")
        await until(pilot, lambda: "less than or equal to 21" in row.note.plain)
        await pilot.press("ctrl+n")
        await pilot.pause()
        assert isinstance(app.screen, ConfigureScreen)


async def test_the_script_follows_the_options(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        app.screen.query_one("#option-max_batch_size").query_one(Input).value = "32"
        script = app.screen.query_one(TextView)
        await until(pilot, lambda: "32 \\" in script.text)


async def test_options_survive_going_back_and_forth(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        app.screen.query_one("#option-max_batch_size").query_one(Input).value = "32"
        await until(pilot, lambda: app.screen.flow.deployment.options["max_batch_size"] == 32)  # type: ignore[attr-defined]
        await pilot.press("ctrl+n")
        await on(pilot, CheckScreen)
        await pilot.press("3")
        await on(pilot, ConfigureScreen)
        await until(pilot, lambda: app.screen.query("#option-max_batch_size"))
        assert app.screen.query_one("#option-max_batch_size").query_one(Input).value == "32"


async def test_a_failing_check_stops_the_build_until_it_is_accepted_by_name(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    desk.blocks = True
    async with app.run_test(size=SIZE) as pilot:
        await to_check(pilot)
        await pilot.press("ctrl+n")
        await pilot.pause()
        assert desk.calls == []
        await pilot.press("a")
        await on(pilot, ConfirmScreen)
        await pilot.press(*"wrong", "enter")
        await on(pilot, ConfirmScreen)
        app.screen.query_one(TextField).value = "shared-memory"
        await pilot.press("enter")
        await on(pilot, CheckScreen)
        await until(pilot, lambda: "nothing blocks" in shown(app, "#check-title"))
        await pilot.press("enter")
        await on(pilot, BuildScreen)


async def test_a_verdict_leads_to_its_option(app: TritonDeckApp, desk: DeskDouble) -> None:
    desk.blocks = True
    async with app.run_test(size=SIZE) as pilot:
        await to_check(pilot)
        await pilot.press("f")
        await on(pilot, ConfigureScreen)
        await until(pilot, lambda: app.screen.query_one("#option-instances").has_focus_within)


async def test_leaving_the_build_ends_nothing(app: TritonDeckApp, desk: DeskDouble) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_build(pilot)
        assert "you may leave" in shown(app, "#build-title")
        await pilot.press("escape")
        await on(pilot, HomeScreen)
    assert desk.calls == ["deploy digits"]


async def test_cancel_asks_first_and_retry_continues(app: TritonDeckApp, desk: DeskDouble) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_build(pilot)
        await pilot.press("c")
        await on(pilot, ConfirmScreen)
        await pilot.press("escape")
        await on(pilot, BuildScreen)
        assert "cancel run-1" not in desk.calls
        await pilot.press("c")
        await on(pilot, ConfirmScreen)
        await pilot.press("enter")
        await on(pilot, BuildScreen)
        await until(pilot, lambda: "cancelled" in shown(app, "#build-title"))
        await pilot.press("r")
        await until(pilot, lambda: "building" in shown(app, "#build-title"))
    assert desk.calls == ["deploy digits", "cancel run-1", "retry run-1"]


async def test_a_failed_run_says_why_and_what_next(app: TritonDeckApp, desk: DeskDouble) -> None:
    desk.run_state = RunState.FAILED
    async with app.run_test(size=SIZE) as pilot:
        await to_build(pilot)
        await until(pilot, lambda: "differs from PyTorch" in shown(app, "#step-detail"))
        assert "→ export with opset 17" in shown(app, "#step-detail")


async def test_the_server_is_stopped_only_after_a_yes(app: TritonDeckApp, desk: DeskDouble) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_serve(pilot, desk)
        assert "● serving" in shown(app, "#serve-title")
        assert "● live" in shown(app, "#serve-facts")
        assert "ssh -N -L 8000:127.0.0.1:8000 operator@gpu-07" in shown(app, "#serve-facts")
        await pilot.press("x")
        await on(pilot, ConfirmScreen)
        await pilot.press("enter")
        await on(pilot, ServeScreen)
        await until(pilot, lambda: "stopped" in shown(app, "#serve-title"))
    assert "stop svc-1" in desk.calls


async def test_a_model_is_loaded_by_its_row(app: TritonDeckApp, desk: DeskDouble) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_serve(pilot, desk)
        app.screen.query_one(Listing).table.move_cursor(row=2)
        await pilot.press("l")
        await until(pilot, lambda: "load clip" in desk.calls)


async def test_a_request_is_shown_as_curl_and_python_and_copied(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_try(pilot, desk)
        await pilot.press("ctrl+y")
        await on(pilot, TextScreen)
        assert "curl -sS" in app.screen.query_one(TextView).text
        await pilot.press("tab")
        await pilot.press("y")
        await until(pilot, lambda: app.clipboard.startswith("import tritonclient"))


async def test_an_error_says_what_why_and_what_next(app: TritonDeckApp, desk: DeskDouble) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_try(pilot, desk)
        app.focused.value = ""  # type: ignore[union-attr]
        await pilot.press("enter")
        screen = await on(pilot, ErrorScreen)
        assert screen.error.title == "no sound file is given"
        await pilot.press("enter")
        await on(pilot, TryScreen)


async def test_a_defect_of_ours_is_a_message_and_a_private_file(
    app: TritonDeckApp, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: DeskDouble) -> tuple[DeploymentView, ...]:
        canary = "hf_" + "a" * 30
        raise ZeroDivisionError(canary)

    monkeypatch.setattr(DeskDouble, "deployments", broken)
    async with app.run_test(size=SIZE) as pilot:
        screen = await on(pilot, ErrorScreen)
        assert "mistake" in screen.error.title
    (saved,) = settings.folders.crashes.iterdir()
    assert saved.stat().st_mode & 0o777 == 0o600
    assert "ZeroDivisionError" in saved.read_text()
    assert "hf_aaa" not in saved.read_text() + screen.error.raw


async def test_help_names_the_keys_of_what_has_focus(app: TritonDeckApp, desk: DeskDouble) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_build(pilot)
        app.screen.query_one(LogView).focus()
        await pilot.press("question_mark")
        await on(pilot, HelpScreen)
        words = " ".join(str(w.content) for w in app.screen.query(Static))
        assert "straight from its file" in words
        keys = app.screen.query_one(DeckTable)
        rows = [" ".join(str(c) for c in keys.get_row_at(n)) for n in range(keys.row_count)]
        assert any("Follow the end of the log" in row for row in rows)


async def test_the_palette_offers_only_what_applies_now(app: TritonDeckApp) -> None:
    from console.commands import DeckCommands

    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        names = [hit.text async for hit in DeckCommands(app.screen).discover()]  # type: ignore[union-attr]
        assert "home: new" in names
        assert "go: 1 Checkpoint" in names
        assert not any(name and name.startswith(("build:", "go: 5")) for name in names)
        assert "theme: mono" in names


DANGEROUS = {
    "forget",
    "clone",
    "edit_file",
    "accept",
    "build",
    "cancel",
    "retry",
    "load",
    "unload",
    "stop",
    "save",
}


async def test_readonly_has_no_dangerous_action_on_any_screen(settings: Settings) -> None:
    desk = DeskDouble(replace(settings, readonly=True))
    desk.blocks = True
    deployment = desk.open("digits")
    flow = Flow(deployment=deployment, name="digits", run="run-1", service="svc-1")
    app = make_app(desk, flow=flow, stage=Stage.CHECK)
    async with app.run_test(size=SIZE) as pilot:
        for stage in (Stage.CHECK, Stage.BUILD, Stage.SERVE, Stage.OPTIONS, Stage.HOME):
            app.screen.go(stage, flow)  # type: ignore[attr-defined]
            await until(pilot, lambda stage=stage: app.screen.stage is stage)  # type: ignore[attr-defined,misc]
            if stage is not Stage.OPTIONS:
                await listed(pilot)
            offered = {a.binding.action for a in app.screen.active_bindings.values()}
            assert not offered & DANGEROUS, stage


async def test_every_binding_has_an_id_and_a_tooltip(app: TritonDeckApp) -> None:
    from textual.binding import Binding

    from console.app import _SCREENS
    from screens.base import FRAME_BINDINGS, DeckScreen
    from screens.widgets.logview import LogView as Log

    classes: list[Any] = [
        HomeScreen,
        CheckpointScreen,
        ConfigureScreen,
        CheckScreen,
        BuildScreen,
        ServeScreen,
        TryScreen,
        DeckScreen,
        Log,
        DeckTable,
        TextScreen,
        ErrorScreen,
        ConfirmScreen,
    ]
    assert len(_SCREENS) == 7
    for binding in [*FRAME_BINDINGS, *(b for c in classes for b in c.BINDINGS)]:
        assert isinstance(binding, Binding)
        assert binding.id, binding
        assert binding.tooltip, binding


async def test_a_log_is_followed_until_the_reader_scrolls_up(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_build(pilot)
        log = app.screen.query_one(LogView)
        await until(pilot, lambda: log.lines > 30 and log.scroll_offset.y == log.max_scroll_y)
        log.focus()
        await pilot.press("pageup")
        await until(pilot, lambda: not log.following)
        with desk.log.open("a") as out:
            out.write("more\n" * 5)
        await until(pilot, lambda: log.pending == 5)
        await pilot.press("f")
        await until(pilot, lambda: log.pending == 0 and log.scroll_offset.y == log.max_scroll_y)


async def test_a_search_goes_to_its_hit(app: TritonDeckApp, desk: DeskDouble) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_build(pilot)
        log = app.screen.query_one(LogView)
        await until(pilot, lambda: log.lines > 30)
        log.focus()
        await filtered(pilot, "layer 7")
        await pilot.press("enter")
        await until(pilot, lambda: "at line 9" in log.note)
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: "warning or error at line 7" in log.note)


async def test_keys_can_be_changed_in_the_settings(settings: Settings) -> None:
    screen = replace(settings.screen, keymap={"home.new": "insert"})
    app = make_app(DeskDouble(replace(settings, screen=screen)))
    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("insert")
        await on(pilot, CheckpointScreen)


async def drawn(pilot: Pilot[None], seconds: float) -> list[object]:
    """What is sent in `seconds`, once the screen has come to rest."""
    sent: list[object] = []
    original = pilot.app._display

    def display(screen: Any, renderable: Any) -> None:
        if renderable is not None:
            sent.append(renderable)
        original(screen, renderable)

    pilot.app._display = display  # type: ignore[method-assign]
    for _ in range(20):
        sent.clear()
        await pilot.pause(0.4)
        if not sent and not pilot.app.workers:  # an answer that is late is drawn when it comes
            break
    await pilot.pause(seconds)
    return sent


@pytest.mark.parametrize("arrive", [to_check, to_checkpoint, to_options, listed])
async def test_a_screen_where_nothing_changes_draws_nothing(
    app: TritonDeckApp, arrive: Any
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await arrive(pilot)
        assert await drawn(pilot, 2.5) == []


async def test_an_error_while_polling_is_shown_once(
    app: TritonDeckApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(self: DeskDouble) -> tuple[DeploymentView, ...]:
        raise UsageError("the state folder cannot be read", fix="chmod it")

    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        monkeypatch.setattr(DeskDouble, "deployments", unreadable)
        await on(pilot, ErrorScreen)
        await pilot.pause(2.5)
        assert len(app.screen_stack) == 2
