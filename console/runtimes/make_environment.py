"""Creates one managed environment: ``python -m console.runtimes.make_environment JOB.json``.

Runs as a process of its own under a keeper. Its output is the step's log; lines
``[tritondeck] progress 0.42 message`` tell how far it is. Status 0 means that the environment is
finished, 1 that it failed (the last line says why, and what to do), 2 that the job file is wrong.

A virtual environment holds absolute paths, so it cannot be built elsewhere and renamed into place.
It is built where it will live, beside a file `.incomplete`, and the marker comes last; a folder
without the marker is made anew, because what an interrupted pip has left cannot be trusted.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import psutil
from pydantic import ValidationError

from console import storage
from console.facts import DeckError, UsageError
from console.runtimes import interpreter, pip, probe
from console.runtimes.environments import (
    INCOMPLETE,
    MARKER,
    TRASH,
    Job,
    Marker,
    disk_usage,
    empty_trash,
    lock,
    read_marker,
)
from console.runtimes.host import child_environment
from console.text import clean, human_bytes, human_seconds, redact

IMPORT_TIMEOUT = 900
"""Seconds for importing what the environment is for; NeMo takes 10 to 25 on a small machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Create the environment that the job file describes; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _cancelled)
    os.umask(0o077)
    try:
        job = _read(words)
        create(job)
    except DeckError as error:
        return _failed(error)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _failed(pip.disk_full(job.folder))
        return _failed(DeckError("cannot create the environment", why=clean(str(error))))
    return 0


def create(job: Job) -> None:
    """Make the environment unless it is there; raises `DeckError` in words."""
    folder = job.folder
    with lock(folder, waiting=_waiting) as held:
        if read_marker(folder) is not None and (folder / "bin" / "python").exists():
            tell("already created", 1.0)
            return
        if folder.exists():
            tell("an earlier creation was interrupted: starting afresh", 0.0)
            _discard(folder)
        try:
            with _no_child_left():
                _make(job, held)
        except (DeckError, OSError):
            # A cancelled creation is left as it is (the next one discards it); a failed one may
            # have failed for want of the space that it takes.
            if folder.exists():
                _discard(folder)
            raise


@contextmanager
def _no_child_left() -> Iterator[None]:
    """End the processes that are still there when the body is left early.

    Looked up and not remembered: a signal may come when a child runs whose id nobody has yet.
    """
    try:
        yield
    finally:
        children = psutil.Process().children(recursive=True)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.terminate()
        _, left = psutil.wait_procs(children, timeout=5)
        for child in left:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(left, timeout=5)


def _make(job: Job, held: int) -> None:
    began = time.monotonic()
    spec, folder = job.spec, job.folder
    chosen = interpreter.find(job.python, spec.python_range)
    tell(f"creating a virtual environment with Python {chosen.text}", 0.01)
    folder.mkdir(mode=0o700)
    storage.write_private(folder / INCOMPLETE, f"{os.getpid()}\n".encode())
    _virtual_environment(chosen.base, folder, spec.name, held)
    python = folder / "bin" / "python"
    _install(job, python, held)
    tell("reading what was installed", 0.94)
    installed = probe.packages(python)
    _import(python, spec.imports)
    marker = Marker(
        name=spec.name,
        digest=spec.digest,
        python=installed.python,
        freeze=installed.packages,
        seconds=round(time.monotonic() - began, 1),
        size=disk_usage(folder),
    )
    storage.write_private(folder / MARKER, json.dumps(asdict(marker), indent=1).encode())
    (folder / INCOMPLETE).unlink()
    took = human_seconds(marker.seconds)
    tell(f"{len(marker.freeze)} packages, {human_bytes(marker.size)}, {took}", 1.0)


def _virtual_environment(base: Path, folder: Path, name: str, held: int) -> None:
    done = subprocess.run(
        [str(base), "-I", "-m", "venv", "--prompt", name, str(folder)],
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        pass_fds=(held,),  # as with pip: whoever writes into the folder holds its lock
    )
    if done.returncode:
        said = clean(done.stdout, multiline=True)
        print(said, flush=True)
        raise pip.explain(said, folder / "bin" / "python")


def _install(job: Job, python: Path, held: int) -> None:
    spec, packages = job.spec, job.packages
    env = child_environment()
    env |= {k: v for k, v in os.environ.items() if k.startswith("PIP_")}
    after_torch = 0.25 if spec.pre else 0.05
    if spec.pre:
        own_index = bool(packages.torch_index_url)
        # From an index of its own torch comes alone; the second call adds what it depends on.
        words = (*(["--no-deps"] if own_index else []), *spec.pre)
        sources = pip.sources(packages, env, torch=True)
        step = pip.Install(python, env | sources, Span(0.05, after_torch))
        step.run(words, len(spec.pre), held)
    # The first lines again: the resolver must not replace them.
    lines = tuple(dict.fromkeys((*spec.pre, *spec.requirements)))
    requirements = python.parent.parent / "requirements.txt"
    requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
    constraints = requirements.with_name("constraints.txt")
    # As constraints too: a package asked for with an extra (``fsspec[http]``) is another candidate
    # to pip's resolver, which then tries every version down to the pinned one.
    pins = (line for line in lines if pip.PIN.match(line))
    constraints.write_text("\n".join((*spec.constraints, *pins)) + "\n", encoding="utf-8")
    alone = ("--no-deps",) if spec.whole else ()
    words = (*alone, "-r", str(requirements), "-c", str(constraints))
    step = pip.Install(python, env | pip.sources(packages, env), Span(after_torch, 0.93))
    step.run(words, len(pip.names(lines)), held)


def _import(python: Path, modules: tuple[str, ...]) -> None:
    """Import each module in the new environment: what does not import is not finished."""
    for index, module in enumerate(modules):
        tell(f"checking that {module} imports", 0.95 + 0.05 * index / len(modules))
        try:
            done = subprocess.run(
                [str(python), "-I", "-c", f"import {module}"],
                env=child_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=IMPORT_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeckError(
                f"{module} did not import within {human_seconds(IMPORT_TIMEOUT)}"
            ) from error
        if done.returncode:
            said = clean(done.stdout, multiline=True).strip()
            print(said, flush=True)
            raise DeckError(
                f"{module} is installed but does not import",
                why=said.rpartition("\n")[2],
                fix="the pins are in backends/catalog/environments.toml",
                raw=said,
            )


class Span:
    """Progress of a part as progress of the whole, between `start` and `end`."""

    def __init__(self, start: float, end: float) -> None:
        self.start = start
        self.end = end

    def __call__(self, message: str, fraction: float | None = None) -> None:
        tell(message, self.start + (self.end - self.start) * (fraction or 0.0))


def tell(message: str, fraction: float) -> None:
    """One progress line of the form that the runner reads."""
    print(f"[tritondeck] progress {fraction:.3f} {clean(message)}", flush=True)


def _waiting(pid: str) -> None:
    holder = f" (process {pid})" if pid.isdigit() else ""
    tell(f"another creation of this environment is running{holder}: waiting for it", 0.0)


def _discard(folder: Path) -> None:
    folder.rename(folder.parent / f"{TRASH}{folder.name}-{os.getpid()}-{time.time_ns()}")
    empty_trash(folder.parent)


def _read(words: list[str]) -> Job:
    if len(words) != 1:
        raise UsageError("usage: python -m console.runtimes.make_environment JOB.json")
    try:
        return Job.model_validate_json(Path(words[0]).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise UsageError(f"cannot read the job {clean(words[0])}", why=clean(str(error))) from error


def _failed(error: DeckError) -> int:
    print(f"[tritondeck] error {redact(clean(str(error)))}", flush=True)
    return error.exit_code


def _cancelled(number: int, _frame: FrameType | None) -> None:
    # SystemExit unwinds through the code that ends pip.
    print("[tritondeck] error cancelled", flush=True)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
