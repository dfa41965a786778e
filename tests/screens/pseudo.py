"""A pseudo-terminal with a console in it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyte

ROOT = Path(__file__).parents[2]


class Terminal:
    """A pseudo-terminal with the console in it; keeps every byte that it sent."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.master, slave = pty.openpty()
        self.size = (120, 36)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.output = b""
        given = os.environ if env is None else env
        # Whoever runs the tests may have said a size in them, which counts more than the terminal's own.
        self.process = subprocess.Popen(
            list(argv),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            start_new_session=True,
            env={
                **{
                    name: value for name, value in given.items() if name not in ("COLUMNS", "LINES")
                },
                "TERM": "xterm-256color",
                "COLORTERM": "truecolor",
            },
        )

    def read(self, seconds: float) -> None:
        """Everything that comes within `seconds`, and all that is there by then."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if select.select([self.master], [], [], max(0.0, min(left, 0.1)))[0]:
                self.output += os.read(self.master, 65536)
            elif left <= 0:
                return

    def until(self, text: bytes, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < end, f"{text!r} did not come: {self.output[-500:]!r}"
            ended = self.process.poll() is not None
            self.read(0.1)  # what it said last is read after its end
            assert not ended or text in self.output, self.output[-2000:]

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Read until something is so."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"it did not come to be: {self.output[-500:]!r}"
            self.read(0.1)

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def ended(self, seconds: float = 60) -> int:
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, "the console did not end"
            self.read(0.1)
        self.read(0.2)
        return self.process.returncode

    def settle(self, quiet: float = 0.5) -> None:
        """Read until nothing has come for `quiet` seconds, counted in reads: while the machine stands
        still nobody is quiet."""
        end = time.monotonic() + 60
        rests, seen = 0, len(self.output)
        while rests < quiet / 0.05:
            assert time.monotonic() < end, f"it never rests: {self.output[-500:]!r}"
            self.read(0.05)
            rests = rests + 1 if len(self.output) == seen else 0
            seen = len(self.output)

    def resize(self, width: int, height: int) -> None:
        self.size = (width, height)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        # The kernel tells the foreground group of a controlling terminal; this one controls nobody.
        self.process.send_signal(signal.SIGWINCH)

    def shown(self, since: int = 0) -> list[str]:
        """The lines that a terminal shows after the output from byte `since` on."""
        screen = pyte.Screen(*self.size)
        pyte.ByteStream(screen).feed(self.output[since:])
        return [line.rstrip() for line in screen.display]

    @property
    def stopped(self) -> bool:
        """Whether the process was stopped by job control."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(") ")[2].startswith("T")

    def hang_up(self) -> None:
        """The SSH line drops: the terminal is gone and its session is told."""
        os.close(self.slave)
        os.close(self.master)
        self.process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        """End the process if it lives, and close the terminal."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    @property
    def restored(self) -> bool:
        """Main screen, cursor, wrapping, no mouse reports, no kitty keys, the settings from before."""
        last = {
            mode: self.output.rfind(b"\x1b[?%sh" % mode) <= self.output.rfind(b"\x1b[?%sl" % mode)
            for mode in (b"1049", b"1000", b"1003", b"1004", b"2004")
        }
        cursor = self.output.rfind(b"\x1b[?25h") >= self.output.rfind(b"\x1b[?25l")
        wraps = self.output.rfind(b"\x1b[?7h") >= self.output.rfind(b"\x1b[?7l")
        keys = self.output.rfind(b"\x1b[<u") >= self.output.rfind(b"\x1b[>")
        plain = all(last.values()) and cursor and wraps and keys
        return plain and termios.tcgetattr(self.slave) == self.before
