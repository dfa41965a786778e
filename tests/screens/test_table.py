"""The list of every screen: where its cursor is, what it draws, what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual import on
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widget import Widget

from console.settings import Settings
from screens.phrase import say
from screens.widgets.fields import TextField
from screens.widgets.table import Column, DeckTable, Listing, Row
from tests.screens.conftest import make_app, until
from tests.screens.desk_double import DeskDouble


class Listed(App[None]):
    """A table of 100 rows, 20 of which are seen."""

    def __init__(self) -> None:
        super().__init__()
        self.table = DeckTable(Column("NAME"), Column("SIZE", 6, right=True, least=60))
        self.highlighted: list[str] = []
        self.selected: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.table

    def on_mount(self) -> None:
        self.table.focus()
        self.table.show(rows(range(100)))

    @on(DeckTable.RowHighlighted)
    def _highlighted(self) -> None:
        self.highlighted.append(self.table.chosen)

    @on(DeckTable.RowSelected)
    def _selected(self) -> None:
        self.selected.append(self.table.chosen)


def rows(numbers: range) -> list[Row]:
    return [Row(f"row-{n}", (say(f"row {n}"), say(n))) for n in numbers]


def drawn(table: DeckTable) -> list[str]:
    lines = table.render_lines(table.size.region)
    return ["".join(segment.text for segment in line).strip() for line in lines]


async def at_row(pilot: Pilot[None], table: DeckTable, key: str) -> None:
    await until(pilot, lambda: table.chosen == key)


async def test_a_held_key_scrolls_by_half_a_page() -> None:
    app = Listed()
    async with app.run_test(size=(80, 21)) as pilot:
        tops = set()
        for _ in range(40):
            await pilot.press("down")
            tops.add(app.table.scroll_offset.y)
        assert app.table.chosen == "row-40"
        assert tops == {0, 11, 22}, "each of them is a page of bytes"
        assert any(line.startswith("row 40 ") for line in drawn(app.table))


async def test_the_cursor_stays_on_its_row_when_others_come_and_go() -> None:
    app = Listed()
    async with app.run_test(size=(80, 21)) as pilot:
        app.table.choose("row-50")
        app.table.show(rows(range(30, 100)))
        assert (app.table.chosen, app.table.cursor_row) == ("row-50", 20)
        app.table.show(rows(range(60, 65)))
        assert app.table.chosen == "row-64", "the nearest that is left"
        app.table.show([])
        assert app.table.chosen == ""
        await pilot.press("down", "pagedown", "home", "end")
        assert app.table.chosen == ""


async def test_a_click_puts_the_cursor_there_and_a_second_one_takes_the_row() -> None:
    app = Listed()
    async with app.run_test(size=(80, 21)) as pilot:
        await pilot.click(DeckTable, offset=(3, 5))
        await at_row(pilot, app.table, "row-4")
        assert app.selected == []
        await pilot.click(DeckTable, offset=(3, 5))
        await until(pilot, lambda: app.selected == ["row-4"])
        await pilot.click(DeckTable, offset=(3, 0))
        await pilot.pause()
        assert app.table.chosen == "row-4", "the head is no row"


async def test_a_row_is_told_once_however_often_it_is_shown() -> None:
    app = Listed()
    async with app.run_test(size=(80, 21)) as pilot:
        await until(pilot, lambda: app.highlighted == ["row-0"])
        app.table.show(rows(range(100)))
        app.table.show(rows(range(99)))
        await pilot.press("down")
        await until(pilot, lambda: app.highlighted == ["row-0", "row-1"])


async def test_a_narrow_list_leaves_out_columns_of_little_weight() -> None:
    app = Listed()
    async with app.run_test(size=(80, 21)) as pilot:
        await until(pilot, lambda: drawn(app.table)[0].split() == ["NAME", "SIZE"])
        await pilot.resize_terminal(50, 21)
        await until(pilot, lambda: drawn(app.table)[0].split() == ["NAME"])


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_long_list_leaves_home_its_head_and_what_the_row_is(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    desk = DeskDouble(settings)
    one = desk.deployments()[0]
    many = tuple(replace(one, name=f"digits-{number}") for number in range(60))
    monkeypatch.setattr(DeskDouble, "_saved", lambda self: many)
    app = make_app(desk)
    async with app.run_test(size=size) as pilot:
        detail = app.screen.query_one("#home-detail")
        await until(pilot, lambda: detail.region.height > 1)
        await pilot.pause(0.2)
        assert app.screen.max_scroll_y == 0
        assert detail.region.bottom < size[1]


async def test_a_list_that_was_empty_for_a_while_has_the_cursor_again() -> None:
    class Emptied(App[None]):
        def get_css_variables(self) -> dict[str, str]:
            return {**super().get_css_variables(), "text-dim": "grey"}

        def compose(self) -> ComposeResult:
            yield TextField()
            yield Listing(Column("NAME"), empty=say("nothing"), id="things")

    app = Emptied()
    async with app.run_test() as pilot:
        listing = app.query_one(Listing)
        listing.show(rows(range(2)))
        listing.table.focus()
        await pilot.pause()
        listing.show([])
        await pilot.pause()
        assert app.focused is None
        listing.show(rows(range(2)))
        await until(pilot, lambda: app.focused is listing.table)


async def test_the_scroll_bar_looks_as_textuals_own() -> None:
    app = Listed()
    async with app.run_test(size=(80, 21)) as pilot:
        for key in ("down", "pagedown", "pagedown", "end"):
            await pilot.press(key)
            await pilot.pause()
            bar = app.table.vertical_scrollbar
            ours = bar.render_lines(bar.size.region)
            textuals = Widget.render_lines(bar, bar.size.region)
            assert [list(strip) for strip in ours] == [list(strip) for strip in textuals]


async def test_a_row_that_is_said_anew_is_drawn_anew() -> None:
    app = Listed()
    async with app.run_test(size=(80, 21)) as pilot:
        await until(pilot, lambda: drawn(app.table)[1].startswith("row 0"))
        app.table.show([replace(row, cells=(say("other"), say(1))) for row in rows(range(100))])
        assert drawn(app.table)[1].split() == ["other", "1"]
        app.theme = "textual-light"
        await until(pilot, lambda: app.current_theme.name == "textual-light")
        light = app.table.render_lines(app.table.size.region)[1]
        assert {s.style.bgcolor for s in light if s.style} != {None}
        app.theme = "textual-dark"
        await until(pilot, lambda: app.table.render_lines(app.table.size.region)[1] != light)
