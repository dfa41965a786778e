"""`host()`: what this machine has, once."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from console.facts import Host
from console.telemetry.memory import memory
from console.telemetry.nvml import Nvml, gate
from console.text import clean


def host(nvml: Nvml | None = None) -> Host:
    """Facts of this machine: bytes throughout; memory and shared memory as they are now.

    Blocks for some milliseconds, the first time 60 more where there is an NVIDIA driver.
    """
    gpus, note = (nvml or gate()).gpus()
    driver, cuda = (nvml or gate()).versions()
    have = memory()
    shm_total, shm_free = _shm()
    return Host(
        hostname=clean(platform.node()),
        system=_system(),
        kernel=clean(platform.release()),
        machine=platform.machine(),
        glibc=_glibc(),
        cpus=len(os.sched_getaffinity(0)),
        memory_total=have.total,
        memory_available=have.available,
        shm_total=shm_total,
        shm_free=shm_free,
        python=platform.python_version(),
        gpus=gpus,
        gpu_note=note,
        driver=driver,
        cuda=cuda,
    )


def _system() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:  # no os-release file: minimal images
        return platform.system()
    return clean(release.get("PRETTY_NAME", platform.system()))


def _glibc() -> tuple[int, int] | None:
    """The running C library, None for another one (musl)."""
    try:
        told = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):  # the name is glibc's own
        return None
    found = re.match(r"glibc (\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else None


def _shm(folder: Path = Path("/dev/shm")) -> tuple[int, int]:
    try:
        space = os.statvfs(folder)
    except OSError:  # no such mount in some sandboxes: nothing is there to use
        return 0, 0
    return space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize
