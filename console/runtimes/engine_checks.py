"""What a plan's containers need of the engine, as verdicts, before anything is started."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from console.facts import DeckError, Level, Verdict
from console.planning.plan import Command, CommandStep, Container, ImageSpec, Plan, ServiceStep
from console.planning.variables import expand
from console.runtimes import engine_errors, engines
from console.runtimes.engine import Engine, EngineFacts
from console.text import clean, human_bytes

CDI_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
TOOLKIT_FIXED = (1, 17, 8)
"""NVIDIA Container Toolkit without CVE-2025-23266 (escape of a container to the host's root)."""
SHM_PER_STUB, SHM_ROOMY = 1 << 20, 64 << 20
"""Bytes of shared memory that a python instance needs at least, and what is enough for most."""
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_MANY = 20_000


def checks(
    plan: Plan,
    values: Mapping[str, str],
    stubs: int = 0,
    environ: Mapping[str, str] = os.environ,
) -> Iterator[Verdict]:
    """Everything about the plan's containers; nothing when it has none.

    `values`: variables that are known already; mounts of others are not looked at. `stubs`:
    instances of Triton's python backend that the server starts.
    """
    commands = [command for command in _commands(plan) if command.image]
    if not plan.images and not commands:
        return
    try:
        engine = engines.engine(plan.engine, environ)
        facts = engine.facts()
    except DeckError as error:
        why = ": ".join(filter(None, (error.title, error.why)))
        yield Verdict(
            "container-engine", Level.FAIL, "no container engine can be used", why,
            "docker info, podman info", error.fix, "server.engine",
        )  # fmt: skip
        return
    yield _reached(engine, facts)
    for spec in plan.images:
        yield _image(engine, spec)
    for command in commands:
        container = command.container or Container()
        yield from _gpus(engine, facts, container)
        yield from _sizes(facts, container, stubs)
        yield from _mounts(engine, facts, container, values)


def _commands(plan: Plan) -> Iterator[Command]:
    for step in plan.steps:
        if isinstance(step, CommandStep):
            yield step.command
        elif isinstance(step, ServiceStep) and step.service.command is not None:
            yield step.service.command


def _reached(engine: Engine, facts: EngineFacts) -> Verdict:
    figure = f"{engine.name} {facts.version}" + (", rootless" if facts.rootless else "")
    summary = "the container engine answers"
    if engine.name == "docker" and not facts.rootless and os.geteuid() != 0:
        summary += "; who may use it is as good as root on this machine"
    return Verdict("container-engine", Level.PASS, summary, figure, f"{engine.name} info")


def _image(engine: Engine, spec: ImageSpec) -> Verdict:
    check, tag = "container-image", clean(spec.tag)
    if (found := engine.image(spec.tag)) is not None:
        figure = f"{human_bytes(found.size)}, {found.id.removeprefix('sha256:')[:12]}"
        return Verdict(check, Level.PASS, f"the image {tag} is here", figure, "image inspect")
    if spec.tar and not Path(spec.tar).is_file():
        return Verdict(
            check, Level.FAIL, f"the image {tag} is not here, and neither is its archive",
            clean(spec.tar), "server.image_tar", "copy the archive here, or correct its path",
            "server.image_tar",
        )  # fmt: skip
    how = "built" if spec.base else "loaded from its archive" if spec.tar else "pulled"
    return Verdict(
        check, Level.WARN, f"the image {tag} will be {how} first", "not in the engine yet",
        "image inspect", f"{engine.name} pull {tag} does it now" if how == "pulled" else "",
    )  # fmt: skip


# ---------------------------------------------------------------------------- GPUs


def _gpus(engine: Engine, facts: EngineFacts, container: Container) -> Iterator[Verdict]:
    if not container.gpus:
        return
    check = "container-gpus"
    described = [f for folder in CDI_FOLDERS if folder.is_dir() for f in folder.glob("*nvidia*")]
    ready = bool(described) if engine.name == "podman" else "nvidia" in facts.runtimes
    what = "a CDI description of its GPUs" if engine.name == "podman" else "an NVIDIA runtime"
    if not ready:
        fix = engine_errors.CDI if engine.name == "podman" else engine_errors.TOOLKIT
        yield Verdict(
            check, Level.FAIL, f"{engine.name} cannot give a container any GPU",
            f"it has no {what.partition(' ')[2]}", f"{engine.name} info", fix, "server.gpus",
        )  # fmt: skip
        return
    yield Verdict(check, Level.PASS, f"{engine.name} has {what}", container.gpus)
    if (version := _toolkit()) and version < TOOLKIT_FIXED:
        yield Verdict(
            "container-toolkit", Level.WARN,
            "a hostile image could take over this machine (CVE-2025-23266)",
            f"NVIDIA Container Toolkit {'.'.join(map(str, version))}", "nvidia-ctk --version",
            "update the toolkit to 1.17.8 or later; run only images that you trust until then",
        )  # fmt: skip


def _toolkit() -> tuple[int, ...] | None:
    if shutil.which("nvidia-ctk") is None:
        return None
    done = subprocess.run(
        ["nvidia-ctk", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", done.stdout)
    return tuple(int(part) for part in found.groups()) if found else None


# ---------------------------------------------------------------------------- sizes


def size_in_bytes(words: str) -> int:
    """``512m`` in bytes, as the engines take it; 0 for nothing."""
    match = re.fullmatch(r"(\d+)([bkmg]?)", words)
    return int(match[1]) * _UNITS[match[2]] if match else 0


def _sizes(facts: EngineFacts, container: Container, stubs: int) -> Iterator[Verdict]:
    if stubs and container.shm_size:
        yield _shm(size_in_bytes(container.shm_size), stubs)
    if limit := size_in_bytes(container.memory):
        figure = f"limit {human_bytes(limit)}, host {human_bytes(facts.memory)}"
        if limit < 6 << 20:
            yield Verdict(
                "container-memory", Level.FAIL, "the memory limit is too small", figure,
                "engines take 6 MiB at least", "raise it", "server.memory",
            )  # fmt: skip
        elif facts.memory and limit > facts.memory:
            yield Verdict(
                "container-memory", Level.WARN, "the memory limit is no limit here", figure,
                "MemTotal", "lower it below what the machine has", "server.memory",
            )  # fmt: skip
        else:
            yield Verdict("container-memory", Level.PASS, "the memory limit makes sense", figure)
    if container.cpus and float(container.cpus) > facts.cpus > 0:
        yield Verdict(
            "container-cpus", Level.FAIL, "there are not so many CPUs",
            f"{container.cpus} asked for, {facts.cpus} there", "engine info", "lower the number",
        )  # fmt: skip


def _shm(size: int, stubs: int) -> Verdict:
    needed = stubs * SHM_PER_STUB
    figure = f"{human_bytes(size)} for {stubs} python instance(s)"
    source = "1 MiB for each instance at least; the engines' own default is 64 MiB"
    if size < needed:
        level, summary = Level.FAIL, "the container has too little shared memory"
    elif size < stubs * SHM_ROOMY:
        level, summary = Level.WARN, "shared memory is tight for long sounds or images"
    else:
        return Verdict("container-shm", Level.PASS, "enough shared memory", figure, source)
    return Verdict(
        "container-shm", level, summary, figure, source, "raise it (1g, 4g)", "server.shm_size"
    )


# ---------------------------------------------------------------------------- mounts


def _mounts(
    engine: Engine, facts: EngineFacts, container: Container, values: Mapping[str, str]
) -> Iterator[Verdict]:
    known: list[Path] = []
    for mount in container.mounts:
        try:
            source = Path(expand(mount.source, values))
        except KeyError:
            continue  # a port's or token's value: made when it is run
        if source.exists():
            known.append(source)
    user = _user(container, facts)
    for source in known:
        if user is not None and (bad := unreadable(source, *user)) is not None:
            yield Verdict(
                "container-mounts", Level.FAIL, "the container's user may not read what is mounted",
                f"user {user[0]}:{user[1]}, {clean(str(bad))}", "owner and mode",
                f"chmod -R o+rX {clean(str(source))}, or run it as the owner of the files",
            )  # fmt: skip
            return
    if known:
        yield Verdict(
            "container-mounts", Level.PASS, "the container's user may read what is mounted",
            f"{len(known)} place(s)", "owner and mode",
        )  # fmt: skip


def _user(container: Container, facts: EngineFacts) -> tuple[int, int] | None:
    """Who the container's user is on this host; None where ids are mapped."""
    if not container.user:
        return os.getuid(), os.getgid()
    if facts.rootless:
        return None
    uid, _, gid = container.user.partition(":")
    return int(uid), int(gid)


def unreadable(place: Path, uid: int, gid: int) -> Path | None:
    """The first file or folder below `place` that user `uid` of group `gid` may not read.

    Root without capabilities is a user as any other. Ways above `place` do not count: the engine
    mounts it. At most the first 20000 entries are looked at.
    """
    for entry in islice(_below(place), _MANY):
        try:
            info = entry.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(info.st_mode):
            continue
        wanted = 0o5 if stat.S_ISDIR(info.st_mode) else 0o4
        shift = 6 if info.st_uid == uid else 3 if info.st_gid == gid else 0
        if (info.st_mode >> shift) & wanted != wanted:
            return entry
    return None


def _below(place: Path) -> Iterable[Path]:
    yield place
    if place.is_dir():
        for folder, folders, files in os.walk(place):
            yield from (Path(folder) / name for name in (*folders, *files))
