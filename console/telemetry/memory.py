"""Host memory as we may use it: the machine's, or the container's where that is less."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `available` can be taken without swapping."""

    total: int
    available: int


def memory(cgroup: Path = CGROUP) -> Memory:
    """Memory now. A container sees its machine's figures in /proc, and its own limit (cgroup 2)."""
    machine = psutil.virtual_memory()
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit is None or used is None or limit >= machine.total:
        return Memory(machine.total, machine.available)
    # The page cache counts as used there, and is given back on demand.
    free = limit - used + _reclaimable(cgroup / "memory.stat")
    return Memory(limit, max(0, min(free, limit, machine.available)))


def _number(file: Path) -> int | None:
    """The number in a control file; None for ``max`` or where there is no such file."""
    try:
        text = file.read_text().strip()
    except OSError:  # not in a container, or cgroup 1
        return None
    return int(text) if text.isdigit() else None


def _reclaimable(file: Path) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
