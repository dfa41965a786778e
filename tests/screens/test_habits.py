"""Habits that hold on every screen: filter, jump, palette, help, pager, editor, compare, notices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input
from textual.worker import get_current_worker

from console.app import TritonDeckApp
from console.commands import DeckCommands
from console.desk.views import DiffEntry, DiffView
from console.runs.model import RunState
from console.services.model import ServiceState, ServiceView
from console.settings import Settings
from screens import outside
from screens.asking import AskScreen
from screens.check import CheckScreen
from screens.checkpoint import CheckpointScreen
from screens.configure import ConfigureScreen
from screens.confirm import ConfirmScreen
from screens.error import ErrorScreen
from screens.files import FileScreen
from screens.help import HelpScreen
from screens.home import HomeScreen
from screens.jump import JumpScreen
from screens.serve import ServeScreen
from screens.viewer import TextScreen
from screens.widgets.logview import LogView
from screens.widgets.options import OptionRow, OptionsForm
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
)
from tests.screens.test_poison import shown_everywhere

SIZE = (120, 36)


def rows_of(table: DeckTable) -> list[str]:
    return [" ".join(str(c) for c in table.get_row_at(n)) for n in range(table.row_count)]


# -- filter


@pytest.mark.parametrize(
    ("arrive", "text", "left"),
    [(listed, "nemo-tensor", 1), (to_check, "libpython", 1), (to_build, "export", 1)],
    ids=["home", "check", "build"],
)
async def test_a_list_is_filtered_by_any_of_its_columns(
    app: TritonDeckApp, arrive: Any, text: str, left: int
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await arrive(pilot)
        table = app.screen.query_one(Listing).table
        every = table.row_count
        await filtered(pilot, text)
        await until(pilot, lambda: table.row_count == left)
        await pilot.press("enter")
        assert app.focused is table
        await pilot.press("escape")
        await until(pilot, lambda: table.row_count == every)


async def test_a_filter_that_leaves_nothing_says_so_and_names_the_key_back(
    app: TritonDeckApp,
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_checkpoint(pilot)
        await until(pilot, lambda: shown(app, "#detail"))
        await filtered(pilot, "nowhere")
        await until(pilot, lambda: "No row holds this text" in shown_everywhere(app))
        await until(pilot, lambda: not shown(app, "#detail"))
        assert "All rows" in shown_everywhere(app)
        await pilot.press("escape")
        await until(pilot, lambda: shown(app, "#detail"))


async def test_a_file_is_found_by_the_filter(app: TritonDeckApp, tmp_path: Path) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    for name in ("one.wav", "two.wav"):
        (sounds / name).touch()
    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        app.push_screen(FileScreen(sounds, (".wav",)))
        await on(pilot, FileScreen)
        table = app.screen.query_one(Listing).table
        await until(pilot, lambda: table.row_count == 3)
        await filtered(pilot, "two")
        await until(pilot, lambda: rows_of(table)[0].strip() == "two.wav")


# -- jump mode


async def test_jump_mode_goes_to_the_place_with_the_letter(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_build(pilot)
        await pilot.press("ctrl+o")
        jump = await on(pilot, JumpScreen)
        letter = next(key for key, widget in jump._places.items() if isinstance(widget, LogView))
        await pilot.press(letter)
        await until(pilot, lambda: isinstance(app.focused, LogView))


async def test_jump_mode_can_be_left_where_it_was(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        table = await listed(pilot)
        await pilot.press("ctrl+o")
        await on(pilot, JumpScreen)
        await pilot.press("escape")
        await until(pilot, lambda: app.focused is table)


# -- palette and help


async def palette(app: TritonDeckApp) -> list[str]:
    provider = DeckCommands(app.screen)  # type: ignore[arg-type]
    return [str(hit.text) async for hit in provider.discover()]


async def test_the_palette_names_deployments_options_and_the_focused_log(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        assert "deployment: open digits" in await palette(app)
        await to_options(pilot)
        assert "option: server, http port" in await palette(app)
        await pilot.press("ctrl+n")
        await on(pilot, CheckScreen)
        await listed(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.query(LogView))
        app.screen.query_one(LogView).focus()
        await until(pilot, lambda: isinstance(app.focused, LogView))
        assert "log: follow" in await palette(app)
        assert all(": " in name for name in await palette(app))


async def test_an_option_is_reached_from_the_palette(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        calls = {name: call for name, call, _ in app.screen.commands()}  # type: ignore[attr-defined]
        calls["option: server, load time limit"]()
        form = app.screen.query_one(OptionsForm)
        await until(pilot, lambda: form.current == "load_timeout")


async def test_help_explains_the_option_under_the_cursor(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        await pilot.press("tab")
        await until(pilot, lambda: app.screen.query_one(OptionsForm).current == "opset")
        app.screen.action_help()  # type: ignore[attr-defined]
        await on(pilot, HelpScreen)
        table = app.screen.query_one(DeckTable)
        await until(pilot, lambda: any("opset" in row for row in rows_of(table)))


async def test_help_explains_the_check_under_the_cursor(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_check(pilot)
        await pilot.press("question_mark")
        await on(pilot, HelpScreen)
        table = app.screen.query_one(DeckTable)
        await until(pilot, lambda: any("port-*" in row for row in rows_of(table)))


async def test_enter_shows_the_server_that_waits_for_its_restart(
    app: TritonDeckApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = DeskDouble.service

    def restarting(desk: DeskDouble, name: str) -> ServiceView:
        return replace(served(desk, name), state=ServiceState.RESTARTING, uptime=None)

    monkeypatch.setattr(DeskDouble, "service", restarting)
    async with app.run_test(size=SIZE) as pilot:
        (await listed(pilot)).choose("digits")
        await pilot.press("enter")
        await on(pilot, ServeScreen)


# -- what is asked again and again


async def test_an_answer_that_takes_longer_than_the_pause_between_two_looks_still_comes(
    app: TritonDeckApp,
) -> None:
    ticks, answers = threading.Semaphore(0), []
    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        screen: Any = app.screen

        def slow() -> None:
            for _ in range(5):
                ticks.acquire(timeout=30)
            if not get_current_worker().is_cancelled:
                answers.append("here")

        screen.every(0.01, lambda: screen.run_worker(slow, thread=True, exclusive=True, group="x"))
        screen.every(0.01, ticks.release)
        await until(pilot, lambda: answers)
    ticks.release(1000)  # a look still under way would wait for ticks that nobody gives any more


# -- the operator's own programs


@contextmanager
def lent(app: TritonDeckApp, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A terminal that can be lent: there is none in a headless test."""

    @contextmanager
    def suspend() -> Iterator[None]:
        yield

    monkeypatch.setattr(app, "suspend", suspend)
    yield


async def test_a_log_opens_in_the_pager(
    app: TritonDeckApp, desk: DeskDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    monkeypatch.setenv("PAGER", f"cp -t {tmp_path}")
    async with app.run_test(size=SIZE) as pilot:
        await to_build(pilot)
        with lent(app, monkeypatch):
            await pilot.press("e")
            await until(pilot, lambda: (tmp_path / desk.log.name).exists())
    assert (tmp_path / desk.log.name).read_bytes() == desk.log.read_bytes()
    assert not seen.exists()


async def test_a_terminal_that_cannot_be_lent_is_said_in_words(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_build(pilot)
        await pilot.press("e")
        error = (await on(pilot, ErrorScreen)).error
        assert "lent" in error.title


def test_the_pager_is_the_operators_or_one_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "cat -A")
    assert outside.pager() == ["cat", "-A"]
    monkeypatch.setenv("PAGER", "no-such-program")
    assert Path(outside.pager()[0]).name in ("less", "more", "cat")


async def test_a_deployment_is_edited_in_the_editor_and_saved(
    app: TritonDeckApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    saved: list[str] = []
    file = tmp_path / "digits.toml"
    file.write_text("one\n")
    monkeypatch.setattr(DeskDouble, "deployment_text", lambda self, name: "one\n")
    monkeypatch.setattr(DeskDouble, "draft_file", lambda self, name, text: file)
    monkeypatch.setattr(
        DeskDouble, "replace_text", lambda self, name, text, before: saved.append(text)
    )
    monkeypatch.setenv("VISUAL", "sed -i s/one/two/")
    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        with lent(app, monkeypatch):
            await pilot.press("e")
            await until(pilot, lambda: saved)
    assert saved == ["two\n"]


# -- clone and compare


async def test_a_clone_asks_for_its_name(
    app: TritonDeckApp, desk: DeskDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        DeskDouble, "clone", lambda self, name, new: self.calls.append(f"clone {name} {new}")
    )
    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("c")
        await on(pilot, AskScreen)
        app.screen.query_one(Input).value = "digits-gpu"
        await pilot.press("enter")
        await until(pilot, lambda: "clone digits digits-gpu" in desk.calls)


async def test_two_deployments_are_compared(
    app: TritonDeckApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        DeskDouble,
        "diff",
        lambda self, left, right: DiffView(
            left, right, (DiffEntry("options", "opset", "17", "18"),), "-17\n+18\n"
        ),
    )
    async with app.run_test(size=SIZE) as pilot:
        table = await listed(pilot)
        await pilot.press("space", "down")
        await until(pilot, lambda: any("digits ▸" in row for row in rows_of(table)))
        await pilot.press("v")
        screen = await on(pilot, TextScreen)
        text = screen.query_one(TextView).text
        assert "opset" in text
        assert "17  →  18" in text


# -- notices


async def test_the_end_of_a_long_run_rings_and_notifies(
    app: TritonDeckApp, desk: DeskDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    bells: list[int] = []
    monkeypatch.setattr(app, "bell", lambda: bells.append(1))
    async with app.run_test(size=SIZE) as pilot:
        await to_build(pilot)
        monkeypatch.setattr(app._driver, "write", sent.append)
        desk.run_state = RunState.SUCCEEDED
        await until(pilot, lambda: "verified" in shown(app, "#build-title"))
        await until(pilot, lambda: app._notifications)
    assert "\x1b]9;tritondeck: digits succeeded after 11 min 20 s\x1b\\" in sent
    assert bells == [1]


async def test_a_short_run_ends_without_a_notice(settings: Settings) -> None:
    quiet = replace(settings.notify, after=3600.0)
    desk = DeskDouble(replace(settings, notify=quiet))
    app = make_app(desk)
    async with app.run_test(size=SIZE) as pilot:
        await to_build(pilot)
        desk.run_state = RunState.SUCCEEDED
        await until(pilot, lambda: "verified" in shown(app, "#build-title"))
        assert not app._notifications


# -- the log's figures


async def test_the_log_header_counts_warnings_and_errors(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_build(pilot)
        await until(pilot, lambda: "1 warning" in shown(app, ".log-title"))
        with desk.log.open("a") as out:
            out.write("RuntimeError: no room\nW0102 03:04 late\n")
        await until(pilot, lambda: "1 error  2 warnings" in shown(app, ".log-title"))


# -- a verdict's own field, exposure, the tour


async def test_enter_on_a_failing_check_goes_to_its_field(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    desk.blocks = True
    async with app.run_test(size=SIZE) as pilot:
        await to_check(pilot)
        await pilot.press("enter")
        await on(pilot, ConfigureScreen)
        await until(pilot, lambda: app.screen.query(OptionsForm))
        await until(pilot, lambda: app.screen.query_one(OptionsForm).current == "instances")


async def test_a_server_port_is_changed_in_the_form(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        port = app.screen.query_one("#option-server-http_port").query_one(Input)
        port.value = "70000"
        row = app.screen.query_one("#option-server-http_port", OptionRow)
        await until(pilot, lambda: "65535" in row.note.plain)
        port.value = "9000"
        await until(pilot, lambda: app.screen.flow.deployment.server.http_port == 9000)  # type: ignore[attr-defined]


@pytest.mark.parametrize("typed", ["digits", "wrong"])
async def test_exposing_the_server_needs_the_name_typed(app: TritonDeckApp, typed: str) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        row: Any = app.screen.query_one("#option-server-expose")
        row._input.value = True
        await on(pilot, ConfirmScreen)
        app.screen.query_one(Input).value = typed
        await pilot.press("enter")
        if typed == "wrong":
            await pilot.press("escape")
        await on(pilot, ConfigureScreen)
        await until(pilot, lambda: row._input.value is (typed == "digits"))


async def test_the_tour_explains_each_step_on_its_screen(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("t")
        await on(pilot, CheckpointScreen)
        assert app.screen.flow.folder.endswith("examples/digits")  # type: ignore[attr-defined]
        await until(pilot, lambda: "A trained model on disk" in shown(app, "#tour"))
        (await listed(pilot)).move_cursor(row=6)
        await pilot.press("enter")
        await on(pilot, ConfigureScreen)
        await until(pilot, lambda: "A route is one way" in shown(app, "#tour"))
        await until(pilot, lambda: app.screen.query(OptionsForm))
        await pilot.press("enter")
        await until(pilot, lambda: "Go on with ctrl+n" in shown(app, "#tour"))


async def test_the_tour_of_an_installation_says_where_its_model_is(
    app: TritonDeckApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("console.__path__", [str(tmp_path / "site-packages" / "console")])
    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("t")
        await on(pilot, CheckpointScreen)
        await until(pilot, lambda: "comes with tritondeck's source" in shown(app, "#tour"))


async def test_an_empty_home_keeps_its_keys_after_the_tour(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeskDouble, "deployments", lambda self: ())
    monkeypatch.setattr(DeskDouble, "attached", lambda self: ())
    app = make_app(DeskDouble(settings))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.screen.query_one(Listing).has_class("-empty"))
        await pilot.press("t")
        await on(pilot, CheckpointScreen)
        await listed(pilot)
        await pilot.press("escape")
        await on(pilot, HomeScreen)
        await pilot.press("n")
        await on(pilot, CheckpointScreen)


async def test_outside_the_tour_no_screen_explains_itself(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_check(pilot)
        assert not app.screen.query("#tour")


async def test_a_small_terminal_shows_why_a_run_failed(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    desk.run_state = RunState.FAILED
    async with app.run_test(size=(80, 24)) as pilot:
        await to_build(pilot)
        await until(pilot, lambda: "differs from PyTorch" in shown(app, "#step-detail"))
        detail = app.screen.query_one("#step-detail")
        # The reason is the second line of it; the log's title comes after its last.
        await until(pilot, lambda: detail.region.height >= 3)
        assert detail.region.bottom <= app.screen.query_one("#log").region.y


async def test_only_a_model_that_is_not_ready_can_be_loaded(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_serve(pilot, desk)

        def offered() -> set[str]:
            return {a.binding.action for a in app.screen.active_bindings.values()}

        await until(pilot, lambda: "unload" in offered() and "load" not in offered())
        app.screen.query_one(Listing).table.move_cursor(row=2)
        await until(pilot, lambda: "load" in offered() and "unload" not in offered())


async def test_jump_letters_stand_on_the_screen_that_they_belong_to(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("ctrl+o")
        await on(pilot, JumpScreen)
        await pilot.pause()
        assert "Deployments" in app.export_screenshot()


async def test_a_question_leaves_what_it_is_about_in_sight(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("x")
        await on(pilot, ConfirmScreen)
        await pilot.pause()
        assert "Deployments" in app.export_screenshot()


@pytest.mark.parametrize("theme", ["tritondeck-dark", "tritondeck-light", "tritondeck-mono"])
async def test_what_stands_in_a_focused_field_can_be_read(app: TritonDeckApp, theme: str) -> None:
    async with app.run_test(size=SIZE) as pilot:
        app.theme = theme
        await to_options(pilot)
        await pilot.press("tab")
        await until(pilot, lambda: isinstance(app.focused, Input))
        field = app.focused
        assert field is not None
        written = field.get_component_styles("input--selection")
        for styles in (field.styles, written):
            ground = field.background_colors[1].blend(styles.background, styles.background.a)
            assert abs(styles.color.brightness - ground.brightness) > 0.3


def colour(row: OptionRow) -> object:
    """Of the first letter that is on the screen at the row's place."""
    x, y = row.content_region.offset
    style = row.screen.get_style_at(x, y)
    return style.color


async def test_the_label_of_the_field_with_the_cursor_is_marked(app: TritonDeckApp) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await to_options(pilot)
        await pilot.press("tab")
        await until(pilot, lambda: isinstance(app.focused, Input))
        label = app.screen.query_one("#option-opset", OptionRow)
        other = app.screen.query_one("#option-device", OptionRow)
        await until(pilot, lambda: colour(label) != colour(other))
