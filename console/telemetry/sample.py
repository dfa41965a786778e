"""One look at this machine: what the strips and curves show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU now; bytes and percent. None means: this figure could not be read."""

    index: int
    name: str
    memory_total: int | None
    memory_used: int | None
    utilisation: int | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """Host and GPU figures at one moment; bytes throughout."""

    time: float
    """Seconds since the epoch."""
    host_used: int
    host_total: int
    cpu_percent: float
    gpus: tuple[GpuSample, ...] = ()
    gpu_note: str = ""
    """Why there are no GPU figures, in words."""
    tree_rss: int | None = None
    """Resident memory of the run's step and its children."""
