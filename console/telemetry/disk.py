"""Free space where a folder is, or will be."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from console.facts import UsageError
from console.text import clean


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """One folder's file system. Bytes; `free` is what an ordinary user may take."""

    path: Path
    free: int
    total: int
    device: int
    """Equal for folders that share their space."""
    writable: bool


def disk_space(path: Path) -> DiskSpace:
    """Space at `path`, or at its nearest parent that exists. Raises `UsageError`."""
    here = path.absolute()
    while not here.exists() and here != here.parent:
        here = here.parent
    try:
        space = os.statvfs(here)
        device = here.stat().st_dev
    except OSError as error:
        raise UsageError(
            f"cannot ask for the free space of {clean(str(path))}", why=error.strerror or ""
        ) from error
    return DiskSpace(
        path=path,
        free=space.f_bavail * space.f_frsize,
        total=space.f_blocks * space.f_frsize,
        device=device,
        writable=os.access(here, os.W_OK | os.X_OK),
    )
