"""What the folder formats share: sizes, times, who may read them, what their pickles name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from console.checkpoints import pickles
from console.checkpoints.model import Risk, Severity
from console.checkpoints.source import opened, unreadable
from console.facts import UsageError
from console.text import clean

MAX_FILES = 20_000


def tree_size(path: Path) -> int:
    """Bytes of the files below `path`; counting stops at `MAX_FILES`."""
    total, seen, waiting = 0, 0, [path]
    while waiting and seen < MAX_FILES:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    seen += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif entry.is_file():  # through a link: a hub cache is nothing but links
                        total += entry.stat().st_size
        except PermissionError:
            continue  # counted without it: a size is a hint, not a promise
        except OSError as error:
            raise unreadable(here, error) from error
    return total


def modified(path: Path) -> float:
    """mtime in seconds since the epoch. Raises `UsageError`."""
    try:
        return path.stat().st_mtime
    except OSError as error:
        raise unreadable(path, error) from error


def private_files(path: Path) -> Iterator[Risk]:
    """A note when files directly in a folder (or the folder) are closed to other users, as a server
    in a container is one. `transformers` leaves weights at 0600."""
    closed: list[str] = []
    try:
        if not path.stat().st_mode & 0o055:
            closed.append("the folder itself")
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_file() and not entry.stat().st_mode & 0o044:
                    closed.append(clean(entry.name, cap=60))
    except OSError as error:
        raise unreadable(path, error) from error
    if closed:
        more = f" and {len(closed) - 2} more" if len(closed) > 2 else ""
        yield Risk(
            "private-file",
            Severity.NOTE,
            f"only their owner can read {', '.join(sorted(closed)[:2])}{more}: "
            "a server that runs as another user cannot",
            "chmod -R a+rX, or serve as their owner",
        )


def scan_files(files: Iterable[Path]) -> pickles.Scan:
    """What pickled files of a checkpoint folder name; a missing or odd one counts as unseen."""
    until = pickles.deadline()
    found: list[pickles.Scan] = []
    for file in files:
        try:
            with opened(file) as (source, info):
                found.append(pickles.scan(source, 0, info.st_size, until))
        except UsageError:
            found.append(pickles.Scan(whole=False))
    return pickles.merged(found)
