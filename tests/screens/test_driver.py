"""The driver that sends changed cells only, and the filter that no control passes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual._compositor import LayoutUpdate
from textual.app import App
from textual.color import Color
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Region, Size
from textual.strip import Strip

from console.cells import Shown, parse, turn
from console.driver import CellDriver, ControlFilter

WIDTH, HEIGHT = 24, 5
STYLES = [
    None,
    Style(),
    Style(color="#c0c0c0", bgcolor="#101010"),
    Style(color="#c0c0c0", bgcolor="#303030"),
    Style(color="#76b900", bgcolor="#101010", bold=True),
    Style(bold=True, underline=True),
    Style(color="red", reverse=True),
    Style(color="color(142)", bgcolor="color(17)", italic=True),
    Style(color="#c0c0c0", link="https://example.org/a;b"),
]
SURE = ["a", "b", " ", "─", "█", "é", "漢", "ｗ", "한"]
DISPUTED = ["e\u0301", "👍🏽", "⚠\ufe0f", "👩\u200d🚀", "कि"]


def render(*strips: Strip, y: int = 0, x: int = 0) -> str:
    """The bytes that Textual's compositor writes for these lines."""
    console: Any = SimpleNamespace(_color_system=None)
    region = Region(x, y, max(strip.cell_length for strip in strips), len(strips))
    frame = LayoutUpdate([[strip] for strip in strips], region).render_segments(console)
    return frame + "\x1b[1;1H"


def line(*pieces: tuple[str, Style | None]) -> Strip:
    return Strip([Segment(text, style) for text, style in pieces])


def shows(frames: list[str]) -> list[list[Any]]:
    """The cells of a terminal that got these bytes."""
    screen = pyte.Screen(WIDTH, HEIGHT)
    screen.reset_mode(pyte.modes.DECAWM)
    stream = pyte.Stream(screen)
    for frame in frames:
        stream.feed(frame)
    return [[screen.buffer[y][x] for x in range(WIDTH)] for y in range(HEIGHT)]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    written: list[str] = []
    monkeypatch.setattr(LinuxDriver, "write", lambda self, data: written.append(data))
    return written


@pytest.fixture
async def driver() -> CellDriver:
    return CellDriver(App())


# -- what is sent


def test_a_cell_that_is_shown_already_is_not_sent() -> None:
    shown = Shown()
    shown.update(render(line(("model.nemo   ready", None))))
    assert shown.update(render(line(("model.nemo   stale", None)))) == "\x1b[1;14Hstale\x1b[1;1H"


def test_a_frame_that_changes_nothing_sends_nothing() -> None:
    shown = Shown()
    frame = render(line(("head", STYLES[2])), line(("body", None)))
    shown.update(frame)
    assert shown.update(frame) == ""


def test_a_short_way_is_written_over_and_a_long_one_skipped() -> None:
    shown = Shown()
    shown.update(render(line(("aaaaaaaaaaaaaaaaaaaa", None))))
    near = shown.update(render(line(("baabaaaaaaaaaaaaaaab", None))))
    assert near == "\x1b[1;1Hbaab\x1b[20Gb\x1b[1;1H"


def test_a_moved_cursor_row_sends_colours_and_not_resets() -> None:
    shown, low, high = Shown(), STYLES[2], STYLES[3]
    shown.update(render(line(("one", high)), line(("two", low))))
    moved = shown.update(render(line(("one", low)), line(("two", high))))
    assert moved.count("\x1b[0m") == 1
    assert moved.count("38;2;") == 1, "the text's colour is the same in both rows"


def test_turning_a_style_sends_only_what_differs() -> None:
    assert turn("\x1b[1;38;2;1;2;3m", "\x1b[1;38;2;4;5;6m") == "\x1b[38;2;4;5;6m"
    assert turn("\x1b[38;2;1;2;3m", "\x1b[1;38;2;1;2;3m") == "\x1b[1m"
    assert turn("\x1b[1m", "\x1b[3m") == "\x1b[0;3m"
    assert turn("\x1b[31;44m", "\x1b[31m") == "\x1b[0;31m"
    assert turn("\x1b]8;id=1;x\x1b\\\x1b[1m", "") == "\x1b[0m\x1b]8;;\x1b\\"


@pytest.mark.parametrize("character", DISPUTED)
def test_a_row_whose_width_is_not_certain_is_sent_whole(character: str) -> None:
    shown = Shown()
    shown.update(render(line((f"{character} one", None))))
    assert f"{character} two" in shown.update(render(line((f"{character} two", None))))
    assert "plain" in shown.update(render(line(("plain", None)))), "the row before was not certain"


def test_what_no_compositor_writes_is_not_taken_for_cells() -> None:
    assert parse("a\x1b[2Kb") is None
    assert parse("a\tb") is None


# -- the driver


async def test_a_cleared_terminal_gets_every_cell_again(
    driver: CellDriver, sent: list[str]
) -> None:
    frame = render(line(("head", None)))
    for cleared in ("\x1b[2J", "\x1b[?1049h", "\x1b[?1049l", "\x1bc"):
        driver.write(frame)
        driver.write(cleared)
        driver.write(frame)
        assert "head" in sent[-1], cleared


async def test_a_resized_terminal_gets_every_cell_again(
    driver: CellDriver, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "send_message", lambda message: None)
    frame = render(line(("head", None)))
    driver.write(frame)
    driver.process_message(events.Resize(Size(80, 24), Size(80, 24)))
    driver.write(frame)
    assert "head" in sent[-1]
    driver._get_terminal_size()
    driver.write(frame)
    assert "head" in sent[-1]


async def test_everything_that_is_no_frame_passes(driver: CellDriver, sent: list[str]) -> None:
    told = ["\a", "\x1b]52;c;eA==\x07", "\x1b[?2026$p", "\x1b[?1004h"]
    for data in told:
        driver.write(data)
    assert sent == told


async def test_a_frame_without_a_change_is_not_even_announced(
    driver: CellDriver, sent: list[str]
) -> None:
    for _ in range(2):
        for data in ("\x1b[?2026h", render(line(("head", None))), "\x1b[?2026l"):
            driver.write(data)
    assert "".join(sent) == "\x1b[?2026h\x1b[1;1Hhead\x1b[1;1H\x1b[?2026l"


# -- the same picture as without it

cells = st.sampled_from(SURE)
few = settings(max_examples=40, deadline=None)


@st.composite
def full_frames(draw: st.DrawFn) -> str:
    """Whole rows, as a screen or a wide widget writes them, in pieces of any style."""
    count = draw(st.integers(1, 3))
    strips = []
    for _ in range(count):
        pieces = draw(st.lists(st.tuples(st.text(cells, min_size=1), st.sampled_from(STYLES))))
        strips.append(line(*pieces).adjust_cell_length(WIDTH, None))
    return render(*strips, y=draw(st.integers(0, HEIGHT - count)))


@st.composite
def part_frames(draw: st.DrawFn) -> str:
    """A piece of a row; narrow, for Textual never cuts a wide character in two."""
    text = draw(st.text(st.sampled_from("ab ─"), min_size=1, max_size=6))
    x, y = draw(st.integers(0, WIDTH - len(text))), draw(st.integers(0, HEIGHT - 1))
    return render(line((text, draw(st.sampled_from(STYLES)))), x=x, y=y)


@few
@given(frames=st.lists(full_frames(), min_size=1, max_size=6))
def test_rows_look_the_same_as_without_the_driver(frames: list[str]) -> None:
    shown = Shown()
    assert shows([shown.update(frame) for frame in frames]) == shows(frames)


narrow = full_frames().filter(lambda frame: not any(c in frame for c in SURE[6:]))


@few
@given(frames=st.lists(st.one_of(part_frames(), narrow), min_size=1, max_size=8))
def test_parts_of_rows_look_the_same_as_without_the_driver(frames: list[str]) -> None:
    shown = Shown()
    assert shows([shown.update(frame) for frame in frames]) == shows(frames)


@few
@given(frames=st.lists(full_frames(), min_size=2, max_size=6), cut=st.integers(1, 5))
def test_what_was_forgotten_is_drawn_again(frames: list[str], cut: int) -> None:
    shown, sent = Shown(), []
    for number, frame in enumerate(frames):
        if number == cut:
            shown.forget()
            sent.append("\x1b[2J")
        sent.append(shown.update(frame))
    plain = list(frames)
    plain.insert(min(cut, len(plain)), "\x1b[2J" if cut < len(frames) else "")
    assert shows(sent) == shows(plain)


@given(st.text())
def test_no_control_passes_the_filter(text: str) -> None:
    (segment,) = ControlFilter().apply([Segment(text)], Color(0, 0, 0))
    assert not any(
        ord(c) < 32 or 127 <= ord(c) < 160 or 0x202A <= ord(c) <= 0x202E for c in segment.text
    )
    assert len(segment.text) == len(text)
