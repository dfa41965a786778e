"""One look at this machine: what the monitor shows, the recorder keeps and `monitor --json` prints.

Frozen, without NVML or psutil, so that a reading can be made from a file too. Every figure may be
None: it could not be read, or not yet; `problems` of the same object then says why, in words, under
the name of the field. Bytes and bytes per second throughout; percent is 0 to 100.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

GpuState = Literal["ok", "lost", "stalled"]
"""``lost``: off the bus, gone or in need of a reset, and asked again from time to time.
``stalled``: the driver has not answered for some intervals, the figures are the last ones."""


@dataclass(frozen=True, slots=True)
class MigReading:
    """One MIG instance of a GPU."""

    index: int
    gpu_instance: int | None
    compute_instance: int | None
    uuid: str
    profile: str
    """``1g.18gb``"""
    memory_total: int | None = None
    memory_used: int | None = None
    memory_free: int | None = None
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU as NVML tells it. Memory is version 2's: `memory_used` is nvidia-smi's figure."""

    index: int
    uuid: str = ""
    name: str = ""
    state: GpuState = "ok"
    memory_total: int | None = None
    memory_used: int | None = None
    memory_free: int | None = None
    memory_reserved: int | None = None
    """What the driver keeps for itself; not part of `memory_used`."""
    utilisation: int | None = None
    """Percent of the last sampling period in which a kernel ran."""
    memory_utilisation: int | None = None
    """Percent of that period in which device memory was read or written."""
    sm_clock: int | None = None
    """MHz"""
    memory_clock: int | None = None
    power: float | None = None
    """Watts"""
    power_limit: float | None = None
    temperature: int | None = None
    """Degrees Celsius"""
    memory_temperature: int | None = None
    throttle: tuple[str, ...] | None = None
    """What holds the clocks back, in words; empty when nothing does. Idleness is not listed."""
    throttle_bits: int | None = None
    """The same as NVML's mask (``nvidia-smi --query-gpu=clocks_event_reasons.active``)."""
    ecc_corrected: int | None = None
    """Since the driver was loaded."""
    ecc_uncorrected: int | None = None
    pcie_tx: int | None = None
    """Bytes/s, over a window of 20 ms, some seconds old."""
    pcie_rx: int | None = None
    nvlink_tx: int | None = None
    """Bytes/s of all links, from counters some seconds apart."""
    nvlink_rx: int | None = None
    mig_mode: bool | None = None
    mig: tuple[MigReading, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    """Field name to words: ``{"power": "not supported by this GPU"}``."""

    @property
    def problem(self) -> str:
        """Why the whole GPU is not ok, in words; empty when it is."""
        return self.problems.get("state", "")


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process on one GPU (or MIG instance). A pid may stand in several rows."""

    pid: int
    gpu: int
    memory: int | None = None
    sm: int | None = None
    """Percent of the streaming multiprocessors' time, some seconds old."""
    kind: Literal["compute", "graphics"] = "compute"
    user: str = ""
    command: str = ""
    """Cleaned, secrets masked."""
    owner: str = ""
    """Id of our run or service that it belongs to; empty for a process that is not ours."""
    created: float | None = None
    """Start, seconds since the epoch; with `pid` it tells this process from a later one."""
    gpu_instance: int | None = None
    compute_instance: int | None = None
    problem: str = ""
    """Why user and command are not known: ``ended``, ``of another container``."""


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """The processes of one of our runs or services."""

    owner: str
    pid: int
    """The root."""
    pids: tuple[int, ...] = ()
    """Root first."""
    memory: int | None = None
    """Resident bytes; pages that several of them share count once for each."""
    cpu_percent: float | None = None
    """Of one processor: four busy threads are 400."""
    gpu_memory: int | None = None
    """None where none of them is on a GPU, or its driver does not say."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class DiskReading:
    """The file system under a folder that matters."""

    path: Path
    total: int | None = None
    free: int | None = None
    """What an ordinary user may take."""
    read: int | None = None
    """Bytes/s of the device; None for file systems without one (overlay, tmpfs, network)."""
    write: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class HostReading:
    cpu_percent: float | None = None
    cores: tuple[float, ...] = ()
    """Percent of each processor since the reading before."""
    load: tuple[float, float, float] | None = None
    """Of 1, 5 and 15 minutes."""
    memory_total: int | None = None
    """The machine's, or the container's where that is less."""
    memory_used: int | None = None
    swap_total: int | None = None
    swap_used: int | None = None
    shm_total: int | None = None
    """``/dev/shm``; 0 where there is none."""
    shm_used: int | None = None
    network_rx: int | None = None
    """Bytes/s over all interfaces but the loopback."""
    network_tx: int | None = None
    disks: tuple[DiskReading, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything at one moment."""

    time: float
    """Seconds since the epoch: for people, and moved by whoever sets the clock."""
    monotonic: float
    """Seconds of `time.monotonic`: for intervals and rates."""
    gpus: tuple[GpuReading, ...] = ()
    gpu_note: str = ""
    """Why there are no (fresh) GPU figures, in words."""
    driver: str = ""
    cuda: str = ""
    host: HostReading = field(default_factory=HostReading)
    processes: tuple[GpuProcess, ...] = ()
    trees: tuple[ProcessTree, ...] = ()
