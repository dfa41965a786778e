"""`LogFile`: the bytes of a growing log by block; notices when the file becomes another one."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import NamedTuple

BLOCK = 64 * 1024
LINE_BYTES = 16 * 1024
"""Bytes of one line that are read; a longer one is cut."""
_FAR = 4 * 1024 * 1024
"""How far the end of an overlong line is looked for."""
_CACHED = 4
_TAIL = 64


class Row(NamedTuple):
    """One line: where it begins and what it says, without its newline, at most `LINE_BYTES`."""

    offset: int
    data: bytes


class LogFile:
    """A log by blocks of `BLOCK` bytes. Reads with `os.pread`: a reader never disturbs another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        """Bytes that are there, as of the last look."""
        self._handle = -1
        self._identity = (0, 0)
        self._last = b""
        self._lock = Lock()
        self._lines: OrderedDict[tuple[int, int], list[Row]] = OrderedDict()

    def close(self) -> None:
        with self._lock:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1

    def look(self) -> str:
        """See how large the file is now. Returns why it is another one than before, in words.

        A file that was deleted stays readable; one that is missing from the start is empty. Raises
        OSError for one that cannot be read.
        """
        try:
            info = self.path.stat()
        except FileNotFoundError:
            return ""
        with self._lock:
            known = self._handle >= 0
            identity = (info.st_dev, info.st_ino)
            why = ""
            if known and identity != self._identity:
                why = "the file was replaced: this is the new one"
            elif known and (info.st_size < self.size or not self._continues()):
                why = "the file was written anew"
            if not known or why:
                self._open(identity)
            self.size = info.st_size
            self._last = self._read(max(0, self.size - _TAIL), _TAIL)
            return why

    @property
    def deleted(self) -> bool:
        """Whether what is shown is no longer at its path."""
        return self._handle >= 0 and not self.path.exists()

    def _continues(self) -> bool:
        # A log cut to nothing and grown past its old size between two looks.
        return self._read(max(0, self.size - _TAIL), _TAIL) == self._last

    def _open(self, identity: tuple[int, int]) -> None:
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if self._handle >= 0:
            os.close(self._handle)
        self._handle, self._identity = handle, identity
        self._lines.clear()

    @property
    def blocks(self) -> int:
        """Blocks that hold at least one byte."""
        return -(-self.size // BLOCK)

    def read(self, position: int, size: int) -> bytes:
        """Up to `size` bytes from `position`, none past the known end."""
        with self._lock:
            return self._read(position, size)

    def _read(self, position: int, size: int) -> bytes:
        size = min(size, self.size - position)
        if self._handle < 0 or size <= 0:
            return b""
        return os.pread(self._handle, size, position)

    def count(self, block: int) -> int:
        """How many lines begin in a block."""
        start = block * BLOCK
        if start == 0:
            return (self.size > 0) + self.read(0, min(BLOCK, self.size) - 1).count(b"\n")
        # A line begins after each newline; one that ends the file begins none.
        return self.read(start - 1, min(BLOCK, self.size - start)).count(b"\n")

    def chunk(self, block: int) -> bytes:
        """The lines that begin in a block, the last one cut at `LINE_BYTES` after the block."""
        return self._chunk(block)[1]

    def _chunk(self, block: int) -> tuple[int, bytes]:
        start = block * BLOCK
        before = 1 if start else 0
        data = self.read(start - before, before + BLOCK + LINE_BYTES)
        first = 0
        if before:
            first = data.find(b"\n", 0, BLOCK) + 1
            if first == 0:
                return 0, b""
        end = data.find(b"\n", before + BLOCK - 1)
        return start - before + first, data[first : len(data) if end < 0 else end]

    def lines(self, block: int) -> list[Row]:
        """The lines that begin in a block."""
        key = (block, min(self.size, (block + 1) * BLOCK + LINE_BYTES))
        with self._lock:
            if key in self._lines:
                self._lines.move_to_end(key)
                return self._lines[key]
        start, data = self._chunk(block)
        rows = []
        if data or start:
            for line in data.split(b"\n"):
                rows.append(Row(start, line[:LINE_BYTES]))
                start += len(line) + 1
        rows = rows[: self.count(block)]
        if rows and len(rows[-1].data) >= LINE_BYTES // 2:
            rows[-1] = self._latest(rows[-1])
        with self._lock:
            self._lines[key] = rows
            if len(self._lines) > _CACHED:
                self._lines.popitem(last=False)
        return rows

    def _latest(self, row: Row) -> Row:
        """An overlong line of a progress bar ends with what the bar says last."""
        if b"\r" not in row.data:
            return row
        end, limit = row.offset, row.offset + _FAR
        while end < min(limit, self.size):
            data = self.read(end, BLOCK)
            stop = data.find(b"\n")
            end += stop if stop >= 0 else len(data)
            if stop >= 0 or not data:
                break
        if end >= limit:
            end = self.size  # still being written, as a rule
        start = max(row.offset, end - LINE_BYTES)
        return Row(row.offset, self.read(start, end - start).rpartition(b"\n")[2])
