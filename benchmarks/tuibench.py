#!/usr/bin/env python3
"""Measure a terminal application from the outside, through a pseudo-terminal.

    tuibench.py run [options] -- COMMAND [ARG...]
    tuibench.py table RESULT.json...

``run`` starts COMMAND in a pty of a fixed size, answers the queries it sends to
"the terminal", and measures what the person at the far end of an SSH link pays:

* start      time to first byte, to first paint (first quiet gap once text is on
             screen), to 95 % of the settled screen; bytes and CPU spent on it
* keys       key -> first output and key -> quiet (p50/p95/max), bytes per key
* burst      a held key: bytes per key and how long the app needs to drain
* idle       bytes, bursts and CPU seconds (user+system, process tree) per second
* memory     peak RSS of the process tree, PSS at the end
* resize     time and bytes to repaint after a window-size change
* quit       time from the quit key to exit, and whether the terminal was restored

Only the standard library is needed. With ``pyte`` installed it also dumps the
screen as text and computes the 95 % time. Linux only: it reads /proc.

Timing is taken on this side of the pty. Nothing but ``select`` and ``read`` runs
while a sample is open: parsing for the screen is done afterwards, by replay.
"""

from __future__ import annotations

import argparse
import codecs
import errno
import fcntl
import json
import os
import platform
import pty
import random
import re
import select
import signal
import statistics
import struct
import sys
import termios
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    import pyte
except ImportError:  # The screen dump and the 95 % time are then left out.
    pyte = None

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

# One whole escape sequence: CSI, OSC, DCS/APC/PM/SOS, or a two-byte escape.
ESCAPE = re.compile(
    rb"\x1b(?:"
    rb"\[(?P<csi>[0-?]*[ -/]*[@-~])"
    rb"|\](?P<osc>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    rb"|(?P<str>[P_^X][^\x1b]*)\x1b\\"
    rb"|[ -/]*[0-OQ-WYZ\\`-~]"
    rb")"
)
UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[\]P_^X][^\x07\x1b]*\x1b?|[ -/]*)?\Z")

NAMED_KEYS = {
    "tab": b"\t",
    "shift+tab": b"\x1b[Z",
    "enter": b"\r",
    "esc": b"\x1b",
    "space": b" ",
    "backspace": b"\x7f",
    "delete": b"\x1b[3~",
    "pgup": b"\x1b[5~",
    "pgdn": b"\x1b[6~",
    "f1": b"\x1bOP",
    "f2": b"\x1bOQ",
    "f3": b"\x1bOR",
    "f4": b"\x1bOS",
    "f5": b"\x1b[15~",
    "f10": b"\x1b[21~",
}
CURSOR_KEYS = {"up": b"A", "down": b"B", "right": b"C", "left": b"D", "home": b"H", "end": b"F"}

# Private modes that the pretended terminal knows (DECRQM answers 2, "reset").
MODES = {
    "xterm": {1, 7, 25, 1000, 1002, 1003, 1004, 1006, 1049, 2004},
    "modern": {1, 7, 25, 1000, 1002, 1003, 1004, 1006, 1016, 1049, 2004, 2026},
}


def encode_key(name: str, application_cursor: bool) -> bytes:
    """The bytes that a terminal sends for a key name such as ``down`` or ``ctrl+p``."""
    if name in CURSOR_KEYS:
        return (b"\x1bO" if application_cursor else b"\x1b[") + CURSOR_KEYS[name]
    if name in NAMED_KEYS:
        return NAMED_KEYS[name]
    if name.startswith("ctrl+") and len(name) == 6:
        return bytes([ord(name[5].upper()) & 0x1F])
    if name.startswith("alt+") and len(name) == 5:
        return b"\x1b" + name[4].encode()
    return name.encode()


# --------------------------------------------------------------------- /proc


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.extend(map(int, (task / "children").read_text().split()))
    except OSError:
        pass
    return found


def tree(root: int) -> list[int]:
    pids, todo = [], [root]
    while todo:
        pid = todo.pop()
        pids.append(pid)
        todo.extend(children_of(pid))
    return pids


def cpu_seconds(root: int) -> float:
    """User + system seconds of the live tree and of the children it has reaped."""
    ticks = 0
    for pid in tree(root):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        ticks += sum(map(int, stat.rpartition(")")[2].split()[11:15]))
    return ticks / CLOCK_TICKS


def memory_kib(root: int, what: str = "rss") -> int:
    """RSS (cheap) or PSS (shared pages counted once, slower) of the tree in KiB."""
    total = 0
    for pid in tree(root):
        try:
            if what == "rss":
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                total += pages * os.sysconf("SC_PAGE_SIZE") // 1024
            else:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])
        except (OSError, TypeError):
            continue
    return total


# ------------------------------------------------------------------ terminal


@dataclass
class Terminal:
    """What the far side knows of itself: it answers queries and counts output."""

    columns: int
    rows: int
    profile: str
    log: list[tuple[float, bytes]] = field(default_factory=list)
    byte_count: int = 0
    printable: int = 0
    frames: int = 0
    queries: dict[str, int] = field(default_factory=dict)
    modes: dict[int, bool] = field(default_factory=dict)
    _tail: bytes = b""

    def receive(self, data: bytes, now: float) -> bytes:
        """Take output in; the return value is what the terminal types back."""
        self.log.append((now, data))
        self.byte_count += len(data)
        text = self._tail + data
        cut = UNFINISHED.search(text)
        self._tail = text[cut.start() :][:4096] if cut else b""
        if cut:
            text = text[: cut.start()]
        answers = []
        escapes = 0
        for match in ESCAPE.finditer(text):
            escapes += match.end() - match.start()
            if match["csi"] is not None:
                answers.append(self._on_csi(match["csi"].decode("latin-1")))
            elif match["osc"] is not None:
                answers.append(self._on_osc(match["osc"].decode("latin-1")))
            elif match["str"] is not None:
                answers.append(self._on_string(match["str"].decode("latin-1")))
        self.printable += len(text) - escapes
        return b"".join(answer.encode("latin-1") for answer in answers if answer)

    def _asked(self, name: str) -> None:
        self.queries[name] = self.queries.get(name, 0) + 1

    def _on_csi(self, body: str) -> str:
        if body[-1] in "hl" and body.startswith("?"):
            for number in body[1:-1].split(";"):
                if number.isdigit():
                    self.modes[int(number)] = body[-1] == "h"
            if body == "?2026h":
                self.frames += 1
            return ""
        if body[-1] not in "cnpqtu":
            return ""
        answer = self._answer_csi(body)
        if answer is not None:
            self._asked("CSI " + body)
        return answer or ""

    def _answer_csi(self, body: str) -> str | None:
        """None: not a query. Empty: a query this terminal would leave unanswered."""
        fixed = {
            "c": "\x1b[?62;22c",
            "0c": "\x1b[?62;22c",
            ">c": "\x1b[>41;390;0c",
            ">0c": "\x1b[>41;390;0c",
            "=c": "\x1bP!|00000000\x1b\\",
            "5n": "\x1b[0n",
            "14t": f"\x1b[4;{self.rows * 20};{self.columns * 10}t",
            "16t": "\x1b[6;20;10t",
            "18t": f"\x1b[8;{self.rows};{self.columns}t",
        }
        if body in fixed:
            return fixed[body]
        if body in ("6n", "?6n"):
            row, column = self._cursor()
            return f"\x1b[{'?' if body[0] == '?' else ''}{row};{column}R"
        if body == "?996n":
            return "\x1b[?997;1n" if self.profile == "modern" else ""
        if body in (">q", ">0q"):
            return "\x1bP>|tuibench 1\x1b\\" if self.profile == "modern" else ""
        if body == "?u":
            return "\x1b[?0u" if self.profile == "modern" else ""
        if match := re.fullmatch(r"(\??)(\d+)\$p", body):
            number = int(match[2])
            known = match[1] and number in MODES[self.profile]
            state = (1 if self.modes.get(number) else 2) if known else 0
            return f"\x1b[{match[1]}{number};{state}$y"
        return None

    def _on_osc(self, body: str) -> str:
        if not body.endswith("?"):
            return ""
        self._asked("OSC " + body)
        code = body.split(";")[0]
        colour = {"10": "d0d0/d0d0/d0d0", "11": "1212/1212/1212", "12": "d0d0/d0d0/d0d0"}
        if code in colour:
            return f"\x1b]{code};rgb:{colour[code]}\x1b\\"
        if match := re.fullmatch(r"4;(\d+);\?", body):
            return f"\x1b]4;{match[1]};rgb:8080/8080/8080\x1b\\"
        return ""

    def _on_string(self, body: str) -> str:
        if body.startswith("P+q"):
            self._asked("DCS +q")
            return "\x1bP0+r\x1b\\"
        if body.startswith("P$q"):
            self._asked("DCS $q")
            return "\x1bP0$r\x1b\\"
        if body.startswith("_G"):
            self._asked("APC G")  # No kitty graphics here: left unanswered.
        return ""

    def _cursor(self) -> tuple[int, int]:
        if pyte is None:
            return 1, 1
        screen = Replay(self.columns, self.rows)
        for _, data in self.log:
            screen.feed(data)
        return screen.screen.cursor.y + 1, screen.screen.cursor.x + 1


class Replay:
    """A pyte screen fed with output from which pyte's blind spots were taken out."""

    def __init__(self, columns: int, rows: int) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self.screen)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._tail = b""

    def feed(self, data: bytes) -> None:
        text = self._tail + data
        cut = UNFINISHED.search(text)
        self._tail = text[cut.start() :] if cut else b""
        if cut:
            text = text[: cut.start()]
        self._stream.feed(self._decode(ESCAPE.sub(self._keep, text)))

    @staticmethod
    def _keep(match: re.Match[bytes]) -> bytes:
        body = match["csi"]
        if body is None:
            return b"" if match["osc"] is not None or match["str"] is not None else match[0]
        if body in (b"?1049h", b"?1049l", b"?47h"):
            return b"\x1b[2J\x1b[H"
        if body[:1] in (b"<", b"=", b">") or re.search(rb"[ -/]", body):
            return b""
        if body[:1] == b"?" and body[-1:] not in b"hl":
            return b""
        if body[-1:] == b"m" and b":" in body:
            return b"\x1b[" + re.sub(rb"4:\d", b"4", body).replace(b":", b";")
        return match[0]

    def text(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]


# ---------------------------------------------------------------------- app


class App:
    """The command under test, in its own session on its own pty."""

    def __init__(self, command: Sequence[str], options: argparse.Namespace) -> None:
        columns, rows = options.size
        self.terminal = Terminal(columns, rows, options.profile)
        self.exit_status: int | None = None
        self.peak_rss = 0
        self._seconds_per_byte = 8 / (options.link_kbps * 1000) if options.link_kbps else 0.0
        environment = {
            **os.environ,
            "TERM": options.term,
            "COLORTERM": "truecolor",
        }
        for name in ("COLUMNS", "LINES", "NO_COLOR", "TMUX", "STY"):
            environment.pop(name, None)
        environment.update(pair.split("=", 1) for pair in options.env)
        # The child waits on a pipe until its window has its size and the clock runs.
        gate, opener = os.pipe()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.close(opener)
                os.read(gate, 1)
                os.close(gate)
                if options.cwd:
                    os.chdir(options.cwd)
                os.execvpe(command[0], list(command), environment)
            except OSError as error:
                os.write(2, f"tuibench: {command[0]}: {error}\n".encode())
            os._exit(127)
        os.close(gate)
        self._set_size(columns, rows)
        self.started = time.perf_counter()
        os.write(opener, b"x")
        os.close(opener)

    def _set_size(self, columns: int, rows: int) -> None:
        size = struct.pack("HHHH", rows, columns, columns * 10, rows * 20)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, size)

    def resize(self, columns: int, rows: int) -> None:
        self.terminal.columns, self.terminal.rows = columns, rows
        self._set_size(columns, rows)

    def send(self, name: str) -> None:
        self.write(encode_key(name, self.terminal.modes.get(1, False)))

    def write(self, data: bytes) -> None:
        try:
            os.write(self.fd, data)
        except OSError:
            pass

    def read(self, timeout: float) -> float | None:
        """Wait for output; its arrival time, or None when none came in time."""
        try:
            ready, _, _ = select.select([self.fd], [], [], max(timeout, 0))
            if not ready:
                return None
            now = time.perf_counter()
            data = os.read(self.fd, 512 if self._seconds_per_byte else 65536)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EBADF):
                raise
            data = b""
        if not data:
            self._reap()
            time.sleep(min(timeout, 0.01))
            return None
        if self._seconds_per_byte:
            time.sleep(len(data) * self._seconds_per_byte)
        answer = self.terminal.receive(data, now)
        if answer:
            self.write(answer)
        return now

    def run_for(self, seconds: float) -> int:
        """Take output for a while; the number of bursts (gaps over 20 ms part them)."""
        end = time.perf_counter() + seconds
        bursts, last = 0, 0.0
        while (left := end - time.perf_counter()) > 0 and self.alive:
            now = self.read(min(left, 0.1))
            if now is not None:
                bursts += now - last > 0.02
                last = now
            else:
                self.sample()
        return bursts

    def until_quiet(self, quiet: float, limit: float) -> tuple[float | None, float | None]:
        """Times of the first and last output before a gap of `quiet` seconds.

        Waits up to `limit` for the first output, and stops `limit` after the call
        at the latest when the output never pauses.
        """
        end = time.perf_counter() + limit
        first = last = None
        while self.alive:
            now = time.perf_counter()
            wait = (end if last is None else min(last + quiet, end)) - now
            if wait <= 0:
                break
            arrived = self.read(wait)
            if arrived is not None:
                first = first or arrived
                last = arrived
        return first, last

    def sample(self) -> None:
        self.peak_rss = max(self.peak_rss, memory_kib(self.pid))

    @property
    def alive(self) -> bool:
        return self.exit_status is None

    def _reap(self) -> None:
        if self.exit_status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 0
            if pid:
                self.exit_status = os.waitstatus_to_exitcode(status)

    def stop(self) -> None:
        """End the session this object started: TERM, then KILL, by its own pids."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._reap()
            if not self.alive:
                break
            for pid in reversed(tree(self.pid)):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            end = time.perf_counter() + 2
            while self.alive and time.perf_counter() < end:
                self.read(0.05)
                self._reap()
        os.close(self.fd)


# ------------------------------------------------------------------ measures


def milliseconds(value: float | None) -> float | None:
    return None if value is None else round(value * 1000, 1)


def summary(values: Iterable[float]) -> dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {}
    at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]  # noqa: E731
    return {
        "n": len(ordered),
        "min": round(ordered[0], 1),
        "p50": round(statistics.median(ordered), 1),
        "p95": round(at(0.95), 1),
        "max": round(ordered[-1], 1),
    }


def measure_start(app: App, options: argparse.Namespace) -> dict[str, Any]:
    quiet, deadline = options.quiet / 1000, app.started + options.start_timeout
    first = last = paint = None
    next_sample = 0.0
    while app.alive and time.perf_counter() < deadline:
        wait = deadline if last is None else last + quiet
        arrived = app.read(min(wait - time.perf_counter(), 0.2))
        now = time.perf_counter()
        if arrived is not None:
            first = first or arrived
            last = arrived
        elif last is not None and now - last >= quiet:
            if app.terminal.printable >= options.min_text:
                paint = last
                break
            last = now - quiet + 0.01  # Set-up sequences only: wait on.
        if now > next_sample:
            app.sample()
            next_sample = now + 0.1
    result = {
        "first_byte_ms": milliseconds(first and first - app.started),
        "first_paint_ms": milliseconds(paint and paint - app.started),
        "first_paint_bytes": app.terminal.byte_count,
        "first_paint_cpu_s": round(cpu_seconds(app.pid), 2),
    }
    app.run_for(options.settle)
    result["settled_bytes"] = app.terminal.byte_count
    result["settled_bytes_zlib"] = len(zlib.compress(b"".join(d for _, d in app.terminal.log), 6))
    result["settled_cpu_s"] = round(cpu_seconds(app.pid), 2)
    if pyte is not None:
        result["paint95_ms"] = milliseconds(time_to_share(app, 0.95))
    return result


def time_to_share(app: App, share: float) -> float | None:
    """When the screen first held this share of the settled screen's non-blank cells."""
    terminal = app.terminal
    final = Replay(terminal.columns, terminal.rows)
    for _, data in terminal.log:
        final.feed(data)
    target = final.text()
    wanted = sum(not char.isspace() for line in target for char in line)
    if not wanted:
        return None
    replay = Replay(terminal.columns, terminal.rows)
    log = terminal.log
    for index, (now, data) in enumerate(log):
        replay.feed(data)
        if index + 1 < len(log) and log[index + 1][0] - now < 0.004:
            continue
        same = sum(
            a == b and not b.isspace()
            for have, want in zip(replay.text(), target, strict=True)
            for a, b in zip(have, want)  # noqa: B905 - lines are stripped
        )
        if same >= share * wanted:
            return now - app.started
    return None


def measure_keys(app: App, options: argparse.Namespace) -> dict[str, Any]:
    quiet = options.key_quiet / 1000
    first_times, quiet_times, sizes, packed, unanswered = [], [], [], [], 0
    spans: list[tuple[int, int]] = []
    rng = random.Random(7)
    for index in range(options.samples):
        if not app.alive:
            break
        app.until_quiet(quiet, 0.5 + rng.random() * 0.1)
        app.sample()
        mark = len(app.terminal.log)
        sent = time.perf_counter()
        app.send(options.keys[index % len(options.keys)])
        first, last = app.until_quiet(quiet, 1.0)
        if first is None or last is None:
            unanswered += 1
            continue
        first_times.append((first - sent) * 1000)
        quiet_times.append((last - sent) * 1000)
        data = b"".join(data for _, data in app.terminal.log[mark:])
        sizes.append(len(data))
        packed.append(len(zlib.compress(data, 6)))
        spans.append((mark, len(app.terminal.log)))
    return {
        "keys": options.keys,
        "first_ms": summary(first_times),
        "quiet_ms": summary(quiet_times),
        "bytes": summary(sizes),
        "bytes_zlib": summary(packed),
        "cells_changed": summary(cells_changed(app.terminal, spans)),
        "unanswered": unanswered,
    }


def cells_changed(terminal: Terminal, spans: Sequence[tuple[int, int]]) -> list[int]:
    """How many cells each span of the log really changed: the least a key could cost."""
    if pyte is None:
        return []
    replay, position, changed = Replay(terminal.columns, terminal.rows), 0, []

    def advance(end: int) -> list[Any]:
        nonlocal position
        for _, data in terminal.log[position:end]:
            replay.feed(data)
        position = end
        rows, columns = range(terminal.rows), range(terminal.columns)
        return [replay.screen.buffer[y][x] for y in rows for x in columns]

    for start, end in spans:
        before, after = advance(start), advance(end)
        changed.append(sum(a != b for a, b in zip(before, after, strict=True)))
    return changed


def measure_burst(app: App, options: argparse.Namespace) -> dict[str, Any]:
    """Hold a key down at the repeat rate of a keyboard, then let the app catch up."""
    if not options.burst or not app.alive:
        return {}
    app.until_quiet(0.15, 1.0)
    before, cpu = app.terminal.byte_count, cpu_seconds(app.pid)
    start = time.perf_counter()
    for index in range(options.burst):
        due = start + index / options.burst_rate
        while (left := due - time.perf_counter()) > 0:
            app.read(left)
        app.send(options.burst_keys[index % len(options.burst_keys)])
    sent = time.perf_counter()
    _, last = app.until_quiet(options.key_quiet / 1000, 3.0)
    return {
        "keys": options.burst_keys,
        "count": options.burst,
        "rate_hz": options.burst_rate,
        "drain_ms": milliseconds((last or sent) - sent),
        "bytes_per_key": round((app.terminal.byte_count - before) / options.burst),
        "cpu_ms_per_key": round((cpu_seconds(app.pid) - cpu) * 1000 / options.burst, 1),
    }


def measure_idle(app: App, options: argparse.Namespace) -> dict[str, Any]:
    app.until_quiet(0.15, 1.0)
    before, frames, cpu = app.terminal.byte_count, app.terminal.frames, cpu_seconds(app.pid)
    start = time.perf_counter()
    bursts = app.run_for(options.idle)
    wall = time.perf_counter() - start
    return {
        "seconds": round(wall, 1),
        "bytes_per_s": round((app.terminal.byte_count - before) / wall, 1),
        "bursts_per_s": round(bursts / wall, 2),
        "sync_frames_per_s": round((app.terminal.frames - frames) / wall, 2),
        "cpu_s_per_s": round((cpu_seconds(app.pid) - cpu) / wall, 4),
    }


def measure_resize(app: App, options: argparse.Namespace) -> dict[str, Any]:
    if not options.resize or not app.alive:
        return {}
    app.until_quiet(0.1, 1.0)
    before, sent = app.terminal.byte_count, time.perf_counter()
    app.resize(*options.resize)
    first, last = app.until_quiet(options.quiet / 1000, 2.0)
    size = app.terminal.byte_count - before
    app.resize(*options.size)
    app.until_quiet(options.quiet / 1000, 2.0)
    return {
        "to": "x".join(map(str, options.resize)),
        "first_ms": milliseconds(first and first - sent),
        "quiet_ms": milliseconds(last and last - sent),
        "bytes": size,
    }


def measure_quit(app: App, options: argparse.Namespace) -> dict[str, Any]:
    if not options.quit_keys or not app.alive:
        return {}
    start = time.perf_counter()
    for key in options.quit_keys:
        app.send(key)
        app.until_quiet(0.05, 0.3)
    while app.alive and time.perf_counter() - start < 5:
        app.read(0.01)
        app._reap()
    modes = app.terminal.modes
    return {
        "exited": not app.alive,
        "exit_status": app.exit_status,
        "exit_ms": milliseconds(time.perf_counter() - start),
        "terminal_restored": not modes.get(1049) and modes.get(25, True),
        "modes_left_on": sorted(n for n in (1000, 1002, 1003, 1004, 1006, 2004) if modes.get(n)),
    }


def run_once(command: Sequence[str], options: argparse.Namespace, full: bool) -> dict[str, Any]:
    app = App(command, options)
    result: dict[str, Any] = {}
    try:
        result["start"] = measure_start(app, options)
        if full and app.alive:
            for key in options.setup_keys:
                app.send(key)
                app.until_quiet(0.6, 3.0)
            app.run_for(options.setup_wait)
            steps: list[tuple[str, Callable[..., dict[str, Any]]]] = [
                ("idle", measure_idle),
                ("keys", measure_keys),
                ("burst", measure_burst),
                ("resize", measure_resize),
            ]
            for name, step in steps:
                result[name] = step(app, options)
        app.sample()
        result["memory"] = {
            "peak_rss_mib": round(app.peak_rss / 1024, 1),
            "pss_mib": round(memory_kib(app.pid, "pss") / 1024, 1) if app.alive else None,
            "processes": len(tree(app.pid)) if app.alive else 0,
        }
        if full and pyte is not None:
            replay = Replay(app.terminal.columns, app.terminal.rows)
            for _, data in app.terminal.log:
                replay.feed(data)
            result["screen"] = replay.text()
        if full:
            result["quit"] = measure_quit(app, options)
            result["queries"] = app.terminal.queries
            if options.raw:
                Path(options.raw).write_bytes(b"".join(data for _, data in app.terminal.log))
    finally:
        app.stop()
    result["exit_status"] = app.exit_status
    return result


def run(options: argparse.Namespace) -> int:
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise SystemExit("tuibench: no command given")
    starts = [run_once(command, options, full=False)["start"] for _ in range(options.repeat - 1)]
    result = run_once(command, options, full=True)
    starts.append(result["start"])
    result["start"] = {
        key: statistics.median(values)
        for key in starts[-1]
        if (values := [start[key] for start in starts if start.get(key) is not None])
    }
    result = {
        "label": options.label or Path(command[0]).name,
        "command": command,
        "size": "x".join(map(str, options.size)),
        "profile": options.profile,
        "link_kbps": options.link_kbps or None,
        "machine": {
            "cpus": os.cpu_count(),
            "kernel": platform.release(),
            "load1": round(os.getloadavg()[0], 2),
        },
        "starts": starts,
        **result,
    }
    screen = result.get("screen")
    if options.dump and screen is not None:
        Path(options.dump).write_text("\n".join(screen) + "\n")
    text = json.dumps(result, indent=2, ensure_ascii=False)
    if options.json:
        Path(options.json).write_text(text + "\n")
    else:
        print(text)
    return 0


def table(options: argparse.Namespace) -> int:
    def pick(result: dict[str, Any], *path: str) -> str:
        value: Any = result
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    columns = [
        ("app", ("label",)),
        ("first byte ms", ("start", "first_byte_ms")),
        ("first paint ms", ("start", "first_paint_ms")),
        ("95 % ms", ("start", "paint95_ms")),
        ("start CPU s", ("start", "settled_cpu_s")),
        ("start bytes", ("start", "settled_bytes")),
        ("key first p50", ("keys", "first_ms", "p50")),
        ("p95", ("keys", "first_ms", "p95")),
        ("key quiet p50", ("keys", "quiet_ms", "p50")),
        ("p95", ("keys", "quiet_ms", "p95")),
        ("bytes/key p50", ("keys", "bytes", "p50")),
        ("zlib", ("keys", "bytes_zlib", "p50")),
        ("cells/key", ("keys", "cells_changed", "p50")),
        ("burst drain ms", ("burst", "drain_ms")),
        ("burst CPU ms/key", ("burst", "cpu_ms_per_key")),
        ("idle B/s", ("idle", "bytes_per_s")),
        ("idle CPU s/s", ("idle", "cpu_s_per_s")),
        ("peak RSS MiB", ("memory", "peak_rss_mib")),
        ("quit ms", ("quit", "exit_ms")),
    ]
    print("| " + " | ".join(title for title, _ in columns) + " |")
    print("|" + "---|" * len(columns))
    for name in options.results:
        result = json.loads(Path(name).read_text())
        print("| " + " | ".join(pick(result, *path) for _, path in columns) + " |")
    return 0


def size(text: str) -> tuple[int, int]:
    columns, _, rows = text.partition("x")
    return int(columns), int(rows)


def key_list(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    bench = commands.add_parser("run", help="measure one command")
    add = bench.add_argument
    add("--label", help="name in the table")
    add("--size", type=size, default=(120, 40), help="columns x rows (120x40)")
    add(
        "--profile",
        choices=sorted(MODES),
        default="modern",
        help="modern: answers kitty-keyboard, synchronized-output and XTVERSION queries",
    )
    add("--term", default="xterm-256color")
    add("--env", action="append", default=[], metavar="NAME=VALUE")
    add("--cwd")
    add("--link-kbps", type=float, default=0, help="read no faster than this link would")
    add("--start-timeout", type=float, default=30)
    add("--quiet", type=float, default=150, help="ms without output that end the first paint")
    add("--min-text", type=int, default=200, help="printable bytes that make a first paint")
    add("--settle", type=float, default=1.5, help="s of warm-up after the first paint")
    add("--setup-keys", type=key_list, default=[], help="keys sent once before measuring")
    add("--setup-wait", type=float, default=0)
    add("--keys", type=key_list, default=["down", "up"], help="keys that are sent in turn")
    add("--samples", type=int, default=40)
    add("--key-quiet", type=float, default=60, help="ms without output that end a key's paint")
    add("--burst", type=int, default=60, help="keys in the held-key test (0: none)")
    add("--burst-keys", type=key_list, default=["down"], help="sent in turn")
    add("--burst-rate", type=float, default=30, help="keys per second")
    add("--idle", type=float, default=10)
    add("--resize", type=size, help="also measure a change to this size and back")
    add("--quit-keys", type=key_list, default=[])
    add("--repeat", type=int, default=3, help="starts; the median is reported")
    add("--dump", help="write the last screen, as text, to this file")
    add("--raw", help="write all output to this file")
    add("--json", help="write the result to this file instead of stdout")
    add("command", nargs=argparse.REMAINDER)
    bench.set_defaults(handler=run)
    show = commands.add_parser("table", help="a Markdown table of several results")
    show.add_argument("results", nargs="+")
    show.set_defaults(handler=table)
    options = parser.parse_args(arguments)
    return options.handler(options)


if __name__ == "__main__":
    sys.exit(main())
