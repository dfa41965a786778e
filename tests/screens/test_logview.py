"""The log on the screen: reaching its end by key, and files that are large."""

from __future__ import annotations

from pathlib import Path

from textual.app import App, ComposeResult
from textual.pilot import Pilot

from screens.widgets.logview import LogView


class LogApp(App[None]):
    def compose(self) -> ComposeResult:
        yield LogView()


async def wait_for_lines(pilot: Pilot[None], count: int) -> LogView:
    view = pilot.app.query_one(LogView)
    while view.lines < count:  # not for the workers: a newer count cancels an older one
        await pilot.pause(0.01)
    return view


async def test_a_page_key_that_reaches_the_end_follows_it_again(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    log.write_text("".join(f"line {n}\n" for n in range(300)))
    app = LogApp()
    async with app.run_test(size=(80, 24)) as pilot:
        app.query_one(LogView).open(log)
        view = await wait_for_lines(pilot, 300)
        view.focus()
        while not view.max_scroll_y or view.scroll_offset.y < view.max_scroll_y:
            await pilot.pause()
        while view.following:  # the first drawing may still be scrolling to the end
            await pilot.press("pageup")
            await pilot.pause()
        above = view.scroll_offset.y
        assert above < view.max_scroll_y
        await pilot.press("pagedown")
        while not view.following:
            await pilot.press("pagedown")
            await pilot.pause()
        assert view.scroll_offset.y == view.max_scroll_y


async def test_a_large_log_is_shown_while_it_is_being_indexed(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    with log.open("wb") as file:
        file.write(b"first\n" * 1000)
        file.seek(3_000_000_000)
        file.write(b"\n")
    app = LogApp()
    async with app.run_test(size=(80, 24)) as pilot:
        view = app.query_one(LogView)
        view.open(log)
        while not view.virtual_size.height:
            await pilot.pause()
        assert view.indexed < log.stat().st_size
        other = tmp_path / "other.log"
        other.write_text("short\n")
        view.open(other)
        await wait_for_lines(pilot, 1)
        assert view.lines == 1
