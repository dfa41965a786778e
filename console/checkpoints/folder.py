"""What the folder formats share: sizes and times without following links."""

from __future__ import annotations

import os
from pathlib import Path

from console.checkpoints.source import unreadable

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
