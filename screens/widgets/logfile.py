"""`LogFile`: random access to the lines of a growing file without holding it.

The index holds one number per 64 KiB block, the newlines before it: 200 MB cost 25 kB. Reading uses
`os.pread` on a descriptor of its own, so a reader never disturbs another.
"""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from threading import Lock

BLOCK = 64 * 1024
LINE_BYTES = 16 * 1024
"""Bytes of one line that are read; a longer one is cut where it is shown."""


class LogFile:
    """Lines of `path` by number, from 0. Grows with the file; starts anew when it was replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._handle = -1
        self._identity = (0, 0)
        self._before: array[int] = array("Q", [0])
        self._newlines = 0
        self._indexed = 0

    @property
    def lines(self) -> int:
        """Lines that are known; a last one without its newline counts."""
        return self._newlines + (1 if self._indexed and not self._ends_in_newline else 0)

    @property
    def size(self) -> int:
        """Bytes that are indexed."""
        return self._indexed

    _ends_in_newline = True

    def close(self) -> None:
        with self._lock:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1

    def grow(self, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Index what was written since the last call; True when anything changed.

        A missing file is an empty one. Raises OSError for one that cannot be read.
        """
        with self._lock:
            before = (self._identity, self._indexed)
            try:
                info = self.path.stat()
            except FileNotFoundError:
                return False
            identity = (info.st_dev, info.st_ino)
            if identity != self._identity or info.st_size < self._indexed:
                self._restart(identity)
            while self._indexed < info.st_size and not cancelled():
                self._index_block()
            return before != (self._identity, self._indexed)

    def _restart(self, identity: tuple[int, int]) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._identity = identity
        self._before = array("Q", [0])
        self._newlines = self._indexed = 0
        self._ends_in_newline = True

    def _index_block(self) -> None:
        data = os.pread(self._handle, BLOCK - self._indexed % BLOCK, self._indexed)
        if not data:
            return
        self._newlines += data.count(b"\n")
        self._ends_in_newline = data.endswith(b"\n")
        self._indexed += len(data)
        if self._indexed % BLOCK == 0:
            self._before.append(self._newlines)

    def _offset(self, line: int) -> int:
        """Where a line starts."""
        if line <= 0:
            return 0
        # The last block with fewer newlines before it than `line`: the line starts in or after it.
        block = bisect_right(self._before, line - 1) - 1
        missing = line - self._before[block]
        position = block * BLOCK
        while position < self._indexed:
            data = os.pread(self._handle, BLOCK, position)
            found = -1
            while missing and (found := data.find(b"\n", found + 1)) >= 0:
                missing -= 1
            if not missing:
                return position + found + 1
            position += len(data) or BLOCK
        return self._indexed

    def piece(self, position: int, size: int) -> bytes:
        """Up to `size` indexed bytes from `position`."""
        with self._lock:
            size = min(size, self._indexed - position)
            return os.pread(self._handle, size, position) if self._handle >= 0 and size > 0 else b""

    def read(self, first: int, count: int) -> list[bytes]:
        """Up to `count` lines from `first`, without their newlines, each cut at `LINE_BYTES`."""
        with self._lock:
            if self._handle < 0:
                return []
            rows: list[bytes] = []
            wanted = min(count, self.lines - first)
            position = self._offset(first)
            while len(rows) < wanted:
                data = os.pread(self._handle, min(BLOCK, self._indexed - position), position)
                if not data:
                    break
                whole, newline, _ = data.rpartition(b"\n")
                if newline:
                    rows.extend(line[:LINE_BYTES] for line in whole.split(b"\n"))
                    position += len(whole) + 1
                else:
                    rows.append(data[:LINE_BYTES])
                    position = self._offset(first + len(rows))
            return rows[:wanted]

    def find(
        self,
        pattern: re.Pattern[bytes],
        start: int,
        *,
        backwards: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> int | None:
        """The next line from `start` that holds `pattern`, None when there is none."""
        step = 512
        if backwards:
            for last in range(start, -1, -step):
                first = max(0, last - step + 1)
                if cancelled():
                    return None
                rows = self.read(first, last - first + 1)
                for number in range(len(rows) - 1, -1, -1):
                    if pattern.search(rows[number]):
                        return first + number
            return None
        for first in range(start, self.lines, step):
            if cancelled():
                return None
            for number, row in enumerate(self.read(first, step)):
                if pattern.search(row):
                    return first + number
        return None
