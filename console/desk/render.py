"""Use case: a deployment printed for another way of running it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from console.desk import options
from console.desk import plan as planning
from console.facts import UsageError
from console.settings import Settings
from console.text import clean

if TYPE_CHECKING:
    from console.desk.plan import Prepared
    from console.planning.deployment import Deployment
    from console.planning.render.serving import Serving

FORMATS = ("script", "docker", "systemd", "systemd-user", "compose", "kubernetes", "slurm")
_OTHER_PORT = 8003
"""Of a front beside Triton, where the deployment leaves it open."""
_IN_IMAGES = frozenset({"docker", "compose", "kubernetes"})


def render(settings: Settings, deployment: Deployment, form: str) -> str:
    """See `Desk.render`."""
    if form not in FORMATS:
        raise UsageError(f"no format {clean(form)}", fix=f"one of {', '.join(FORMATS)}")
    if form == "script":
        return planning.script(settings, deployment)
    chosen, notes = _fitting(deployment, form)
    prepared = planning.prepare(settings, chosen)
    if prepared.fetches_first:
        raise UsageError(
            f"nothing is known yet of what {deployment.name} serves",
            why="its checkpoint has not been fetched",
            fix=f"tritondeck deploy {deployment.name}, then render it",
        )
    _require_server_of(prepared, form)
    return _renderer(form)(_serving(settings, prepared, notes))


def _require_server_of(prepared: Prepared, form: str) -> None:
    """Raise for a format that knows Triton with a model repository alone, where it is another one
    (vLLM's, PyTriton, Ray)."""
    from console.planning.plan import ServiceStep

    steps = (step for step in prepared.plan.steps if isinstance(step, ServiceStep))
    command = next((step.service.command for step in steps), None)
    if command is None or any(word.endswith("/triton_server.py") for word in command.argv):
        return
    everywhere = form == "slurm" and (command.nodes > 1 or not command.image)
    if form in _IN_IMAGES or (form == "slurm" and not everywhere):
        raise UsageError(
            f"{form} starts Triton with a model repository, and {prepared.deployment.name} has "
            "another server",
            why=f"it is started by {prepared.backend.name}",
            fix="--as script does what a deploy does, in any place",
        )


def _renderer(form: str) -> Callable[[Serving], str]:
    from console.planning.render import compose, docker, kubernetes, slurm, systemd

    known: dict[str, Callable[[Serving], str]] = {
        "docker": docker.render,
        "systemd": systemd.system,
        "systemd-user": systemd.user,
        "compose": compose.render,
        "kubernetes": kubernetes.render,
        "slurm": slurm.render,
    }
    return known[form]


def _fitting(deployment: Deployment, form: str) -> tuple[Deployment, tuple[str, ...]]:
    """The deployment as the format runs it, and what is to be said about the difference."""
    chosen, values = options.backend(deployment.backend), options.bound(deployment)
    server = chosen.seat(deployment.server, values.model_dump(mode="json", exclude_none=True))
    notes: list[str] = []
    if form in _IN_IMAGES and server.launcher in ("embedded", "local"):
        image = server.image or _image_for(server.launcher)
        name, launcher = deployment.name, server.launcher
        notes.append(
            f"The deployment's launcher is {launcher}; this runs its server in the image {image}. "
            "The model repository must be the one for that image: tritondeck deploy "
            f"{name} --set server.launcher=container --set server.image={image}"
        )
        server = server.model_copy(update={"launcher": "container", "image": image})
    if form == "kubernetes":
        # Inside a cluster others reach it: all but health, metadata and inference takes the token.
        server = server.model_copy(update={"address": "0.0.0.0", "expose": True})
    return deployment.model_copy(update={"server": server}), tuple(notes)


def _image_for(launcher: str) -> str:
    """The release that the embedded server is of; for others the newest that is known."""
    from console.triton import embedded, releases

    known = releases.data().releases
    same = [name for name, one in known.items() if one.triton == embedded.VERSION]
    wanted = same[0] if launcher == "embedded" and same else releases.NEWEST
    return f"{wanted}-py3"


def _serving(settings: Settings, prepared: Prepared, notes: tuple[str, ...]) -> Serving:
    from console.planning.render.serving import serving
    from console.triton import versions

    deployment, plan = prepared.deployment, prepared.plan
    if versions.read(settings.folders.work / deployment.name) is None:
        notes += (f"The models are not built yet: tritondeck deploy {deployment.name}",)
    return serving(
        plan,
        _values(settings, prepared),
        user=getpass.getuser(),
        ids=(os.getuid(), os.getgid()),
        gpus=deployment.server.gpus,
        load_timeout=deployment.server.load_timeout,
        notes=notes,
    )


def _values(settings: Settings, prepared: Prepared) -> dict[str, str]:
    """The plan's variables on this host; an open port is Triton's own."""
    from console.planning.render.serving import PORTS
    from console.planning.variables import expand
    from console.runtimes.environments import Environments
    from console.runtimes.host import variable_of

    plan, environments = prepared.plan, Environments(settings)
    values = {"work": str(settings.folders.work / prepared.deployment.name)}
    for spec in plan.environments:
        values[variable_of(spec.name)] = str(environments.folder(spec))
    for image in plan.images:
        values[f"image_{image.name}"] = image.tag
    for variable in plan.variables:
        value = expand(variable.default, values)
        if variable.kind == "port" and value in ("", "0"):
            value = str(PORTS.get(variable.name.removesuffix("_port"), _OTHER_PORT))
        values[variable.name] = value
    return values
