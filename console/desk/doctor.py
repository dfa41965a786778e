"""Use case: what this machine can and cannot do, without a deployment."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from console.desk import check, environments, plan
from console.desk.views import CheckReport
from console.facts import Level, Verdict
from console.settings import Settings
from console.text import clean, human_bytes

if TYPE_CHECKING:
    from console.planning.plan import EnvironmentSpec

GLIBC = (2, 35)
"""The oldest that the wheel with the embedded Triton runs on (its platform tag, manylinux_2_35)."""
SHM_NEEDED = 64 * 1024**2
"""Bytes of /dev/shm for a few model processes: one region of 1 MiB each, grown on demand."""
DISK_NEEDED = 6 * 1024**3
"""Bytes that both managed environments take, with the room that installing them needs."""


def doctor(settings: Settings) -> CheckReport:
    started = time.monotonic()
    found = check.run(
        (
            ("platform", _platform),
            ("gpu", _gpu),
            ("memory", _memory),
            ("shared-memory", _shared_memory),
            ("disk", lambda: _disk(settings)),
            ("folders", lambda: _folders(settings)),
            ("libpython", lambda: _libpython(settings)),
            ("environments", lambda: check.environments(settings, _specs())),
        )
    )
    return CheckReport(check.judged(found, ()), time.monotonic() - started)


def _specs() -> list[EnvironmentSpec]:
    return [environments.spec(name) for name in environments.NAMES]


def _platform() -> Iterator[Verdict]:
    host = plan.host()
    yield Verdict(
        "system",
        Level.PASS if sys.platform == "linux" else Level.FAIL,
        f"{host.system}, {host.machine}",
        figure=f"{host.cpus} processors, kernel {host.kernel}, Python {host.python}",
    )
    if host.glibc is None:
        yield Verdict(
            "glibc",
            Level.UNKNOWN,
            "the C library does not tell its version (musl?)",
            source="the embedded Triton's wheel is manylinux_2_35",
            fix="use the local, container or attach launcher",
        )
        return
    have = ".".join(map(str, host.glibc))
    enough = host.glibc >= GLIBC
    yield Verdict(
        "glibc",
        Level.PASS if enough else Level.FAIL,
        "the C library is new enough for the embedded Triton"
        if enough
        else "the C library is too old for the embedded Triton",
        figure=f"{have}, {GLIBC[0]}.{GLIBC[1]} needed",
        source="the nvidia-pytriton wheel's platform tag",
        fix="" if enough else "use Debian 12, Ubuntu 22.04 or newer",
    )


def _gpu() -> Iterator[Verdict]:
    host = plan.host()
    if not host.gpus:
        yield Verdict(
            "gpu",
            Level.WARN,
            clean(host.gpu_note) or "no NVIDIA GPU answers",
            source="NVML",
            fix="models run on the CPU; install the NVIDIA driver where there is a GPU",
        )
    for gpu in host.gpus:
        yield Verdict(
            f"gpu-{gpu.index}",
            Level.PASS,
            clean(gpu.name),
            figure=f"{human_bytes(gpu.memory_used)} of {human_bytes(gpu.memory_total)} in use",
            source=f"NVML, driver {clean(host.driver)}, CUDA {clean(host.cuda)}",
        )


def _memory() -> Iterator[Verdict]:
    host = plan.host()
    yield Verdict(
        "memory",
        Level.PASS if host.memory_available >= 2 * 1024**3 else Level.WARN,
        "host memory",
        figure=f"{human_bytes(host.memory_available)} available of {human_bytes(host.memory_total)}"
        ", 2.00 GiB for a NeMo export",
        source="psutil (the container's limit where there is one)",
    )


def _shared_memory() -> Iterator[Verdict]:
    host = plan.host()
    enough = host.shm_free >= SHM_NEEDED
    yield Verdict(
        "shared-memory",
        Level.PASS if enough else Level.FAIL,
        "/dev/shm has room for model processes" if enough else "/dev/shm is too small",
        figure=f"{human_bytes(host.shm_free)} free of {human_bytes(host.shm_total)}, "
        f"{human_bytes(SHM_NEEDED)} needed",
        source="statvfs of /dev/shm; Triton's python backend keeps a region a model instance there",
        fix="" if enough else "start the container with --shm-size=1g",
    )


def _disk(settings: Settings) -> Iterator[Verdict]:
    for name, folder in (
        ("state", settings.folders.state),
        ("cache", settings.folders.environments),
    ):
        place = folder
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        needed = DISK_NEEDED if name == "cache" else 1024**3
        yield Verdict(
            f"disk-{name}",
            Level.PASS if free >= needed else Level.WARN,
            f"the disk under {clean(str(folder))}",
            figure=f"{human_bytes(free)} free, {human_bytes(needed)} wanted",
            source="statvfs",
            fix="" if free >= needed else "set TRITONDECK_HOME to a larger disk",
        )


def _folders(settings: Settings) -> Iterator[Verdict]:
    for folder in (settings.folders.state, settings.folders.cache):
        place = folder
        while not place.exists():
            place = place.parent
        ours = os.access(place, os.W_OK | os.X_OK)
        private = place != folder or place.stat().st_uid == os.geteuid()
        yield Verdict(
            "folders",
            Level.PASS if ours and private else Level.FAIL,
            f"{clean(str(folder))} can be written to"
            if ours and private
            else f"{clean(str(folder))} belongs to somebody else or cannot be written to",
            fix="" if ours and private else "set TRITONDECK_HOME to a folder of your own",
        )


def _libpython(settings: Settings) -> Iterator[Verdict]:
    from console.runtimes import libpython

    yield libpython.check(Path(check.interpreter(settings, environments.spec("embedded"))))
