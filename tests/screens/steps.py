"""The way through the screens with a pilot, and what is seen on it: what the screen tests share."""

from __future__ import annotations

from typing import Any

from textual.pilot import Pilot
from textual.widgets import Static

from console.app import TritonDeckApp
from console.facts import DeckError
from console.runs.model import RunState
from screens.build import BuildScreen
from screens.check import CheckScreen
from screens.checkpoint import CheckpointScreen
from screens.configure import ConfigureScreen
from screens.home import HomeScreen
from screens.serve import ServeScreen
from screens.try_ import TryScreen
from screens.widgets.fields import TextField
from screens.widgets.options import OptionRow, OptionsForm
from screens.widgets.table import DeckTable, Listing
from tests.screens.conftest import until
from tests.screens.desk_double import DeskDouble


def shown(app: TritonDeckApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).content)


async def on(pilot: Pilot[None], screen: type) -> Any:
    await until(pilot, lambda: isinstance(pilot.app.screen, screen))
    return pilot.app.screen


def row(app: TritonDeckApp, name: str) -> Any:
    return app.screen.query_one(f"#option-{name.replace('.', '-')}", OptionRow)


async def listed(pilot: Pilot[None]) -> DeckTable:
    """The list of the screen, with all of its rows."""

    def whole() -> bool:
        screen = pilot.app.screen
        if not isinstance(screen, HomeScreen):
            return screen.query_one(Listing).table.row_count > 0
        try:  # attached servers come after the deployments
            return len(screen._attached) == len(screen.desk.attached())
        except DeckError:
            return screen._problem is not None

    await until(pilot, whole)
    return pilot.app.screen.query_one(Listing).table


async def point(pilot: Pilot[None], key: str) -> None:
    """Put the cursor on a row as soon as it is there."""
    table = await listed(pilot)

    def there() -> bool:
        table.choose(key)
        return table.chosen == key

    await until(pilot, there)


async def filtered(pilot: Pilot[None], text: str) -> None:
    """Type a text into the filter of a list, or the search of a log."""
    await pilot.press("slash")
    await until(pilot, lambda: isinstance(pilot.app.focused, TextField))
    await pilot.press(*text)


async def to_checkpoint(pilot: Pilot[None], row: int = 6) -> None:
    await listed(pilot)
    await pilot.press("n")
    await on(pilot, CheckpointScreen)
    (await listed(pilot)).move_cursor(row=row)
    await pilot.pause()


async def to_options(pilot: Pilot[None]) -> None:
    await to_checkpoint(pilot)
    await pilot.press("enter")
    await on(pilot, ConfigureScreen)
    await until(pilot, lambda: pilot.app.screen.query(OptionsForm))
    await pilot.press("enter")
    await until(pilot, lambda: pilot.app.screen.query_one(OptionsForm).has_focus_within)


async def to_check(pilot: Pilot[None]) -> None:
    await to_options(pilot)
    await pilot.press("ctrl+n")
    await on(pilot, CheckScreen)
    await listed(pilot)


async def to_build(pilot: Pilot[None]) -> None:
    await to_check(pilot)
    await pilot.press("enter")
    await on(pilot, BuildScreen)
    await listed(pilot)


async def to_serve(pilot: Pilot[None], desk: DeskDouble) -> None:
    desk.run_state = RunState.SUCCEEDED
    await to_build(pilot)
    await until(pilot, lambda: pilot.app.screen.flow.service)  # type: ignore[attr-defined]
    await pilot.press("enter")
    await on(pilot, ServeScreen)
    await listed(pilot)


async def to_try(pilot: Pilot[None], desk: DeskDouble) -> None:
    await to_serve(pilot, desk)
    await pilot.press("enter")
    await on(pilot, TryScreen)
    await until(pilot, lambda: isinstance(pilot.app.focused, TextField))
