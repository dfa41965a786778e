"""The command line on a terminal (a pty): colour, the console, the quickstart on the screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from console import settings
from console.desk.desk import Desk
from console.runs.model import RunState
from tests.processes import until
from tests.support import Operator

pytestmark = pytest.mark.integration

LEFT_ALTERNATE_SCREEN = b"\x1b[?1049l"


class Terminal:
    """One `tritondeck` on a pty of 120×40; `after` reads on until something holds."""

    def __init__(self, home: Path, *words: str, **environ: str) -> None:
        self.output = b""
        env = {**Operator(home).env, "TERM": "xterm-256color", **environ}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(sys.executable, [sys.executable, "-m", "console.cli", *words], env)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))

    def read(self) -> bool:
        """Read what is there; False at the end."""
        if not select.select([self.fd], [], [], 0.1)[0]:
            return True
        try:
            chunk = os.read(self.fd, 65536)
        except OSError:  # EIO: how Linux says that the other side is closed
            return False
        self.output += chunk
        return bool(chunk)

    def after(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert self.read(), f"it ended: {self.output[-2000:]!r}"
            assert time.monotonic() < deadline, f"not in {seconds} s: {self.output[-2000:]!r}"

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def ended(self, seconds: float = 60) -> int:
        deadline = time.monotonic() + seconds
        while self.read():
            assert time.monotonic() < deadline, f"still there: {self.output[-2000:]!r}"
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_verdicts_are_coloured_on_a_terminal(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "doctor")
    assert terminal.ended() == 0
    assert b"\x1b[32mpass" in terminal.output


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(tmp_path: Path, environ: dict[str, str]) -> None:
    terminal = Terminal(tmp_path, "doctor", **environ)
    assert terminal.ended() == 0
    assert b"\x1b" not in terminal.output


def test_without_a_verb_the_console_opens_and_q_leaves_the_terminal_as_it_was(
    tmp_path: Path,
) -> None:
    terminal = Terminal(tmp_path)
    terminal.after(lambda: b"Leave" in terminal.output)
    terminal.type("q")
    assert terminal.ended() == 0
    assert LEFT_ALTERNATE_SCREEN in terminal.output


@pytest.mark.slow
def test_the_quickstart_runs_on_the_screen_and_ends_with_the_answer(tmp_path: Path) -> None:
    desk = Desk(settings.load({"TRITONDECK_HOME": str(tmp_path)}))
    terminal = Terminal(tmp_path, "quickstart")
    terminal.after(lambda: any(run.state is RunState.SUCCEEDED for run in desk.runs("digits")), 300)
    terminal.type("\x11")
    assert terminal.ended() == 0
    shown = terminal.output.rpartition(LEFT_ALTERNATE_SCREEN)[2].decode()
    assert "digits_1.wav: nine two eight" in shown
    assert "right after" in shown
    until(lambda: not Operator(tmp_path).processes())
