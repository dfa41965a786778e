"""Dialogs, hints of keys and colours: what fits a small terminal, and what can be read on each theme."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from textual.color import Color
from textual.css.query import NoMatches
from textual.widget import Widget
from textual.widgets import Input

from console.app import TritonDeckApp
from console.commands import DeckCommands
from console.settings import Settings
from screens.check import CheckScreen
from screens.confirm import ConfirmScreen
from screens.flow import Flow
from screens.help import HelpScreen
from screens.jump import JumpScreen
from screens.monitor import MonitorScreen
from screens.widgets.flag import Flag
from screens.widgets.keyline import KeyLine
from screens.widgets.logview import LogView
from screens.widgets.table import DeckTable
from screens.widgets.tourline import TourLine
from screens.widgets.words import Words
from tests.screens.conftest import make_app, until
from tests.screens.desk_double import DeskDouble
from tests.screens.monitor_double import MonitorDouble
from tests.screens.steps import (
    filtered,
    listed,
    on,
    point,
    row,
    shown,
    to_build,
    to_check,
    to_checkpoint,
    to_options,
    to_serve,
    to_try,
)
from themes.palettes import PALETTES

SMALL = (80, 24)


def hints(app: TritonDeckApp) -> str:
    return " ".join(words.plain for _, words in app.screen.query_one(KeyLine)._words())


def outside(app: TritonDeckApp, *kinds: type[Widget]) -> list[Widget]:
    """The widgets that are not wholly within the terminal, or have no room at all."""
    every = [w for kind in kinds for w in app.screen.query(kind)]
    said = [w for w in every if not isinstance(w, Words) or str(w.content)]
    if not said:
        raise NoMatches("nothing of it is there yet")
    return [w for w in said if not (w.size and app.screen.region.contains_region(w.region))]


# -- what fits


async def test_a_question_with_a_long_explanation_fits_a_small_terminal(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await to_options(pilot)
        row(app, "server.expose")._input.value = True
        await on(pilot, ConfirmScreen)
        await until(pilot, lambda: not outside(app, Words, Input))


async def test_a_rollback_is_explained_within_a_small_terminal(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await to_serve(pilot, desk)
        await pilot.press("b")
        await on(pilot, ConfirmScreen)
        await until(pilot, lambda: not outside(app, Words))


async def test_the_tour_leaves_room_for_the_log(app: TritonDeckApp, desk: DeskDouble) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await to_build(pilot)
        app.screen.go(app.screen.stage, replace(app.screen.flow, tour=True))  # type: ignore[attr-defined]
        await until(pilot, lambda: app.screen.query(TourLine))
        await until(pilot, lambda: "explains run, step" in shown(app, "#tour"))
        await until(pilot, lambda: not outside(app, LogView))


async def test_help_has_the_words_of_the_tour(app: TritonDeckApp) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await to_options(pilot)
        before: Any = app.screen
        before.flow = replace(before.flow, tour=True)
        assert ("dynamic batching", False) in before.words()


async def test_every_word_of_help_is_within_its_column(app: TritonDeckApp) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await to_options(pilot)
        await pilot.press("tab")
        app.screen.action_help()  # type: ignore[attr-defined]
        await on(pilot, HelpScreen)
        table = app.screen.query_one(DeckTable)
        await until(pilot, lambda: table.row_count > 20 and any(table.get_row_at(0)))
        rows = [" ".join(map(str, table.get_row_at(n))) for n in range(table.row_count)]
        assert not [words for words in rows if "…" in words]


async def test_what_does_not_fit_below_the_list_is_reached_by_the_tab_key(
    app: TritonDeckApp,
) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await to_checkpoint(pilot)
        await until(pilot, lambda: "not by" in shown(app, "#detail"))  # its last words
        assert "pickle" in shown(app, "#detail")
        detail = app.screen.query_one("#checkpoint-detail")
        await until(pilot, lambda: detail.max_scroll_y)
        await pilot.press("tab")
        await until(pilot, lambda: detail.has_focus)
        await pilot.press("end")
        await until(pilot, lambda: detail.scroll_offset.y == detail.max_scroll_y)


async def test_a_detail_that_fits_never_has_the_cursor(app: TritonDeckApp) -> None:
    async with app.run_test(size=(160, 48)) as pilot:
        await to_checkpoint(pilot)
        await until(pilot, lambda: "not by" in shown(app, "#detail"))
        await pilot.press("tab")
        await until(pilot, lambda: isinstance(app.focused, Input))


async def test_an_invalid_option_is_said_in_full_below_the_form(app: TritonDeckApp) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await to_options(pilot)
        await pilot.press("tab")
        await until(pilot, lambda: row(app, "opset").has_focus_within)
        await pilot.press("9", "9")
        await until(pilot, lambda: "equal to 21" in shown(app, "#option-help"))
        await pilot.press("backspace", "backspace")
        await until(pilot, lambda: row(app, "opset").value == "")
        await pilot.press("1", "7")
        await until(pilot, lambda: "equal to 21" not in shown(app, "#option-help"))


async def test_all_that_is_said_of_an_option_is_seen_on_a_tall_terminal(
    app: TritonDeckApp,
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await to_options(pilot)
        row(app, "server.expose").focus_field()
        await until(pilot, lambda: "key server.expose" in shown(app, "#option-help"))
        told = app.screen.query_one("#option-help", Words)
        assert "`" not in str(told.content)

        def said() -> str:
            return "".join(strip.text for strip in told.render_lines(told.size.region))

        await until(pilot, lambda: "key server.expose" in said())


async def test_why_a_model_is_not_ready_is_told_where_its_row_has_no_room(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await to_serve(pilot, desk)
        assert "no onnxruntime backend" not in shown(app, "#serve-facts")
        await point(pilot, "clip")
        await until(pilot, lambda: "no onnxruntime backend" in shown(app, "#serve-facts"))


async def test_the_reason_of_a_failure_is_seen_below_a_long_list_of_steps(
    settings: Settings,
) -> None:
    from console.runs.model import RunState, StepView

    class Long(DeskDouble):
        def _steps(self, state: RunState) -> tuple[StepView, ...]:
            steps = super()._steps(state)
            more = (replace(steps[1], id=f"more-{n}") for n in range(8))
            return (*more, *steps)

    desk = Long(settings)
    desk.run_state = RunState.FAILED
    app = make_app(desk)
    async with app.run_test(size=SMALL) as pilot:
        await to_build(pilot)
        await until(pilot, lambda: "differs from PyTorch" in shown(app, "#step-detail"))
        detail = app.screen.query_one("#step-detail")
        top = app.screen.query_one("#build-top")
        await until(
            pilot,
            lambda: detail.region.height >= 3 and top.region.contains_region(detail.region),
        )


# -- hints of keys


async def test_a_text_field_names_its_key(app: TritonDeckApp) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await listed(pilot)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.focused, Input))
        await until(pilot, lambda: "Accept" in hints(app) and "Back" in hints(app))


async def test_enter_in_a_form_goes_to_the_next_option(app: TritonDeckApp) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await to_options(pilot)
        await pilot.press("tab")
        await until(pilot, lambda: row(app, "opset").has_focus_within)
        await pilot.press("enter")
        await until(pilot, lambda: row(app, "word_times").has_focus_within)


async def test_a_key_that_is_typed_into_a_field_is_no_hint(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await to_build(pilot)
        app.screen.query_one(LogView).focus()
        await until(pilot, lambda: "/ Search" in hints(app))
        await pilot.press("slash")
        await until(pilot, lambda: "Close search" in hints(app))
        assert "/ Search" not in hints(app)


async def test_what_was_found_has_the_room_of_the_search_field(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await to_build(pilot)
        app.screen.query_one(LogView).focus()
        await filtered(pilot, "nothing of it")
        await pilot.press("enter")
        title = app.screen.query_one(".log-title", Words)
        await until(pilot, lambda: "no hit" in str(title.content)[:78])
        assert title.size.width == 78


async def test_jump_mode_names_its_own_key(app: TritonDeckApp) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await listed(pilot)
        await pilot.press("ctrl+o")
        await on(pilot, JumpScreen)
        await until(pilot, lambda: hints(app) == "esc Stay")


async def test_jump_mode_marks_only_what_is_seen_of_a_form(app: TritonDeckApp) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await to_options(pilot)
        bottom = app.screen.query_one("#form").region.bottom
        await pilot.press("ctrl+o")
        jump = await on(pilot, JumpScreen)
        assert jump._places and all(w.region.y < bottom for w in jump._places.values())


async def test_a_replay_names_the_keys_that_go_through_it(settings: Settings) -> None:
    app = make_app(DeskDouble(settings))
    async with app.run_test(size=SMALL) as pilot:
        screen = MonitorScreen(app._given, Flow(), MonitorDouble(2, live=False))
        app.push_screen(screen)
        await until(pilot, lambda: screen._frame is not None and "Scrub" in hints(app))


async def test_why_a_server_does_not_answer_is_seen_on_a_small_terminal(
    settings: Settings,
) -> None:
    app = make_app(DeskDouble(settings))
    async with app.run_test(size=SMALL) as pilot:
        screen = MonitorScreen(app._given, Flow(), MonitorDouble(1))
        app.push_screen(screen)
        await until(pilot, lambda: screen._frame is not None)
        await pilot.press("tab", "end")
        await until(pilot, lambda: "old: connection refused" in shown(app, "#monitor-title")[:78])


async def test_enter_on_a_failure_is_named_for_what_it_does(
    app: TritonDeckApp, desk: DeskDouble
) -> None:
    desk.blocks = True
    async with app.run_test(size=SMALL) as pilot:
        await to_check(pilot)
        await until(pilot, lambda: "Mend it" in hints(app))
        assert "Build" not in hints(app)
        await pilot.press("down")
        await until(pilot, lambda: "Build" in hints(app))


async def test_this_machine_is_not_said_to_block_nothing(app: TritonDeckApp) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await listed(pilot)
        await pilot.press("d")
        await on(pilot, CheckScreen)
        await until(pilot, lambda: "checks in" in shown(app, "#check-title"))
        assert "blocks" not in shown(app, "#check-title")


async def test_the_palette_names_no_command_twice(app: TritonDeckApp) -> None:
    async with app.run_test(size=SMALL) as pilot:
        await listed(pilot)
        names = [str(hit.text) async for hit in DeckCommands(app.screen).discover()]
        assert [name for name in names if name.endswith("monitor")] == ["home: monitor"]
        assert "deployments: filter" in names


# -- colours


def contrast(one: Color, other: Color) -> float:
    """As WCAG 2 defines it, 1 to 21."""
    dark, light = sorted(
        sum(
            share * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
            for share, c in zip((0.2126, 0.7152, 0.0722), colour.normalized, strict=True)
        )
        for colour in (one, other)
    )
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", PALETTES)
@pytest.mark.parametrize("ground", ["background", "panel"])
def test_every_role_can_be_read_on_every_ground(name: str, ground: str) -> None:
    palette, _ = PALETTES[name]
    under = Color.parse(getattr(palette, ground))
    roles = ("foreground", "strong", "dim", "accent", "second", "success", "warning", "error")
    faint = [r for r in roles if contrast(Color.parse(getattr(palette, r)), under) < 4.5]
    assert not faint


@pytest.mark.parametrize("theme", PALETTES)
async def test_a_field_can_be_read_where_the_cursor_is(settings: Settings, theme: str) -> None:
    screen = replace(settings.screen, theme=f"tritondeck-{theme}")
    app = make_app(DeskDouble(replace(settings, screen=screen)))
    async with app.run_test(size=SMALL) as pilot:
        await to_options(pilot)
        flag = row(app, "dynamic_batching").query_one(Flag)
        flag.focus()
        await until(pilot, lambda: flag.has_focus and flag.value)
        await pilot.pause()
        assert faint(flag) == []


@pytest.mark.parametrize("theme", PALETTES)
async def test_what_an_empty_field_says_can_be_read(settings: Settings, theme: str) -> None:
    screen = replace(settings.screen, theme=f"tritondeck-{theme}")
    desk = DeskDouble(replace(settings, screen=screen))
    app = make_app(desk)
    async with app.run_test(size=SMALL) as pilot:
        await to_try(pilot, desk)
        field = app.focused
        assert isinstance(field, Input)
        field.value = ""
        await pilot.pause()
        assert faint(field) == []
        await pilot.press("tab")
        await pilot.pause()
        assert faint(field) == []


def faint(widget: Widget, least: float = 3.0) -> list[str]:
    """What of a widget's first line has less contrast than `least` to its ground."""
    found = []
    for segment in widget.render_lines(widget.size.region)[0]:
        style = segment.style
        if segment.text.strip() and style and style.color and style.bgcolor:
            colours = (Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor))
            if contrast(*colours) < least:
                found.append(segment.text)
    return found
