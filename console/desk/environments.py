"""Use case: managed environments, listed, made and removed."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

from console.desk import readonly
from console.facts import DeckError, EnvironmentFacts, Progress, Refused
from console.settings import Settings
from console.text import clean, redact

if TYPE_CHECKING:
    from console.planning.plan import EnvironmentSpec
    from console.runtimes.host import Launch

NAMES = ("embedded", "nemo")
"""Environments that the built-in backends use."""
_PROGRESS = re.compile(r"\[tritondeck\] progress (?P<fraction>[0-9.]+)\s*(?P<message>.*)")
_LAST_WORDS = 12
"""Lines of a failed creation that go into its error."""


def spec(name: str) -> EnvironmentSpec:
    """What the environment `name` of the catalog holds; `UsageError` lists the names."""
    from backends.environments import environment

    return environment(name)


def listed(settings: Settings, sizes: bool = True) -> tuple[EnvironmentFacts, ...]:
    from console.runtimes.environments import Environments

    return tuple(Environments(settings).list(sizes))


def create(settings: Settings, name: str, progress: Progress | None = None) -> EnvironmentFacts:
    """Make it unless it is ready. An interrupted creation is never taken for a finished one."""
    from console.runtimes.environments import Environments
    from console.settings import private_folder

    readonly.require_writable(settings, "create an environment")
    wanted = spec(name)
    environments = Environments(settings)
    if not environments.ready(wanted):
        private_folder(settings.folders.cache)
        folder = private_folder(settings.folders.cache / "creating")
        # Its own file: two consoles may want the same environment; the second waits for the first.
        file = folder / f"{wanted.name}-{os.getpid()}.json"
        launch = environments.creation(wanted, file)
        last: list[str] = []
        try:
            status = _run(launch, last, progress)
        finally:
            file.unlink(missing_ok=True)
        if status or not environments.ready(wanted):
            raise DeckError(
                f"the environment {name} was not created (exit {status})",
                why=environments.why_not(wanted),
                fix=f"tritondeck env create {name} continues; see the text below for the cause",
                raw="\n".join(last),
            )
    return environments.facts(wanted)


def _run(launch: Launch, last: list[str], progress: Progress | None) -> int:
    """Run to the end, telling progress and keeping the last lines; the exit status."""
    with subprocess.Popen(
        launch.argv,
        env=dict(launch.env),
        cwd=launch.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            _tell(line, last, progress)
    return process.returncode


def _tell(line: str, last: list[str], progress: Progress | None) -> None:
    text = redact(clean(line.rstrip("\n")))
    if match := _PROGRESS.match(text):
        if progress:
            progress(match["message"], float(match["fraction"]))
    elif text:
        last[:] = [*last[1 - _LAST_WORDS :], text]


def remove(settings: Settings, name: str) -> int:
    """Bytes freed; `Refused` while a run is active that may use it. What runs in it now, a server
    for one, `Environments.remove` sees itself."""
    from console.runs.store import RunStore
    from console.runtimes.environments import Environments

    readonly.require_writable(settings, "remove an environment")
    run = next((run for run in RunStore(settings).views() if run.active), None)
    if run:
        raise Refused(
            f"run {run.id} may be using the environment {clean(name)}",
            fix=f"wait for it, or tritondeck runs cancel {run.id}",
        )
    return Environments(settings).remove(name)
