"""Going through a whole log: a process of its own, so that the console stays awake and can end it.

Reads one JSON request from standard input and writes JSON lines. A regular expression may take for
ever; whoever asked kills this process.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from console.logs.file import BLOCK, LogFile
from console.logs.levels import tally
from console.logs.literals import required
from console.logs.sharing import helpers, shared

_CHUNK = 1024 * 1024
"""Bytes a piece. Copies of 4 MiB are no longer in a core's cache: 0.50 GB/s where this gives 1.09."""
_REPORT = 0.1
_HITS_KEPT = 200_000
_SAMPLE = 256 * 1024
_DENSE = 400
"""A text that stands closer than this many bytes to the next leaves no lines to pass over."""


def main() -> int:
    os.nice(5)
    request: dict[str, Any] = json.loads(sys.stdin.readline())
    _end_with(request["parent"])
    work = _search(request) if "pattern" in request else _tallies(request)
    for answer in work:
        sys.stdout.write(json.dumps(answer, separators=(",", ":")) + "\n")
        sys.stdout.flush()
    return 0


def _end_with(parent: int) -> None:
    """`re` looks for signals while it matches: an endless match ends with who asked for it too.

    `parent` is told by that process itself: one that is gone already cannot be asked for.
    """

    def orphaned(number: int, frame: object) -> None:
        if os.getppid() != parent:
            os._exit(1)

    signal.signal(signal.SIGALRM, orphaned)
    signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)


# ---------------------------------------------------------------------------- levels


def _tallies(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Tallies of every block before `block`, the nearest first."""
    file = LogFile(Path(request["path"]))
    file.look()
    done: list[tuple[int, int, int]] = []
    sent = time.monotonic()
    for block in range(request["block"] - 1, -1, -1):
        found = tally(file.chunk(block))
        done.append((found.verbose, found.warnings, found.errors))
        if time.monotonic() - sent > _REPORT:
            yield {"tallies": done}
            done, sent = [], time.monotonic()
    yield {"tallies": done, "end": True}


# ---------------------------------------------------------------------------- search


class Matcher:
    """Finds the lines of a chunk that a pattern matches, by the fastest way that it allows."""

    def __init__(self, words: str) -> None:
        self.ignore = words == words.lower()
        raw = words.encode()
        flags = re.IGNORECASE if self.ignore else 0
        try:
            self.pattern = re.compile(raw, flags)
        except re.error:
            raw = re.escape(raw)
            self.pattern = re.compile(raw, flags)
        plain = re.escape(raw).replace(b"\\ ", b" ") == raw.replace(b"\\ ", b" ")
        self.literal = (raw.lower() if self.ignore else raw) if plain else b""
        self._sets = required(raw, flags)
        self.texts: tuple[bytes, ...] | None = (self.literal,) if plain else None
        self._lines = re.compile(raw, flags | re.MULTILINE)

    def starts(self, chunk: bytes) -> Iterator[int]:
        """Where the matching lines of whole lines begin, in order."""
        if self.literal:
            yield from self._texts(chunk, verify=False)
            return
        if self.texts is None:
            self.texts = self._rarest(chunk)
        if self.texts:
            yield from self._texts(chunk, verify=True)
        elif self._crosses():
            yield from self._each(chunk)
        else:
            yield from self._regex(chunk)

    def _rarest(self, chunk: bytes) -> tuple[bytes, ...]:
        """The texts that leave the fewest lines to look at; none where they stand everywhere."""
        part = chunk[:_SAMPLE].lower() if self.ignore else chunk[:_SAMPLE]
        found = {texts: sum(part.count(text) for text in texts) for texts in self._sets}
        texts = min(found, key=lambda s: (found[s], -min(map(len, s))), default=())
        return texts if texts and found[texts] * _DENSE <= len(part) else ()

    def _crosses(self) -> bool:
        # Anchors of a whole text mean the line here.
        return rb"\A" in self.pattern.pattern or rb"\Z" in self.pattern.pattern

    def _texts(self, chunk: bytes, *, verify: bool) -> Iterator[int]:
        text = chunk.lower() if self.ignore else chunk
        nexts = {word: text.find(word) for word in self.texts or ()}
        while nexts := {word: place for word, place in nexts.items() if place >= 0}:
            place = min(nexts.values())
            start = chunk.rfind(b"\n", 0, place) + 1
            end = chunk.find(b"\n", place)
            end = len(chunk) if end < 0 else end
            if not verify or self.pattern.search(chunk[start:end]):
                yield start
            for word, at in nexts.items():
                if at < end:
                    nexts[word] = text.find(word, end)

    def _regex(self, chunk: bytes) -> Iterator[int]:
        place = 0
        while place < len(chunk) and (found := self._lines.search(chunk, place)):
            start = chunk.rfind(b"\n", 0, found.start()) + 1
            end = chunk.find(b"\n", found.start())
            end = len(chunk) if end < 0 else end
            # A match may have run over the end of its line; the line decides.
            if found.end() <= end or self.pattern.search(chunk[start:end]):
                yield start
            place = end + 1

    def _each(self, chunk: bytes) -> Iterator[int]:
        start = 0
        for line in chunk.split(b"\n"):
            if self.pattern.search(line):
                yield start
            start += len(line) + 1


def _search(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Offsets of matching lines: from `start` to the end, then from `start` backwards."""
    file = LogFile(Path(request["path"]))
    file.look()
    matcher = Matcher(request["pattern"])
    pieces = list(_pieces(file.size, request["start"]))
    count = helpers(len(pieces))

    def part(number: int) -> Iterator[dict[str, Any]]:
        return _searched(file, matcher, pieces[number::count])

    if count == 1:
        yield from part(0)
        return
    kept = 0
    said: dict[str, Any] = {}
    for said in shared(count, part, partial(_end_with, os.getpid())):
        said["hits"] = said["hits"][: _HITS_KEPT - kept]
        kept += len(said["hits"])
        yield said
    yield {**said, "hits": [], "end": True}


def _searched(
    file: LogFile, matcher: Matcher, pieces: Sequence[tuple[int, int]]
) -> Iterator[dict[str, Any]]:
    hits: list[int] = []
    kept = total = done = 0
    sent = time.monotonic()
    for piece in pieces:
        position, chunk = _whole(file, *piece)
        for start in matcher.starts(chunk):
            total += 1
            if kept < _HITS_KEPT:
                hits.append(position + start)
                kept += 1
        done += len(chunk)
        if time.monotonic() - sent > _REPORT or (hits and kept == len(hits)):
            yield {"hits": hits, "total": total, "done": done}
            hits, sent = [], time.monotonic()
    yield {"hits": hits, "total": total, "done": done, "end": True}


def _pieces(size: int, start: int) -> Iterator[tuple[int, int]]:
    """Places and sizes of pieces: those after `start`, then those before it."""
    first = start // BLOCK * BLOCK
    for position in range(first, size, _CHUNK):
        yield position, min(_CHUNK, size - position)
    for position in range(first, 0, -_CHUNK):
        begin = max(0, position - _CHUNK)
        yield begin, position - begin


def _whole(file: LogFile, position: int, size: int) -> tuple[int, bytes]:
    """The lines that begin in a piece; the last one as far as a block reaches beyond it."""
    before = 1 if position else 0
    data = file.read(position - before, before + size + BLOCK)
    first = 0
    if before:
        first = data.find(b"\n", 0, size) + 1
        if first == 0:
            return position, b""
    end = data.find(b"\n", before + size - 1)
    return position - before + first, data[first : len(data) if end < 0 else end]


if __name__ == "__main__":
    sys.exit(main())
