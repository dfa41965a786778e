"""Checks that need no other room: ports, disk, memory, shared memory, the embedded server's platform.

Pure functions over data that was gathered before (`telemetry.host`, `telemetry.ports`,
`telemetry.disk`, a backend's memory estimate); they look at nothing themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from console.facts import Host, Level, Verdict
from console.planning.deployment import LOOPBACK, Deployment
from console.telemetry.disk import DiskSpace
from console.telemetry.ports import PortHolder
from console.text import clean, human_bytes

MIB = 1024 * 1024
SHM_PER_STUB = MIB
"""Triton's python backend makes one region a model instance, 1 MiB at first and grown by 1 MiB."""
GLIBC = (2, 35)
MACHINES = ("x86_64", "aarch64")
PYTHONS = ((3, 8), (3, 12))
_WHEEL = "wheel nvidia-pytriton 0.7.0 (manylinux_2_35)"
_ROOMY = 1.25
"""Below this multiple of what is needed a verdict warns: needs are estimates."""


class MemoryNumbers(Protocol):
    """Bytes that building and serving need, as a backend estimates them."""

    @property
    def host_build(self) -> int: ...
    @property
    def host_serve(self) -> int: ...
    @property
    def gpu_serve(self) -> tuple[int, ...]: ...
    @property
    def source(self) -> str: ...


@dataclass(frozen=True, slots=True)
class SpaceNeed:
    """What one folder needs, next to what its file system has. Bytes."""

    name: str
    """``state`` or ``cache``; the check is called ``disk-<name>``."""
    space: DiskSpace
    needed: int
    source: str = ""


def checks(
    deployment: Deployment,
    host: Host,
    *,
    holders: Mapping[int, PortHolder | None],
    spaces: Sequence[SpaceNeed] = (),
    memory: MemoryNumbers | None = None,
    stubs: int = 1,
    python: str = "",
    readonly: bool = False,
    triton: bool = True,
) -> tuple[Verdict, ...]:
    """Every verdict of this room.

    `holders`: who holds each port of the deployment (`telemetry.ports.holders`). `stubs`: model
    instances of Triton's python backend. `python`: version of the embedded environment's
    interpreter, the console's own when empty. Without `triton` the route's own server takes the
    HTTP port alone. Marking what the operator accepts
    is the caller's.
    """
    found = [
        *([writes()] if readonly else []),
        *(v for v in ports(deployment, holders) if triton or v.check == "port-http"),
        exposure(deployment),
        *disk(spaces),
        host_memory(host, memory),
        *gpu_memory(host, memory),
    ]
    if triton and deployment.server.launcher == "embedded":
        found += [shared_memory(host, stubs), *embedded_platform(host, python or host.python)]
    return tuple(found)


def writes() -> Verdict:
    """The console was told to change nothing."""
    return Verdict(
        "readonly",
        Level.FAIL,
        "this console is read-only: it starts, stops and writes nothing",
        source="settings readonly, TRITONDECK_READONLY",
        fix="start tritondeck without TRITONDECK_READONLY and without readonly in the settings",
    )


def ports(deployment: Deployment, holders: Mapping[int, PortHolder | None]) -> Iterator[Verdict]:
    """One verdict a port. A port that nobody asked about is unknown, not free."""
    server = deployment.server
    if server.launcher == "attach":
        return
    for kind in ("http", "grpc", "metrics"):
        number: int = getattr(server, f"{kind}_port")
        check, option = f"port-{kind}", f"server.{kind}_port"
        source = f"bind test on {clean(server.address)}"
        if number == 0:
            yield Verdict(
                check, Level.PASS, f"a free {kind} port is found at the start", "0", source
            )
        elif number not in holders:
            yield Verdict(
                check, Level.UNKNOWN, f"{kind} port {number} was not looked at", str(number),
                source, "run the check again", option,
            )  # fmt: skip
        elif (holder := holders[number]) is None:
            yield Verdict(check, Level.PASS, f"{kind} port {number} is free", str(number), source)
        else:
            yield _taken(check, option, kind, number, source, holder)


def _taken(
    check: str, option: str, kind: str, number: int, source: str, holder: PortHolder
) -> Verdict:
    if holder.reason:
        summary = f"{kind} port {number} cannot be used: {holder.reason}"
    else:
        summary = f"{kind} port {number} is taken by {holder.words}"
    fix = f"set {option} to 0 (any free one) or another number"
    if holder.ours:
        fix = f"stop that server (tritondeck stop), or {fix}"
    return Verdict(check, Level.FAIL, summary, str(number), source, fix, option)


def exposure(deployment: Deployment) -> Verdict:
    """Whether anybody beyond this machine can reach the server."""
    address = clean(deployment.server.address)
    if deployment.server.launcher == "attach":
        return Verdict("exposure", Level.PASS, "attached: nothing of ours listens", address)
    if deployment.server.address in LOOPBACK:
        return Verdict("exposure", Level.PASS, "only this machine can reach the server", address)
    return Verdict(
        "exposure",
        Level.FAIL,
        f"anybody who reaches {address} can send requests to the model; all but health, metadata and "
        "inference needs the token",
        address,
        "server.address with server.expose = true",
        "set address to 127.0.0.1 and reach it by ssh -L; to mean it, accept this check by its name",
        "server.address",
    )


def disk(spaces: Sequence[SpaceNeed]) -> Iterator[Verdict]:
    """One verdict a folder. Folders on one file system share its space, so their needs add up."""
    for need in spaces:
        check = f"disk-{need.name}"
        together = [s for s in spaces if s.space.device == need.space.device]
        total = sum(s.needed for s in together)
        figure = f"{human_bytes(need.space.free)} free, {human_bytes(total)} needed"
        if len(together) > 1:
            figure += (
                f" (with the {' and '.join(s.name for s in together if s is not need)} folder)"
            )
        where = clean(str(need.space.path))
        source = need.source or "statvfs"
        if not need.space.writable:
            yield Verdict(
                check, Level.FAIL, f"the {need.name} folder {where} cannot be written", figure,
                source, "set TRITONDECK_HOME to a folder you can write to",
            )  # fmt: skip
        elif need.space.free < total:
            yield Verdict(
                check, Level.FAIL, f"too little disk space for the {need.name} folder {where}", figure,
                source, "free some space (tritondeck env list) or set TRITONDECK_HOME to a larger disk",
            )  # fmt: skip
        elif need.space.free < total * _ROOMY:
            yield Verdict(
                check, Level.WARN, f"disk space for the {need.name} folder {where} is tight", figure,
                source, "free some space (tritondeck env list)",
            )  # fmt: skip
        else:
            yield Verdict(
                check, Level.PASS, f"enough disk space for the {need.name} folder", figure, source
            )


def host_memory(host: Host, memory: MemoryNumbers | None) -> Verdict:
    """Building and serving come one after the other, so the larger one counts."""
    check = "host-memory"
    have = f"{human_bytes(host.memory_available)} available of {human_bytes(host.memory_total)}"
    if memory is None or not (memory.host_build or memory.host_serve):
        return Verdict(
            check, Level.UNKNOWN, "what this deployment needs in host memory is not known", have,
            "MemAvailable",
        )  # fmt: skip
    building = memory.host_build >= memory.host_serve
    needed = max(memory.host_build, memory.host_serve)
    figure = f"{have}, {human_bytes(needed)} needed to {'build' if building else 'serve'}"
    source = clean(memory.source) or "estimate of the backend"
    if needed > host.memory_total:
        return Verdict(
            check, Level.FAIL, "this machine has too little memory", figure, source,
            "build on a larger machine, or pick a smaller checkpoint",
        )  # fmt: skip
    if needed > host.memory_available:
        return Verdict(
            check, Level.FAIL, "too little memory is free now", figure, source,
            "end what uses it, then check again",
        )  # fmt: skip
    if needed * _ROOMY > host.memory_available:
        return Verdict(
            check, Level.WARN, "memory is tight", figure, source, "end what else uses memory"
        )
    return Verdict(check, Level.PASS, "enough memory", figure, source)


def gpu_memory(host: Host, memory: MemoryNumbers | None) -> Iterator[Verdict]:
    """One verdict for all GPUs that the deployment uses; none when it uses none."""
    needs = memory.gpu_serve if memory is not None else ()
    if memory is None or not any(needs):
        return
    check, source = "gpu-memory", clean(memory.source) or "estimate of the backend"
    if len(host.gpus) < len(needs):
        seen = f"{len(host.gpus)} of {len(needs)} GPUs"
        why = f": {host.gpu_note}" if host.gpu_note else ""
        yield Verdict(
            check, Level.FAIL, f"this deployment needs {len(needs)} GPU(s){why}", seen, "NVML",
            "choose fewer GPUs or the cpu device",
        )  # fmt: skip
        return
    worst = min(
        zip(host.gpus, needs, strict=False),
        key=lambda pair: (
            pair[0].memory_total - pair[0].memory_reserved - pair[0].memory_used - pair[1]
        ),
    )
    gpu, needed = worst
    free = gpu.memory_total - gpu.memory_reserved - gpu.memory_used
    figure = f"GPU {gpu.index}: {human_bytes(free)} free, {human_bytes(needed)} needed"
    if free < needed:
        yield Verdict(
            check, Level.FAIL, f"too little memory is free on GPU {gpu.index}", figure, source,
            "free that GPU, or lower batch size, lengths or precision",
        )  # fmt: skip
    else:
        tight = free < needed * _ROOMY
        yield Verdict(
            check, Level.WARN if tight else Level.PASS,
            "GPU memory is tight" if tight else "enough GPU memory", figure, source,
            "free that GPU" if tight else "",
        )  # fmt: skip


def shared_memory(host: Host, stubs: int) -> Verdict:
    """Triton's python backend talks to its stubs through /dev/shm."""
    needed = stubs * SHM_PER_STUB
    figure = (
        f"{human_bytes(host.shm_free)} free, {human_bytes(needed)} needed for {stubs} instance(s)"
    )
    source = "1 MiB for each python-backend instance, grown by 1 MiB with large tensors"
    if host.shm_free < needed:
        return Verdict(
            "shm", Level.FAIL, "too little shared memory in /dev/shm", figure, source,
            "remount it larger (mount -o remount,size=1G /dev/shm), in a container start it with --shm-size=1g",
        )  # fmt: skip
    if host.shm_free < 16 * needed:
        return Verdict(
            "shm", Level.WARN, "shared memory is tight for long sounds or images", figure, source,
            "in a container start it with --shm-size=1g",
        )  # fmt: skip
    return Verdict("shm", Level.PASS, "enough shared memory", figure, source)


def embedded_platform(host: Host, python: str) -> Iterator[Verdict]:
    """What the server in the wheel needs of C library, processor and Python."""
    glibc = ".".join(map(str, host.glibc)) if host.glibc else "none"
    fits = host.glibc is not None and host.glibc >= GLIBC
    yield Verdict(
        "glibc",
        Level.PASS if fits else Level.FAIL,
        "the C library is recent enough"
        if fits
        else "the C library is too old for the embedded server",
        f"glibc {glibc}, at least 2.35 needed",
        _WHEEL,
        "" if fits else 'use Ubuntu 22.04 or Debian 12 and later, or launcher = "local"',
        "" if fits else "server.launcher",
    )
    fits = host.machine in MACHINES
    yield Verdict(
        "machine",
        Level.PASS if fits else Level.FAIL,
        "the processor is supported"
        if fits
        else "the embedded server has no build for this processor",
        clean(host.machine),
        _WHEEL,
        "" if fits else 'use an x86_64 or aarch64 machine, or launcher = "attach"',
        "" if fits else "server.launcher",
    )
    found = re.match(r"(\d+)\.(\d+)", python)
    version = (int(found[1]), int(found[2])) if found else None
    fits = version is not None and PYTHONS[0] <= version <= PYTHONS[1]
    yield Verdict(
        "embedded-python",
        Level.PASS if fits else Level.FAIL,
        f"Python {clean(python)} suits the embedded server" if fits
        else f"the embedded server has no stub for Python {clean(python)}",
        f"Python {clean(python)}; 3.8 to 3.12 have a stub",
        _WHEEL,
        "" if fits else "name a Python 3.8 to 3.12 for that environment",
        "" if fits else "environments.embedded.python",
    )  # fmt: skip
