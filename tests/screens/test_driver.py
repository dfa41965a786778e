"""The driver that drops rows, and the filter that no control passes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.segment import Segment
from textual.color import Color
from textual.drivers.linux_driver import LinuxDriver

from console.driver import ControlFilter, RowDriver


class Screen:
    """What a terminal would show: rows of cells, moved to and overwritten."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[int, str]] = {}

    def feed(self, data: str) -> None:
        import re

        parts = re.split(r"\x1b\[(\d+);(\d+)H", data)
        for y, x, payload in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            for offset, letter in enumerate(payload.rstrip("\n")):
                self.rows.setdefault(int(y), {})[int(x) + offset] = letter


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    sent: list[str] = []
    monkeypatch.setattr(LinuxDriver, "write", lambda self, data: sent.append(data))
    made = RowDriver.__new__(RowDriver)
    made._rows = {}
    made.sent = sent  # type: ignore[attr-defined]
    return made


def frame(*rows: tuple[int, int, str]) -> str:
    return "\n".join(f"\x1b[{y};{x}H{text}" for y, x, text in rows) + "\x1b[1;1H"


def test_a_row_that_is_written_again_is_dropped(driver: Any) -> None:
    driver.write(frame((1, 1, "head"), (2, 1, "body")))
    driver.write(frame((1, 1, "head"), (2, 1, "BODY")))
    assert driver.sent[1] == "\x1b[2;1HBODY\x1b[1;1H"


def test_a_row_written_differently_in_between_is_sent_again(driver: Any) -> None:
    for text in ("one", "two", "one"):
        driver.write(frame((1, 1, text)))
    assert "one" in driver.sent[2]


@pytest.mark.parametrize("cleared", ["\x1b[2J", "\x1b[?1049h", "\x1b[?1049l", "\x1bc"])
def test_a_cleared_terminal_gets_every_row_again(driver: Any, cleared: str) -> None:
    driver.write(frame((1, 1, "head")))
    driver.write(cleared)
    driver.write(frame((1, 1, "head")))
    assert "head" in driver.sent[-1]


def test_everything_that_is_no_frame_passes(driver: Any) -> None:
    for data in ("\x1b[?2026h", "\a", "\x1b]52;c;eA==\x07"):
        driver.write(data)
    assert driver.sent == ["\x1b[?2026h", "\a", "\x1b]52;c;eA==\x07"]


def test_the_cursor_ends_where_the_frame_puts_it(driver: Any) -> None:
    driver.write(frame((5, 1, "x")))
    driver.write(frame((5, 1, "x")))
    assert driver.sent[1].endswith("\x1b[1;1H")


writes = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.text("ab", min_size=1, max_size=4)),
    min_size=1,
    max_size=6,
)


@given(frames=st.lists(writes, min_size=1, max_size=8))
def test_the_terminal_shows_the_same_as_without_dropping(frames: list[list[Any]]) -> None:
    plain, dropped, sent = Screen(), Screen(), []
    driver = RowDriver.__new__(RowDriver)
    driver._rows = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LinuxDriver, "write", lambda self, data: sent.append(data))
        for rows in frames:
            plain.feed(frame(*rows))
            driver.write(frame(*rows))
    for data in sent:
        dropped.feed(data)
    assert dropped.rows == plain.rows


@given(st.text())
def test_no_control_passes_the_filter(text: str) -> None:
    (segment,) = ControlFilter().apply([Segment(text)], Color(0, 0, 0))
    assert not any(
        ord(c) < 32 or 127 <= ord(c) < 160 or 0x202A <= ord(c) <= 0x202E for c in segment.text
    )
    assert len(segment.text) == len(text)
