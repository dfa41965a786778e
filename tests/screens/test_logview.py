"""The log on the screen: following, jumping, searching, filtering, wrapping; files that are large."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual import on
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from screens.widgets.fields import TextField
from screens.widgets.logpane import LogPane
from screens.widgets.logview import LogView
from tests.screens.conftest import until
from tests.screens.steps import filtered


class LogApp(App[None]):
    def __init__(self, log: Path) -> None:
        super().__init__()
        self.file = log

    def compose(self) -> ComposeResult:
        yield LogPane()

    def on_mount(self) -> None:
        self.query_one(LogPane).open("build", self.file)
        self.query_one(LogView).focus()


def shown(view: LogView) -> list[str]:
    return [view.render_line(y).text.rstrip() for y in range(len(view._drawn))]


def settled(view: LogView) -> bool:
    return view.state.settled


def title(pilot: Pilot[None]) -> str:
    return str(pilot.app.query_one(".log-title").render())


async def opened(pilot: Pilot[None], told: Callable[[LogView], object]) -> LogView:
    view = pilot.app.query_one(LogView)
    await until(pilot, lambda: told(view))
    return view


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "build.log"
    path.write_text("".join(f"line {n}\n" for n in range(300)))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "build.log"
    with path.open("wb") as file:
        file.write(b"first\n" * 1000)
        file.seek(300_000_000_000)  # minutes of counting, however fast the machine is
        file.write(b"\n" + b"last\n" * 100)
    return path


async def test_a_log_opens_at_its_end(log: Path) -> None:
    looks: list[tuple[int, int]] = []

    class Watched(LogApp):
        @on(LogView.Status)
        def _look(self, message: LogView.Status) -> None:
            if message.view.lines:
                looks.append((message.view.scroll_offset.y, message.view.max_scroll_y))

    async with Watched(log).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: looks)
    place, end = looks[0]
    assert place == end > 0


async def test_a_page_key_that_reaches_the_end_follows_it_again(log: Path) -> None:
    async with LogApp(log).run_test(size=(80, 24)) as pilot:
        view = await opened(pilot, lambda v: v.lines == 300 and v.scroll_offset.y)
        while view.following:  # the first drawing may still be scrolling to the end
            await pilot.press("pageup")
            await pilot.pause()
        assert view.scroll_offset.y < view.max_scroll_y
        while not view.following:
            await pilot.press("pagedown")
            await pilot.pause()
        assert view.scroll_offset.y == view.max_scroll_y


async def test_a_large_log_shows_its_end_at_once_and_any_place_of_it(large: Path) -> None:
    async with LogApp(large).run_test(size=(80, 24)) as pilot:
        view = await opened(pilot, lambda v: v.lines)
        assert not settled(view)
        await until(pilot, lambda: shown(view)[-1] == "last")
        await pilot.press("g")
        await until(pilot, lambda: shown(view)[0] == "first")
        assert not settled(view)
        assert view.number == 1


async def test_what_the_reader_looks_at_stays_while_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %09d\n" % n for n in range(3_000_000)))
    async with LogApp(path).run_test(size=(80, 24)) as pilot:
        view = await opened(pilot, lambda v: v.lines)
        await until(pilot, lambda: shown(view)[-1:] == ["line 002999999"])
        await pilot.press("pageup")
        await until(pilot, lambda: not view.following and shown(view)[-1] != "line 002999999")
        before = shown(view)
        await until(pilot, lambda: view.state.settled and view.lines == 3_000_000)
        await until(pilot, lambda: before[0] == f"line {(view.number or 0) - 1:09d}")
        assert shown(view) == before


async def test_a_search_counts_its_hits_and_goes_from_one_to_the_next(log: Path) -> None:
    async with LogApp(log).run_test(size=(80, 24)) as pilot:
        view = await opened(pilot, lambda v: v.lines == 300)
        await pilot.press("g")
        await filtered(pilot, "LINE 2[05]$")
        await pilot.press("enter")
        await until(pilot, lambda: "no hit" in title(pilot))
        await pilot.press("slash")
        await until(pilot, lambda: isinstance(pilot.app.focused, TextField))
        await pilot.press(*["backspace"] * 11, *"line 2[05]$", "enter")
        await until(pilot, lambda: view.total == 2 and "line 21" in view.note)
        await pilot.press("full_stop")
        await until(pilot, lambda: "hit 2 at line 26" in title(pilot))
        await pilot.press("full_stop")
        await until(pilot, lambda: "hit 1 at line 21" in title(pilot))
        await pilot.press("comma")
        await until(pilot, lambda: "hit 2 at line 26" in title(pilot))


async def test_a_jump_goes_from_problem_to_problem_and_explains_it(log: Path) -> None:
    with log.open("a") as out:
        out.write("error: Failed to initialize NVML\n")
        out.write(
            "E1121 00:02:56.5 1 x.cc:1] \"ModuleNotFoundError: No module named 'soundfile'\"\n"
        )
        out.write("a\n" * 99)
    async with LogApp(log).run_test(size=(80, 24)) as pilot:
        view = await opened(pilot, lambda v: v.lines == 401 and v.state.errors)
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: "needs the Python module soundfile" in view.note)
        assert "at line 302" in view.note
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: "at line 302" in view.note)
        assert "1 error" in title(pilot)


async def test_a_jump_to_the_end_of_a_log_does_not_follow_it(log: Path) -> None:
    with log.open("a") as out:
        out.write("it failed\n")
    async with LogApp(log).run_test(size=(80, 24)) as pilot:
        view = await opened(pilot, lambda v: v.state.errors)
        await pilot.press("g", "right_square_bracket")
        await until(pilot, lambda: "at line 301" in view.note)
        assert not view.following
        assert "it failed" in shown(view)


async def test_a_level_leaves_only_its_lines_and_those_above(log: Path) -> None:
    with log.open("a") as out:
        out.write("warning: one\nfailed\n[NeMo W 2026-09-21 14:00:11 x:1] two\n")
    async with LogApp(log).run_test(size=(80, 24)) as pilot:
        view = await opened(pilot, lambda v: v.lines == 303 and v.state.errors)
        await pilot.press("L", "L")
        await until(pilot, lambda: view.rows == 3)
        assert shown(view) == ["warning: one", "failed", "14:00:11     W two"]
        with log.open("a") as out:
            out.write("nothing\nTraceback (most recent call last):\n")
        await until(pilot, lambda: view.rows == 4)
        await pilot.press("L")
        await until(pilot, lambda: view.rows == 2)
        await pilot.press("L")
        await until(pilot, lambda: view.rows == 305)


async def test_wrapped_lines_end_with_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"{n} " + "x" * 200 + f" end {n}\n" for n in range(100)))
    async with LogApp(path).run_test(size=(80, 24)) as pilot:
        view = await opened(pilot, lambda v: v.lines == 100)
        await pilot.press("W")
        await until(pilot, lambda: shown(view)[-1].endswith("end 99"))
        await pilot.press("up")
        await until(pilot, lambda: not view.following)
        await pilot.press("g")
        await until(pilot, lambda: shown(view)[0].startswith("0 xxx"))
        await pilot.press("G")
        await until(pilot, lambda: shown(view)[-1].endswith("end 99"))


async def test_times_can_be_hidden(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('I1121 00:02:56.545741 30405 server.cc:1] "started"\n')
    async with LogApp(path).run_test(size=(80, 24)) as pilot:
        view = await opened(pilot, lambda v: v.lines)
        await until(pilot, lambda: shown(view) == ["00:02:56.545 I started"])
        await pilot.press("T")
        await until(pilot, lambda: shown(view) == ["I started"])


@pytest.mark.parametrize("size", [(80, 24), (300, 80)])  # large ones are drawn once a second
async def test_a_log_that_is_replaced_or_deleted_says_so(log: Path, size: tuple[int, int]) -> None:
    async with LogApp(log).run_test(size=size) as pilot:
        view = await opened(pilot, lambda v: v.lines == 300)
        other = log.with_name("other")
        other.write_text("anew\n")
        other.rename(log)
        await until(pilot, lambda: view.lines == 1 and shown(view) == ["anew"])
        assert "replaced" in title(pilot)
        log.unlink()
        await until(pilot, lambda: "deleted" in title(pilot))
        assert shown(view) == ["anew"]
