"""Managed environments: Python environments made from a pinned lock, kept by its digest.

One lives at ``<environments>/<name>-<digest>``. It counts as finished when, and only when, it holds
the marker file `MARKER`, which its creator writes last; whatever ends a creation early leaves a
folder that is made anew. Creation itself is `console.runtimes.make_environment`, a process of its
own, so that it survives the console.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict

from console import storage
from console.facts import DeckError, EnvironmentFacts, UsageError
from console.planning.plan import EnvironmentSpec
from console.runtimes import interpreter, probe
from console.runtimes.host import Launch, child_environment
from console.settings import PackageSettings, Settings, private_folder
from console.text import clean

MARKER = "tritondeck.json"
INCOMPLETE = ".incomplete"
TRASH = ".trash-"


class Job(BaseModel):
    """What the creator process is told, as a file of mode 0600: an index URL may hold a password."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: EnvironmentSpec
    folder: Path
    python: str
    """Interpreter that the operator named, or empty."""
    packages: PackageSettings


@dataclass(frozen=True, slots=True)
class Marker:
    """What a finished environment says about itself.

    `freeze`: normalised distribution name to version. `seconds`: what the creation took. `size`:
    bytes on disk at its end.
    """

    name: str
    digest: str
    python: str
    freeze: Mapping[str, str]
    seconds: float
    size: int


class Environments:
    """The environments of one operator. Methods block on files; none of them creates anything."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.root = settings.folders.environments

    def folder(self, spec: EnvironmentSpec) -> Path:
        """Where this environment is or will be (the operator's own one, where they named it)."""
        if not spec.existing:
            return self.root / f"{spec.name}-{self._resolved(spec).digest}"
        place = Path(spec.existing).expanduser().absolute()
        return place.parent.parent if place.is_file() else place

    def ready(self, spec: EnvironmentSpec) -> bool:
        """Whether steps can run in it now."""
        return not self.why_not(spec)

    def why_not(self, spec: EnvironmentSpec) -> str:
        """Why it cannot be used yet, in words; empty when it can."""
        folder = self.folder(spec)
        if spec.existing:
            return _why_not_existing(spec, folder)
        if not folder.is_dir():
            return "not created yet"
        if foreign := _foreign(folder):
            return foreign
        if read_marker(folder) is None:
            return "its creation was interrupted"
        if not (folder / "bin" / "python").exists():
            return "the Python that it was made with is gone"
        return ""

    def creation(self, spec: EnvironmentSpec, spec_file: Path) -> Launch:
        """The process that makes it; `spec_file` is written (0600) and read by that process.

        It prints ``[tritondeck] progress 0.42 message`` lines and ends with status 0 only when the
        environment is finished. Started for a finished one it ends at once.
        """
        if spec.existing:
            raise UsageError(
                f"the environment {spec.name} is {clean(spec.existing)}: it is used as it is",
                why=self.why_not(spec),
            )
        spec = self._resolved(spec)
        job = Job(
            spec=spec,
            folder=self.folder(spec),
            python=spec.python,
            packages=self.settings.packages,
        )
        spec_file.parent.mkdir(parents=True, exist_ok=True)
        storage.write_private(spec_file, job.model_dump_json(indent=2).encode())
        env = child_environment()
        # How pip is set up on this host (certificates, mirrors) is part of "as pip is set up".
        env |= {k: v for k, v in os.environ.items() if k.startswith("PIP_")}
        # -P: a folder called `console` where this happens to start must not be taken for ours.
        argv = (sys.executable, "-P", "-m", "console.runtimes.make_environment", str(spec_file))
        return Launch(argv, env, Path("/"))

    def facts(self, spec: EnvironmentSpec) -> EnvironmentFacts:
        """What is really installed; asks the environment itself (tens of milliseconds).

        Raises `DeckError` when it is not ready.
        """
        if why := self.why_not(spec):
            raise DeckError(f"the environment {spec.name} is not ready", why=why)
        folder = self.folder(spec)
        python = folder / "bin" / "python"
        told = probe.packages(python)
        marker = read_marker(folder)
        size = marker.size if marker else None
        return EnvironmentFacts(spec.name, python, told.python, told.packages, size)

    def list(self, sizes: bool = True) -> tuple[EnvironmentFacts, ...]:
        """Managed environments on this host by folder name, unfinished ones among them (their
        `python_version` is empty). With `sizes` the disk is counted, else the size is the one at
        creation."""
        return tuple(_listed(folder, sizes) for folder in self._folders())

    def remove(self, name: str) -> int:
        """Remove the environment whose folder is called `name`; returns the bytes freed.

        A short name (``nemo``) is enough where only one has it. Raises `UsageError` when there is
        none and `DeckError` while it is being created or processes run in it.
        """
        folder = self._named(name)
        with lock(folder) as held:
            if not held:
                raise DeckError(
                    f"the environment {clean(name)} is being created",
                    fix="wait for its end, or cancel the run that creates it",
                )
            if users := users_of(folder):
                pids = ", ".join(map(str, users[:5]))
                raise DeckError(
                    f"the environment {clean(name)} is in use",
                    why=f"by process {pids}",
                    fix="stop the service or run that uses it first",
                )
            size = disk_usage(folder)
            # Renamed first: nobody finds half an environment under its name.
            folder.rename(self.root / f"{TRASH}{folder.name}-{os.getpid()}-{time.time_ns()}")
        empty_trash(self.root)
        return size

    def _resolved(self, spec: EnvironmentSpec) -> EnvironmentSpec:
        """`spec` with the interpreter of the settings, which is part of what makes it itself."""
        python = spec.python or self.settings.python
        return spec.model_copy(update={"python": python})

    def _folders(self) -> Iterator[Path]:
        if not self.root.is_dir():
            return
        for folder in sorted(self.root.iterdir()):
            if is_ours(folder):
                yield folder

    def _named(self, name: str) -> Path:
        matching = [f for f in self._folders() if name in (f.name, f.name.rpartition("-")[0])]
        if not matching:
            raise UsageError(
                f"no environment {clean(name)}", fix="`tritondeck env list` shows them"
            )
        if len(matching) > 1:
            raise UsageError(
                f"more than one environment {clean(name)}",
                fix=f"say which: {', '.join(f.name for f in matching)}",
            )
        return matching[0]


def is_ours(folder: Path) -> bool:
    """Whether a folder is a managed environment, finished or not. Links never are."""
    return (
        not folder.is_symlink()
        and not folder.name.startswith(".")
        and ((folder / MARKER).is_file() or (folder / INCOMPLETE).is_file())
    )


def read_marker(folder: Path) -> Marker | None:
    """The marker of a finished environment; None when there is none that makes sense."""
    try:
        raw: dict[str, Any] = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        marker = Marker(**raw)
    except (OSError, ValueError, TypeError):
        return None
    return marker if folder.name == f"{marker.name}-{marker.digest}" else None


@contextmanager
def lock(folder: Path, waiting: Callable[[str], None] | None = None) -> Iterator[int]:
    """Hold the lock of one environment folder; yields its descriptor, or 0 when it is taken.

    With `waiting` it blocks instead: that is called once with the holder's process id. The file
    beside the folder stays; the kernel frees the lock when the last process that has it ends, so a
    killed creator holds it for as long as its pip lives.
    """
    private_folder(folder.parent)
    descriptor = storage.open_lock(folder.parent / f".{folder.name}.lock")
    try:
        if not storage.take_lock(descriptor):
            if waiting is None:
                yield 0
                return
            waiting(os.pread(descriptor, 20, 0).decode("ascii", "replace").strip())
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def empty_trash(root: Path) -> None:
    """Delete what removals (also interrupted ones) have left."""
    for folder in root.glob(f"{TRASH}*"):
        shutil.rmtree(folder, ignore_errors=True)


def users_of(folder: Path) -> tuple[int, ...]:
    """Processes of ours that run in the environment at `folder`: started from its files, or with
    its `bin` entered. Those of other users cannot be seen, and cannot use a 0700 folder."""
    inside = f"{folder}/"
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = process.info["cmdline"] or ()
        entered = (process.info["environ"] or {}).get("VIRTUAL_ENV")
        if process.pid != os.getpid() and (
            entered == str(folder) or any(word.startswith(inside) for word in words)
        ):
            found.append(process.pid)
    return tuple(found)


def disk_usage(folder: Path) -> int:
    """Bytes that `folder` takes on disk (blocks, hard links once), as ``du`` counts."""
    total = 0
    seen: set[tuple[int, int]] = set()
    pending = [os.fspath(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    info = entry.stat(follow_symlinks=False)
                    if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                        if (info.st_dev, info.st_ino) in seen:
                            continue
                        seen.add((info.st_dev, info.st_ino))
                    total += info.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except FileNotFoundError:
            continue  # removed while we count
    return total


def _listed(folder: Path, sizes: bool) -> EnvironmentFacts:
    marker = read_marker(folder)
    size = disk_usage(folder) if sizes else marker.size if marker else None
    python = folder / "bin" / "python"
    if marker is None:
        return EnvironmentFacts(folder.name, python, "", {}, size)
    return EnvironmentFacts(folder.name, python, marker.python, marker.freeze, size)


def _foreign(folder: Path) -> str:
    owner = folder.stat().st_uid
    # What another user may write to, another user may make us run.
    return "" if owner in (0, os.geteuid()) else f"it belongs to user id {owner}, not to you"


def _why_not_existing(spec: EnvironmentSpec, folder: Path) -> str:
    python = folder / "bin" / "python"
    if not python.exists():
        return f"there is no Python environment at {clean(spec.existing)} (no bin/python in it)"
    try:
        version = interpreter.ask(python).version
        absent = probe.missing(python, spec.imports)
    except DeckError as error:
        return str(error)
    if not interpreter.fits(version, spec.python_range):
        return f"it is Python {'.'.join(map(str, version))}, not {spec.python_range}"
    if absent:
        return f"it lacks {', '.join(absent)}"
    return ""
