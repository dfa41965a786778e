"""Use case: watch a run, a log, this machine. Only reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from console.settings import Settings
from console.text import clean, redact

if TYPE_CHECKING:
    from console.runs.model import RunView
    from console.telemetry.sample import Sample
    from console.telemetry.sampler import Sampler

CHUNK = 1 << 16
"""Bytes read from a log at once."""
LONGEST = 1 << 20
"""Bytes of a line without its end after which it is handed out in pieces."""


def follow(settings: Settings, run_id: str, poll: float = 0.25) -> Iterator[RunView]:
    """Yield the run each time something but the clock changed, the ended run last.

    `poll` is in seconds. `UsageError` when there is no such run.
    """
    from console.runs.store import RunStore

    runs = RunStore(settings)
    seen: RunView | None = None
    while True:
        view = runs.view(run_id)
        still = _without_clock(view)
        if still != seen:
            seen = still
            yield view
        if not view.active:
            return
        time.sleep(poll)


def _without_clock(view: RunView) -> RunView:
    return replace(view, elapsed=0.0, steps=tuple(replace(s, elapsed=None) for s in view.steps))


def lines(
    path: Path,
    ended: Callable[[], bool] | None = None,
    *,
    poll: float = 0.25,
    last: int | None = None,
) -> Iterator[str]:
    """The lines of a log, cleaned and with secrets masked.

    Without `ended` those that are there; with it, also those that come, until `ended()` and the
    file's end. A file that does not exist yet counts as empty; one that was replaced or cut is
    read from its start. `last`: only that many of the lines already there.
    """
    if last is not None and ended is None:
        yield from _tail(path, last)
        return
    position, inode, rest = 0, 0, b""
    while True:
        # Asked before reading: what was written before the end is then read for certain.
        over = ended is None or ended()
        try:
            with path.open("rb") as stream:
                info = path.stat()
                if info.st_ino != inode or info.st_size < position:
                    position, inode, rest = 0, info.st_ino, b""
                stream.seek(position)
                while chunk := stream.read(CHUNK):
                    position += len(chunk)
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from map(_shown, whole)
                    if len(rest) > LONGEST:
                        yield _shown(rest)
                        rest = b""
        except FileNotFoundError:
            pass
        if over:
            if rest:
                yield _shown(rest)
            return
        time.sleep(poll)


def _tail(path: Path, last: int) -> Iterator[str]:
    """The last lines, reading the file backwards."""
    if last <= 0 or not path.exists():
        return
    with path.open("rb") as stream:
        position = stream.seek(0, 2)
        data = b""
        while position > 0 and data.count(b"\n") <= last:
            step = min(CHUNK, position)
            position -= step
            stream.seek(position)
            data = stream.read(step) + data
    whole = data.split(b"\n")
    if whole and not whole[-1]:
        whole.pop()
    yield from map(_shown, whole[-last:])


def _shown(line: bytes) -> str:
    return redact(clean(line.decode("utf-8", "replace").rstrip("\r")))


@cache
def _sampler() -> Sampler:
    """One for the process: processor load is counted from one look to the next."""
    from console.telemetry.sampler import Sampler

    return Sampler()


def sample() -> Sample:
    return _sampler().sample()
