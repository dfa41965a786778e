"""Use case: what this machine can and cannot do, without a deployment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from console.desk import check, environments, plan, verdicts
from console.desk.views import CheckReport
from console.facts import Host, Level, Verdict
from console.planning import checks
from console.settings import Settings
from console.text import clean, human_bytes

if TYPE_CHECKING:
    from console.planning.plan import EnvironmentSpec

WORK_BYTES = 1024**3
"""Room for what a first deployment makes."""


def doctor(settings: Settings) -> CheckReport:
    started = time.monotonic()
    host = plan.host()
    specs = [environments.spec(name) for name in environments.NAMES]
    embedded = next(spec for spec in specs if spec.name == "embedded")
    groups: list[tuple[str, Callable[[], Iterator[Verdict]]]] = [
        ("system", partial(_system, host)),
        ("gpu", partial(_gpus, host)),
        ("memory", lambda: iter((checks.shared_memory(host, 1),))),
        ("disk", lambda: checks.disk(verdicts.spaces(settings, specs, WORK_BYTES))),
        ("folders", partial(_folders, settings)),
        ("embedded-server", partial(_embedded, settings, host, embedded)),
        ("environments", lambda: verdicts.environments(settings, specs)),
    ]
    return CheckReport(check.judged(check.run(groups), ()), time.monotonic() - started)


def _system(host: Host) -> Iterator[Verdict]:
    yield Verdict(
        "system",
        Level.PASS,
        f"{host.system}, {host.machine}, kernel {host.kernel}",
        figure=f"{host.cpus} processors, {human_bytes(host.memory_available)} of "
        f"{human_bytes(host.memory_total)} memory available, Python {host.python}",
    )


def _gpus(host: Host) -> Iterator[Verdict]:
    if not host.gpus:
        yield Verdict(
            "gpu",
            Level.WARN,
            f"models run on the CPU: {host.gpu_note or 'no NVIDIA GPU answers'}",
            source="NVML",
            fix="where there is a GPU, install its driver",
        )
    for gpu in host.gpus:
        yield Verdict(
            f"gpu-{gpu.index}",
            Level.PASS,
            clean(gpu.name),
            figure=f"{human_bytes(gpu.memory_used)} of {human_bytes(gpu.memory_total)} in use",
            source=f"NVML, driver {clean(host.driver)}, CUDA {clean(host.cuda)}",
        )


def _folders(settings: Settings) -> Iterator[Verdict]:
    """The state and cache folders belong to this user; `private_folder` refuses others."""
    for name, folder in (
        ("folder-state", settings.folders.state),
        ("folder-cache", settings.folders.cache),
    ):
        owner = folder.stat().st_uid if folder.exists() else os.geteuid()
        fine = owner == os.geteuid()
        yield Verdict(
            name,
            Level.PASS if fine else Level.FAIL,
            f"{clean(str(folder))} is yours"
            if fine
            else f"{clean(str(folder))} belongs to user id {owner}",
            fix="" if fine else "set TRITONDECK_HOME to a folder of your own",
        )


def _embedded(settings: Settings, host: Host, spec: EnvironmentSpec) -> Iterator[Verdict]:
    from console.runtimes import libpython

    python = verdicts.interpreter(settings, spec)
    yield from checks.embedded_platform(host, python.text)
    yield libpython.judge(python)
