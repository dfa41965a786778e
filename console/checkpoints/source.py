"""Guarded reading of checkpoint files: regular files only, bounded pieces, errors in one sentence.

Every function here raises `UsageError`; none of them writes, unpacks or executes anything.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from console.facts import UsageError
from console.text import clean

WINDOW = 64 * 1024
GZIP_BUDGET = 32 * 1024 * 1024
"""Bytes of a compressed checkpoint that are looked at, packed or unpacked. NeMo adds members in the
order of their names, so that the configuration comes before the weights."""


class Source(Protocol):
    """Bytes by offset. `size` is None where it is unknown before everything was unpacked."""

    size: int | None

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset`; fewer only at the end."""
        ...


class FileSource:
    """A regular file, read by `os.pread` through one window (headers lie close together)."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.size: int | None = size
        self._descriptor = descriptor
        self._start = 0
        self._window = b""

    def read(self, offset: int, count: int) -> bytes:
        at = offset - self._start
        if at >= 0 and at + count <= len(self._window):
            return self._window[at : at + count]
        if count > WINDOW:
            return self._pread(offset, count)
        # The headers of a large archive lie far apart, those of small members in one window.
        near = 0 <= at <= 2 * WINDOW
        self._start, self._window = (
            offset,
            self._pread(offset, WINDOW if near else count),
        )
        return self._window[:count]

    def _pread(self, offset: int, count: int) -> bytes:
        if offset >= (self.size or 0):
            return b""
        return os.pread(self._descriptor, count, offset)


class BudgetSpent(Exception):
    """More than `GZIP_BUDGET` would have to be unpacked."""


class GzipSource:
    """A gzip stream, unpacked forward only and only as far as `GZIP_BUDGET`."""

    def __init__(self, file: FileSource) -> None:
        self.size: int | None = None
        self._file = file
        self._packed = 0
        self._unpack = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._start = 0
        self._window = b""

    def read(self, offset: int, count: int) -> bytes:
        if offset < self._start:
            raise ValueError("a gzip stream is read forward only")
        while self._start + len(self._window) < offset + count:
            piece = self._next()
            if not piece:
                break
            end = self._start + len(self._window)
            if end <= offset:  # nothing of the old window is asked for any more
                self._start, self._window = end, piece
            else:
                self._window += piece
            if self._start + len(self._window) > GZIP_BUDGET:
                raise BudgetSpent
        at = offset - self._start
        return self._window[at : at + count] if at >= 0 else b""

    def _next(self) -> bytes:
        while True:
            if self._unpack.eof:
                # A gzip file may hold several streams after each other.
                self._pending = self._unpack.unused_data or self._pending
                self._unpack = zlib.decompressobj(wbits=31)
                if not self._pending.startswith(b"\x1f\x8b"):
                    return b""
            if not self._pending:
                self._pending = self._file.read(self._packed, WINDOW)
                self._packed += len(self._pending)
                if not self._pending:
                    return b""
                if self._packed > GZIP_BUDGET:
                    raise BudgetSpent
            piece = self._unpack.decompress(self._pending, WINDOW)
            self._pending = self._unpack.unconsumed_tail
            if piece:
                return piece


@contextmanager
def opened(path: Path) -> Iterator[tuple[FileSource, os.stat_result]]:
    """Open a regular file for reading; a pipe, socket or device is refused, not waited for."""
    shown = clean(str(path))
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"{shown} is not a file name") from error
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise UsageError(f"{shown} is neither a file nor a folder")
        yield FileSource(descriptor, info.st_size), info
    except OSError as error:
        raise unreadable(path, error) from error
    finally:
        os.close(descriptor)


def unreadable(path: Path, error: OSError) -> UsageError:
    """The sentence for a file or folder that the system does not give us."""
    shown = clean(str(path))
    if isinstance(error, FileNotFoundError):
        return UsageError(f"there is no {shown}", fix="check the path")
    return UsageError(f"cannot read {shown}", why=error.strerror or clean(str(error)))


def read_whole(path: Path, cap: int, what: str) -> bytes:
    """All of a small file; larger than `cap` bytes is refused."""
    with opened(path) as (file, info):
        if info.st_size > cap:
            raise UsageError(
                f"{what} {clean(str(path))} is too large",
                why=f"{info.st_size} bytes, at most {cap} are read",
            )
        return file.read(0, cap)
