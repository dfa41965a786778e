"""Use case: a shell, or a command, where the steps of a deployment run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from console.desk import configure, options, readonly
from console.desk.options import bound
from console.facts import UsageError
from console.settings import Settings, private_folder
from console.text import clean

if TYPE_CHECKING:
    from console.runtimes.host import Launch

HOST = "host"
CONTAINER = "container"
"""In place of an environment's name: inside the container that the deployment is served from."""
_TERMINAL = ("TERM", "COLORTERM", "SHELL", "NO_COLOR", "EDITOR", "VISUAL", "PAGER")
"""What a person at a terminal needs beside what steps get."""
_PLAIN = {"bash": ("--noprofile", "--norc"), "zsh": ("-f",), "fish": ("--no-config",)}
"""No start-up files: they would put another Python first on PATH."""


def launch(
    settings: Settings, name: str, environment: str = "", argv: Sequence[str] = ()
) -> Launch:
    """What to exec: `argv`, else the operator's shell, with `environment` of the deployment entered.

    The first environment that its backend needs when none is named; ``host`` for none,
    ``container`` for the one that serves it (through the engine's ``exec``). The child's
    environment is the steps' allow-list and a terminal's few names; its folder the work folder.
    """
    from console.planning.plan import Command
    from console.planning.variables import literal
    from console.runtimes import host
    from console.runtimes.environments import Environments

    readonly.require_writable(settings, "open a shell")
    deployment = configure.open_deployment(settings, name)
    if environment == CONTAINER:
        return _in_container(settings, deployment.name, argv)
    values = bound(deployment).model_dump(mode="json", exclude_none=True)
    needs = options.backend(deployment.backend).needs(
        deployment.model_copy(update={"options": values})
    )
    known = {spec.name: spec for spec in needs}
    chosen = environment or next(iter(known), HOST)
    runtime = HOST
    places = {"work": str(_work(settings, deployment.name))}
    if chosen != HOST:
        if chosen not in known:
            raise UsageError(
                f"{clean(deployment.name)} has no environment {clean(chosen)!r}",
                fix=f"name one of: {', '.join((*known, HOST, CONTAINER))}",
            )
        runtime = f"{host.ENVIRONMENT}{chosen}"
        places[host.variable_of(chosen)] = str(Environments(settings).folder(known[chosen]))
    words = tuple(argv) or _shell()
    extra = {key: literal(os.environ[key]) for key in _TERMINAL if key in os.environ}
    extra["PS1"] = literal(f"({chosen}) {deployment.name}:\\w\\$ ")
    command = Command(argv=tuple(map(literal, words)), runtime=runtime, env=extra)
    return host.launch(command, places, settings)


def _in_container(settings: Settings, name: str, argv: Sequence[str]) -> Launch:
    from console.desk import query
    from console.runtimes import containers
    from console.runtimes.engine import engine_environment
    from console.runtimes.host import Launch

    words = containers.shell_argv(query.service(settings, name).folder, argv)
    env = engine_environment()
    program = shutil.which(words[0], path=env["PATH"])
    if program is None:
        raise UsageError(f"{words[0]} is not installed", fix="its command line is needed for this")
    env |= {key: os.environ[key] for key in _TERMINAL if key in os.environ}
    return Launch((program, *words[1:]), env, Path("/"))


def _shell() -> tuple[str, ...]:
    program = os.environ.get("SHELL") or "/bin/sh"
    return (program, *_PLAIN.get(Path(program).name, ()))


def _work(settings: Settings, name: str) -> Path:
    private_folder(settings.folders.state)
    private_folder(settings.folders.work)
    return private_folder(settings.folders.work / name)
