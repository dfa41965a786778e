"""A container's log copied to our own output: both streams in order, each line once.

``logs --follow`` ends whenever the engine's daemon does, while the container may live on. Every line
comes with its time stamp, and how far we are stands in a file; a new reader, also one of another
process, goes on where the last one was.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from console.runtimes.engine import Engine

_STAMP = re.compile(
    rb"(?P<second>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,9}))?"
    rb"(?:Z|(?P<zone>[+-]\d\d:\d\d)) "
)
_PIECE = 16384
"""Docker cuts longer lines into pieces of this size and puts a time stamp before each; podman puts
one before every piece that was written without a line break."""
_INNER = re.compile(_STAMP.pattern.replace(rb"\d{1,9}", rb"\d{7,9}"))
_CLOSE = 3600 * 10**9
_WIDTH = 120
_LAST = 8192


@dataclass(slots=True)
class Place:
    """How far one stream has been copied: the last time stamp (ns), and how many lines had it."""

    stamp: int = 0
    lines: int = 0


class Copy:
    """One container's log. `open` starts a reader; hand what its pipes give to `take`."""

    def __init__(self, engine: Engine, container: str, place: Path, output: int = 1) -> None:
        self.engine = engine
        self.container = container
        self.output = output
        self._file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._places = _read(os.pread(self._file, _WIDTH, 0))
        self.begin()
        self.process: subprocess.Popen[bytes] | None = None
        self.last = b""
        """The end of what was copied."""

    def open(self) -> tuple[IO[bytes], IO[bytes]]:
        """Start reading where we are; standard output and standard error of the container."""
        words = ["logs", "--follow", "--timestamps"]
        stamps = [place.stamp for place in self._places if place.stamp]
        if stamps:
            # A little earlier, for one engine takes this as "from" and the other as "after".
            words += ["--since", _text(min(stamps) - 1000)]
        self.begin()
        self.process = self.engine.popen(
            [*words, self.container], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdout and self.process.stderr
        return self.process.stdout, self.process.stderr

    def begin(self) -> None:
        """What comes next begins somewhere before or at where we are."""
        self._seen = [Place(), Place()]
        self._rest = [b"", b""]

    def take(self, stream: int, data: bytes) -> None:
        """Copy what a stream (0 output, 1 error) gave; empty bytes end it."""
        text = self._rest[stream] + data
        if data:
            whole, newline, self._rest[stream] = text.rpartition(b"\n")
            lines = whole.split(b"\n") if newline else []
        else:
            lines, self._rest[stream] = ([text] if text else []), b""
        fresh = b"".join(line + b"\n" for line in self._fresh(stream, lines))
        if fresh:
            _write_patiently(self.output, fresh)
            self.last = (self.last + fresh)[-_LAST:]
            os.pwrite(self._file, _written(self._places), 0)

    def _fresh(self, stream: int, lines: list[bytes]) -> Iterator[bytes]:
        """Lines that were not copied before, without their stamps."""
        place, seen = self._places[stream], self._seen[stream]
        for line in lines:
            match = _STAMP.match(line)
            if match is None:
                continue  # the engine's own words, such as why it stops; it is asked instead
            stamp = _stamp(match)
            seen.lines = seen.lines + 1 if stamp == seen.stamp else 1
            seen.stamp = stamp
            if (stamp, seen.lines) <= (place.stamp, place.lines):
                continue
            place.stamp, place.lines = stamp, seen.lines
            rest = line[match.end() :]
            yield _unpieced(rest, stamp) if self.engine.name == "podman" else _joined(rest)

    def end(self, patience: float = 2.0) -> int:
        """End the reader; its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()
        return code


def _joined(line: bytes) -> bytes:
    """A long line without the stamps before its later pieces."""
    pieces: list[bytes] = []
    while len(line) > _PIECE and (match := _STAMP.match(line, _PIECE)):
        pieces.append(line[:_PIECE])
        line = line[match.end() :]
    return b"".join([*pieces, line])


def _unpieced(line: bytes, first: int) -> bytes:
    """A line without the stamps of its later pieces: those of soon after its first one."""

    def kept(match: re.Match[bytes]) -> bytes:
        return b"" if 0 <= _stamp(match) - first < _CLOSE else match[0]

    return _INNER.sub(kept, line)


def _stamp(match: re.Match[bytes]) -> int:
    zone = (match["zone"] or b"+00:00").decode()
    second = datetime.fromisoformat(match["second"].decode() + zone)
    return int(second.timestamp()) * 10**9 + int((match["fraction"] or b"0").ljust(9, b"0"))


def _text(stamp: int) -> str:
    second, fraction = divmod(stamp, 10**9)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def _read(data: bytes) -> list[Place]:
    try:
        numbers = [int(word) for word in data.split()]
        return [Place(numbers[0], numbers[1]), Place(numbers[2], numbers[3])]
    except (ValueError, IndexError):
        return [Place(), Place()]


def _written(places: list[Place]) -> bytes:
    words = [str(number) for place in places for number in (place.stamp, place.lines)]
    return " ".join(words).encode().ljust(_WIDTH - 1) + b"\n"


def _write_patiently(output: int, data: bytes) -> None:
    """Write all of it; on a full disk the engine keeps the rest until there is room."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(output, view) :]
        except OSError:
            time.sleep(1)
