"""A recording: one SQLite file with every sample of a run or a server, and what happened meanwhile.

A minute of samples is one block: a zlib-compressed JSON object of columns (an unchanged column is one
value, whole numbers are differences). The samples of the current minute stand in `tail`, one row each,
so that a killed recorder loses none. `curves` of a block holds the plotted series alone: a curve over a
day reads those and no sample.

Whoever records must not suffer from it: a full disk, a damaged file or a lock become `problem` in
words, and recording is tried again later.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from console import processes
from console.facts import UsageError
from console.telemetry.flat import Plain, flatten, rounded
from console.text import clean, human_bytes

VERSION = 1
FILE = "telemetry.sqlite"
BLOCK = 60
RETRY = 30.0
_ABSENT = "\0"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (
    start REAL NOT NULL, end REAL NOT NULL, count INTEGER NOT NULL, curves BLOB NOT NULL,
    samples BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS blocks_start ON blocks (start);
CREATE TABLE IF NOT EXISTS tail (time REAL NOT NULL, curves TEXT NOT NULL, sample TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS marks (
    time REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, target TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class MarkRow:
    """What happened: the kind, the words and whom it concerns."""

    time: float
    kind: str
    text: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What of a recording is kept: bytes of the file, and seconds of age."""

    size: int = 64 << 20
    age: float = 14 * 86400.0


class Recording:
    """The writing end. One thread uses it; nothing of it raises for the disk's sake."""

    def __init__(self, path: Path, about: Mapping[str, str], limits: Limits | None = None) -> None:
        self.path = path
        self.problem = ""
        self._about = dict(about)
        self._limits = limits or Limits()
        self._database: sqlite3.Connection | None = None
        self._again = 0.0
        self._pending = 0

    def add(self, when: float, sample: Any, curves: Mapping[str, float | None]) -> None:
        """One sample (anything that `flat.flatten` takes) at `when`, seconds since the epoch."""
        flat: dict[str, Plain] = {}
        flatten(sample, "", flat)
        lines = {k: None if v is None else rounded(float(v)) for k, v in curves.items()}
        row = (when, _json(lines), _json({k[1:]: v for k, v in flat.items()}))
        if self._write("INSERT INTO tail VALUES (?, ?, ?)", row):
            self._pending += 1
            if self._pending >= BLOCK:
                self._fold()

    def mark(self, row: MarkRow) -> None:
        self._write(
            "INSERT INTO marks VALUES (?, ?, ?, ?)", (row.time, row.kind, row.text, row.target)
        )

    def close(self) -> None:
        """Pack what is left. The file is then one file."""
        if self._database is not None:
            self._fold()
        if self._database is not None:
            try:
                self._database.execute("PRAGMA journal_mode=DELETE")
            except sqlite3.OperationalError:
                pass  # somebody reads it: their end leaves one file
        self._forget(self.problem)

    # -- below ---------------------------------------------------------------------------

    def _write(self, statement: str, row: Sequence[Any]) -> bool:
        try:
            database = self._open()
            if database is None:
                return False
            with database:
                database.execute(statement, row)
        except (sqlite3.Error, OSError) as error:
            self._forget(_words(error))
            return False
        self.problem = ""
        return True

    def _open(self) -> sqlite3.Connection | None:
        if self._database is None and time.monotonic() >= self._again:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(self.path, flags, 0o600))
            database = sqlite3.connect(self.path, timeout=1.0, check_same_thread=False)
            try:
                self._prepare(database)
            except sqlite3.Error:
                database.close()
                raise
            self._database = database
        return self._database

    def _prepare(self, database: sqlite3.Connection) -> None:
        database.execute("PRAGMA auto_vacuum=INCREMENTAL")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        with database:
            database.executescript(_SCHEMA)
            about = {
                "version": str(VERSION),
                "host": processes.hostname(),
                "created": str(time.time()),
                **self._about,
            }
            database.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", about.items())
        self._pending = database.execute("SELECT count(*) FROM tail").fetchone()[0]

    def _fold(self) -> None:
        """The tail becomes a block; what is too old or too much goes."""
        database = self._database
        if database is None:
            return
        try:
            with database:
                rows = database.execute("SELECT time, curves, sample FROM tail ORDER BY rowid")
                if block := _block(rows.fetchall()):
                    database.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", block)
                database.execute("DELETE FROM tail")
                database.execute(
                    "DELETE FROM blocks WHERE end < ?", (time.time() - self._limits.age,)
                )
            while self._size(database) > self._limits.size and self._drop(database):
                pass
            database.executescript("PRAGMA incremental_vacuum")  # `execute` frees one page
            self._pending = 0
        except (sqlite3.Error, OSError) as error:
            self._forget(_words(error))

    def _size(self, database: sqlite3.Connection) -> int:
        def pragma(name: str) -> int:
            return int(database.execute(f"PRAGMA {name}").fetchone()[0])

        return (pragma("page_count") - pragma("freelist_count")) * pragma("page_size")

    def _drop(self, database: sqlite3.Connection) -> bool:
        """Remove the oldest tenth, never the newest block; whether anything went."""
        with database:
            count = database.execute("SELECT count(*) FROM blocks").fetchone()[0]
            oldest = "SELECT rowid FROM blocks ORDER BY start LIMIT ?"
            gone = database.execute(
                f"DELETE FROM blocks WHERE rowid IN ({oldest})",
                (min(count - 1, 1 + count // 10),),
            )
        return gone.rowcount > 0

    def _forget(self, problem: str) -> None:
        """Close; with a problem, to be tried again in a while."""
        self.problem = problem
        self._again = time.monotonic() + RETRY if problem else 0.0
        database, self._database = self._database, None
        if database is not None:
            try:
                database.close()
            except sqlite3.Error:
                pass  # what could not be written has been told


def _words(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"telemetry is not recorded: {clean(reason or type(error).__name__)}"


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _block(rows: list[tuple[float, str, str]]) -> tuple[Any, ...] | None:
    if not rows:
        return None
    times = [row[0] for row in rows]
    curves = _columns([json.loads(row[1]) for row in rows])
    samples = _columns([json.loads(row[2]) for row in rows])
    curves["#times"] = times
    return min(times), max(times), len(rows), _packed(curves), _packed(samples)


def _packed(columns: Mapping[str, Any]) -> bytes:
    return zlib.compress(_json(columns).encode(), 6)


def _columns(rows: Sequence[Mapping[str, Plain]]) -> dict[str, Any]:
    """Every name with its values over the rows: one value, differences, or all of them."""
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name, _ABSENT) for row in rows]
        if all(value == values[0] and type(value) is type(values[0]) for value in values):
            columns[name] = values[:1]
        elif all(type(value) is int for value in values):
            numbers = [int(value or 0) for value in values]
            steps = [b - a for a, b in pairwise(numbers)]
            columns[name] = {"d": [numbers[0], *steps]}
        else:
            columns[name] = {"v": values}
    return columns


def _column(packed: Any, count: int) -> list[Any]:
    if isinstance(packed, list):
        return packed * count
    if "d" in packed:
        values, total = [], 0
        for step in packed["d"]:
            total += step
            values.append(total)
        return values
    return list(packed["v"])


# ---------------------------------------------------------------------------- reading


class Unreadable(UsageError):
    """Not a recording, or one of another version."""


@dataclass(frozen=True, slots=True)
class Span:
    """One block, or the tail (`block` None): when, and how many samples."""

    start: float
    end: float
    count: int
    block: int | None


class Recorded:
    """The reading end: also of a file that is still written, or whose writer was killed."""

    def __init__(self, path: Path) -> None:
        """Raises `Unreadable` in words."""
        self.path = path
        if not path.is_file():
            raise Unreadable(f"there is no recording {clean(str(path))}")
        try:
            self._database = self._connect()
            rows = self._database.execute("SELECT name, value FROM about").fetchall()
        except sqlite3.Error as error:
            raise Unreadable(
                f"{clean(str(path))} is not a recording", why=clean(str(error))
            ) from error
        self.about = {str(name): clean(str(value)) for name, value in rows}
        if self.about.get("version") != str(VERSION):
            raise Unreadable(
                f"{clean(str(path))} was recorded by another version of tritondeck",
                why=f"format {self.about.get('version', 'unknown')}, this one reads {VERSION}",
            )

    def _connect(self) -> sqlite3.Connection:
        # Read-only needs the folder's consent for a file whose writer lives or was killed.
        for options in ("mode=ro", "mode=ro&immutable=1"):
            database = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?{options}", uri=True, check_same_thread=False
            )
            try:
                database.execute("SELECT count(*) FROM about").fetchone()
            except sqlite3.OperationalError:
                database.close()
                if options.endswith("1"):
                    raise
                continue
            return database
        raise AssertionError("the last attempt raises")

    def spans(self) -> tuple[Span, ...]:
        """Every block and the tail, the oldest first."""
        rows = self._database.execute("SELECT start, end, count, rowid FROM blocks ORDER BY start")
        found = [Span(*row) for row in rows]
        tail = "SELECT min(time), max(time), count(*) FROM tail"
        start, end, count = self._database.execute(tail).fetchone()
        return (*found, *([Span(start, end, count, None)] if count else []))

    def samples(self, span: Span, wanted: tuple[str, ...] = ("",)) -> list[dict[str, Plain]]:
        """The samples of a span, flat (see `flat.nested`); of names that begin with `wanted`."""
        if span.block is None:
            rows = self._database.execute("SELECT sample FROM tail ORDER BY rowid").fetchall()
            return [json.loads(row[0]) for row in rows[: span.count]]
        columns = self._unpacked("samples", span)
        lists = {
            name: _column(packed, span.count)
            for name, packed in columns.items()
            if name.startswith(wanted)
        }
        return [
            {name: values[i] for name, values in lists.items() if values[i] != _ABSENT}
            for i in range(span.count)
        ]

    def curves(self, span: Span) -> tuple[list[float], dict[str, list[float | None]]]:
        """Times and series of a span."""
        if span.block is None:
            rows = self._database.execute("SELECT time, curves FROM tail ORDER BY rowid").fetchall()
            rows = rows[: span.count]
            columns = _columns([json.loads(row[1]) for row in rows])
            times = [float(row[0]) for row in rows]
        else:
            columns = self._unpacked("curves", span)
            times = columns.pop("#times")
        return times, {
            name: [None if v == _ABSENT else v for v in _column(packed, len(times))]
            for name, packed in columns.items()
        }

    def _unpacked(self, column: str, span: Span) -> dict[str, Any]:
        row = self._database.execute(
            f"SELECT {column} FROM blocks WHERE rowid = ?", (span.block,)
        ).fetchone()
        if row is None:  # its writer has dropped the oldest meanwhile
            return {"#times": []} if column == "curves" else {}
        found: dict[str, Any] = json.loads(zlib.decompress(row[0]))
        return found

    def marks(self) -> Iterator[MarkRow]:
        for row in self._database.execute("SELECT * FROM marks ORDER BY time"):
            yield MarkRow(row[0], clean(row[1]), clean(row[2]), clean(row[3]))

    @property
    def size(self) -> str:
        return human_bytes(self.path.stat().st_size)

    def close(self) -> None:
        self._database.close()
