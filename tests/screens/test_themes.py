"""The operator's own themes, terminals without colour, and terminals without UTF-8."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from textual.color import Color

from console.commands import DeckCommands
from console.facts import UsageError
from console.settings import Settings
from tests.screens.conftest import make_app, until
from tests.screens.desk_double import DeskDouble
from tests.screens.pseudo import Terminal
from tests.screens.steps import listed
from themes import files
from themes.glyphs import ascii_only, plain
from themes.palettes import PALETTES


def written(settings: Settings, name: str, text: str) -> Path:
    folder = settings.folders.config / "themes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(text)
    return folder / f"{name}.toml"


def wearing(settings: Settings, theme: str) -> DeskDouble:
    screen = replace(settings.screen, theme=theme)
    return DeskDouble(replace(settings, screen=screen))


async def test_a_theme_of_the_operators_own_is_worn(settings: Settings) -> None:
    written(settings, "dusk", 'base = "dark"\naccent = "#ff9e64"\n')
    app = make_app(wearing(settings, "dusk"))
    async with app.run_test() as pilot:
        await listed(pilot)
        worn = Color.parse(app.theme_variables["accent"])
        assert all(abs(a - b) <= 1 for a, b in zip(worn.rgb, (255, 158, 100), strict=True))


@pytest.mark.parametrize("name", ["light", "mono"])
async def test_a_theme_taken_from_the_palette_is_worn_at_once(
    settings: Settings, name: str
) -> None:
    app = make_app(DeskDouble(settings))
    ground = Color.parse(PALETTES[name][0].background)
    async with app.run_test() as pilot:
        await listed(pilot)
        hits = [hit async for hit in DeckCommands(app.screen).discover()]
        (wear,) = [hit.command for hit in hits if hit.text == f"theme: {name}"]
        wear()
        await until(pilot, lambda: app.screen.styles.background == ground)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('base = "dark"\nacent = "#ff9e64"\n', "line 2, acent"),
        ('accent = "soft orange"\n', "line 1, accent"),
        ('base = "sepia"\n', "one of dark, light, mono"),
        ('cursor = "#fff"\n', "two colours"),
        ("accent = ", "cannot read the theme"),
    ],
)
def test_a_wrong_theme_names_file_line_and_what_was_expected(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "dusk.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        files.read(path)
    assert "dusk.toml" in str(caught.value)


async def test_a_wrong_theme_that_is_not_worn_is_said_and_stops_nothing(
    settings: Settings,
) -> None:
    written(settings, "dusk", "accent = 7\n")
    app = make_app(DeskDouble(settings))
    async with app.run_test() as pilot:
        await listed(pilot)
        await until(pilot, lambda: app._notifications)


async def test_an_unknown_theme_says_why_its_file_is_not_used(settings: Settings) -> None:
    written(settings, "dusk", "accent = 7\n")
    with pytest.raises(UsageError, match="line 1, accent"):
        async with make_app(wearing(settings, "dusk")).run_test():
            pass


@pytest.mark.parametrize(
    ("environ", "ascii_wanted"),
    [
        ({"LC_ALL": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "C.UTF-8"}, False),
        ({}, False),
    ],
)
def test_ascii_is_shown_where_the_locale_is_no_utf_8(
    environ: dict[str, str], ascii_wanted: bool
) -> None:
    assert ascii_only(environ) is ascii_wanted


def test_a_glyph_keeps_its_width_in_ascii() -> None:
    from rich.cells import cell_len

    for text in ("● serving", "▮▮▯ 43 %", "1 ─ 2 …", "日本", "▁▅█"):
        assert plain(text).isascii()
        assert cell_len(plain(text)) == cell_len(text)


def console(home: Path, **environ: str) -> Terminal:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LC_") and k != "LANG"}
    argv = [sys.executable, "-m", "tests.screens.terminal", str(home), "-", "run"]
    terminal = Terminal(argv, {**kept, **environ})
    terminal.until(b"digits")
    terminal.read(1.0)
    return terminal


def test_a_terminal_in_the_c_locale_gets_ascii(tmp_path: Path) -> None:
    terminal = console(tmp_path, LC_ALL="C")
    try:
        assert b"* serving" in terminal.output
        assert terminal.output.isascii()
    finally:
        terminal.close()


def test_no_color_sends_no_colours(tmp_path: Path) -> None:
    terminal = console(tmp_path, LANG="C.UTF-8", NO_COLOR="1")
    try:
        colours = re.findall(rb"\x1b\[[0-9;]*?[34]8;2;(\d+);(\d+);(\d+)", terminal.output)
        assert "● serving".encode() in terminal.output
        assert all(red == green == blue for red, green, blue in colours)
    finally:
        terminal.close()
