"""The console in a real pseudo-terminal: what reaches it, and how it is left."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
POISON = r"[/] [@click=app.quit]x[/] \x1b]52;c;cHduZWQ=\x07\x1b]0;PWN\x07\x9dPWN2\x9c"


class Terminal:
    """A pseudo-terminal with the console in it; keeps every byte that it sent."""

    def __init__(self, home: Path, poison: str = "-", what: str = "run") -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.output = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.screens.terminal", str(home), poison, what],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
        )

    def read(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.master], [], [], min(left, 0.1))[0]:
                self.output += os.read(self.master, 65536)

    def until(self, text: bytes, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < end, f"{text!r} did not come: {self.output[-500:]!r}"
            assert self.process.poll() is None or text in self.output, self.output[-2000:]
            self.read(0.1)

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def ended(self, seconds: float = 15) -> int:
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, "the console did not end"
            self.read(0.1)
        self.read(0.2)
        return self.process.returncode

    @property
    def restored(self) -> bool:
        """Main screen, cursor, no mouse reports, no kitty keys, the settings from before."""
        last = {
            mode: self.output.rfind(b"\x1b[?%sh" % mode) < self.output.rfind(b"\x1b[?%sl" % mode)
            for mode in (b"1049", b"1000", b"1003", b"1004", b"2004")
        }
        cursor = self.output.rfind(b"\x1b[?25h") > self.output.rfind(b"\x1b[?25l")
        keys = self.output.rfind(b"\x1b[<u") > self.output.rfind(b"\x1b[>")
        return (
            all(last.values()) and cursor and keys and termios.tcgetattr(self.slave) == self.before
        )


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for terminal in made:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()
        os.close(terminal.master)
        os.close(terminal.slave)


def opened(terminals: list[Terminal], *arguments: str, home: Path) -> Terminal:
    terminals.append(Terminal(home, *arguments))
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
    terminal = Terminal(tmp_path)
    terminal.until(b"digits")
    os.close(terminal.slave)
    os.close(terminal.master)
    terminal.process.send_signal(signal.SIGHUP)
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
