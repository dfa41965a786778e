"""The console in a real pseudo-terminal: what reaches it, and how it is left."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.screens.pseudo import Terminal

POISON = r"[/] [@click=app.quit]x[/] \x1b]52;c;cHduZWQ=\x07\x1b]0;PWN\x07\x9dPWN2\x9c"


def double(home: Path, poison: str = "-", what: str = "run") -> Terminal:
    """The console on the desk double."""
    return Terminal([sys.executable, "-m", "tests.screens.terminal", str(home), poison, what])


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for terminal in made:
        terminal.close()


def opened(terminals: list[Terminal], *arguments: str, home: Path) -> Terminal:
    terminals.append(double(home, *arguments))
    terminals[-1].until(b"digits")
    terminals[-1].read(0.3)
    return terminals[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal(
    terminals: list[Terminal], tmp_path: Path, number: signal.Signals
) -> None:
    terminal = opened(terminals, home=tmp_path)
    terminal.process.send_signal(number)
    assert terminal.ended() == 128 + number
    assert terminal.restored
    assert b"runs and servers go on" in terminal.output


def test_leaving_restores_the_terminal_and_says_that_runs_go_on(
    terminals: list[Terminal], tmp_path: Path
) -> None:
    terminal = opened(terminals, home=tmp_path)
    terminal.press(b"q")
    assert terminal.ended() == 0
    assert terminal.restored
    assert b"runs and servers go on" in terminal.output


def test_a_line_that_drops_ends_the_console(tmp_path: Path) -> None:
    terminal = double(tmp_path)
    terminal.until(b"digits")
    terminal.hang_up()
    # The signal and the end of input race; either way it ends, and soon.
    assert terminal.process.wait(15) in (1, 128 + signal.SIGHUP)


def test_a_crash_prints_one_line_and_no_locals(terminals: list[Terminal], tmp_path: Path) -> None:
    terminal = opened(terminals, "-", "crash", home=tmp_path)
    assert terminal.ended() == 1
    assert terminal.restored
    assert b"internal error (ZeroDivisionError)" in terminal.output
    (saved,) = (tmp_path / "state" / "crashes").iterdir()
    assert saved.stat().st_mode & 0o777 == 0o600
    assert "ZeroDivisionError" in saved.read_text()
    assert "hf_ccc" not in saved.read_text() + terminal.output.decode("utf-8", "replace")


def test_no_escape_of_foreign_text_reaches_the_terminal(
    terminals: list[Terminal], tmp_path: Path
) -> None:
    terminal = opened(terminals, POISON, home=tmp_path)
    for keys in (b"n", b"j", b"\r", b"?", b"\x1b", b"\r", b"\x0e", b"\r", b"\t", b"?"):
        terminal.press(keys)
        terminal.read(0.5)
    assert terminal.process.poll() is None
    assert b"PWN" not in terminal.output
    # OSC 22 is Textual's own: the shape of the mouse pointer.
    assert not re.search(rb"\x1b\](?!22;)|\x1b[PX^_]", terminal.output)
    assert not re.search(rb"\xc2[\x80-\x9f]", terminal.output)


def test_a_cursor_key_costs_few_bytes(terminals: list[Terminal], tmp_path: Path) -> None:
    terminal = opened(terminals, home=tmp_path)
    terminal.read(1.0)
    sizes = []
    for _ in range(4):
        before = len(terminal.output)
        terminal.press(b"j")
        terminal.read(0.4)
        sizes.append(len(terminal.output) - before)
    assert sorted(sizes)[len(sizes) // 2] < 2000, sizes


def test_a_static_screen_sends_nothing(terminals: list[Terminal], tmp_path: Path) -> None:
    terminal = opened(terminals, home=tmp_path)
    terminal.press(b"n")
    terminal.until(b"clip.onnx")
    terminal.read(1.5)
    before = len(terminal.output)
    terminal.read(2.5)
    assert len(terminal.output) == before, terminal.output[before:][:300]
