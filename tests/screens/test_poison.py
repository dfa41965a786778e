"""Foreign text that wants to act: markup, click actions, window titles, clipboard writes."""

from __future__ import annotations

from console.app import TritonDeckApp
from console.settings import Settings
from tests.screens.conftest import make_app, until
from tests.screens.desk_double import DeskDouble
from tests.screens.steps import shown, to_try

SIZE = (120, 36)
POISON = " [/] [@click=app.quit]x[/] \x1b]52;c;cHduZWQ=\x07\x1b]0;PWN\x07\x9b31m\u202e"


async def test_the_whole_path_shows_poison_without_acting_on_it(settings: Settings) -> None:
    desk = DeskDouble(settings, poison=POISON)
    app: TritonDeckApp = make_app(desk)
    async with app.run_test(size=SIZE) as pilot:
        await to_try(pilot, desk)
        for _ in range(2):
            await pilot.press("enter")
        await until(pilot, lambda: "seven three one [/] [@click" in shown(app, "#answers"))
        await pilot.press("ctrl+y", "y", "escape", "question_mark", "escape", "escape", "escape")
        for row in range(0, SIZE[1], 3):
            await pilot.click(offset=(30, row))
        assert app.is_running
        assert "PWN" not in shown_everywhere(app)
    assert app.return_code in (None, 0)


def shown_everywhere(app: TritonDeckApp) -> str:
    return "".join(
        segment.text for strip in app.screen._compositor.render_strips() for segment in strip
    )
