"""What every format says of a deployment: the server, its models, and where its files stand.

A format is a pure function from a `Serving` to text. It serves a model repository that a deploy has
built; none of them builds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from console.facts import UsageError
from console.planning.plan import (
    Command,
    Container,
    ImageSpec,
    LoadStep,
    Plan,
    ServiceSpec,
    ServiceStep,
    WriteStep,
)
from console.planning.variables import expand, literal

PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
"""Triton's own, where the deployment leaves a port open."""


@dataclass(frozen=True, slots=True)
class Serving:
    """One server and what it serves."""

    name: str
    """The deployment's, as one DNS label."""
    deployment: str
    plan: Plan
    service: ServiceSpec
    models: tuple[str, ...]
    values: Mapping[str, str]
    """Of the plan's variables on this host; what is made anew for each launch stays a variable."""
    user: str
    """Who runs it: a login name for systemd."""
    ids: tuple[int, int]
    """User and group id that own the repository's files."""
    gpus: int
    """How many it asks for; -1 for all."""
    start_limit: int
    """Seconds that loading the models may take."""
    notes: tuple[str, ...] = ()

    @property
    def command(self) -> Command:
        """What starts the server; `serving` has seen to it that there is one."""
        assert self.service.command is not None
        return self.service.command

    @property
    def container(self) -> Container:
        return self.command.container or Container()

    @property
    def image(self) -> ImageSpec:
        """The image that the server runs in; the plan of a container has it."""
        wanted = self.command.image
        return next(image for image in self.plan.images if image.name == wanted)

    @property
    def argv(self) -> tuple[str, ...]:
        """The server's words (templates), told to load its models: nobody else does."""
        loads = tuple(f"--load-model={model}" for model in self.models)
        # Of several ranks the first loads every model as it starts, the others their own.
        alone = self.command.argv[0] != "mpirun"
        explicit = alone and "--model-control-mode=explicit" in self.command.argv
        return (*self.command.argv, *(loads if explicit else ()))

    def filled(self, template: str) -> str:
        return expand(template, self.values)

    @property
    def words(self) -> tuple[str, ...]:
        """`argv` with every value filled in."""
        return tuple(map(self.filled, self.argv))

    @property
    def data(self) -> tuple[tuple[str, str], ...]:
        """What else the server reads: folders of this machine (engine, checkpoint, tokenizer) and where
        it looks for them. Repository, worker and token, the first three mounts, go their own ways."""
        further = self.container.mounts[3:]
        return tuple((self.filled(one.source), self.filled(one.target)) for one in further)

    @property
    def placed(self) -> Command:
        """The command with the server's words; `data` is named by its places on this machine, for the
        script has a folder of its own for the worker and the token."""
        box = self.container
        further = [
            one.model_copy(update={"source": literal(source), "target": literal(target)})
            for one, (source, target) in zip(box.mounts[3:], self.data, strict=True)
        ]
        changed = box.model_copy(update={"mounts": (*box.mounts[:3], *further)})
        return self.command.model_copy(update={"argv": self.argv, "container": changed})

    @property
    def worker(self) -> str:
        """Text of the worker that starts the server."""
        for step in self.plan.steps:
            for file in step.files if isinstance(step, WriteStep) else ():
                if PurePosixPath(file.path).name == "triton_server.py":
                    return file.text
        raise ValueError("the plan carries no worker that starts a server")

    @property
    def port(self) -> Mapping[str, int]:
        return {name: int(self.values[f"{name}_port"]) for name in PORTS}

    def head(self, *lines: str) -> str:
        """The comment that every format begins with."""
        told = (f"tritondeck deployment {self.deployment}: {', '.join(self.models)}", *self.notes)
        return "".join(f"# {' '.join(line.split())}".rstrip() + "\n" for line in (*told, *lines))

    def derived(self) -> tuple[str, ...]:
        """How the image is made, where it is one that a plan builds."""
        image = self.image
        if not image.base:
            return ()
        packages = " ".join(image.requirements)
        return (
            f"The image {image.tag} is {image.base} with the Python packages {packages}: a deploy "
            "builds it; another machine needs it from a registry",
        )


def serving(
    plan: Plan,
    values: Mapping[str, str],
    *,
    user: str,
    ids: tuple[int, int],
    gpus: str,
    load_timeout: float,
    notes: tuple[str, ...] = (),
) -> Serving:
    """Collect it from a plan. `gpus` as ``[server] gpus`` says it; `load_timeout` is seconds for one
    model. Raises `UsageError` for a plan that starts no server of its own."""
    service = next((s.service for s in plan.steps if isinstance(s, ServiceStep)), None)
    if service is None or service.command is None:
        raise UsageError(
            f"{plan.deployment} starts no server that could be started elsewhere",
            why="its models go into a server that runs already",
            fix='give it one: remove [server] join, or set another launcher than "attach"',
        )
    loads = [step for step in plan.steps if isinstance(step, LoadStep)]
    return Serving(
        name=label(plan.deployment),
        deployment=plan.deployment,
        plan=plan,
        service=service,
        models=loads[0].models if loads else service.models,
        values=values,
        user=user,
        ids=ids,
        gpus=-1 if gpus == "all" else len([one for one in gpus.split(",") if one]),
        start_limit=60 + round(load_timeout) * max(1, len(service.models)),
        notes=notes,
    )


def label(name: str) -> str:
    """`name` as a DNS label: what Kubernetes, Compose and Slurm all take."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50].strip("-") or "triton"
