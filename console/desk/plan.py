"""Use case: from a deployment to its plan and its script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from console.desk import options
from console.desk.asking import Answers
from console.desk.tools import tools
from console.facts import Host, ToolFacts, UsageError
from console.planning.joining import joined
from console.settings import Settings
from console.text import clean

if TYPE_CHECKING:
    from backends.base import Backend, Role
    from console.checkpoints.browse import Key
    from console.checkpoints.model import Checkpoint
    from console.planning.deployment import Deployment
    from console.planning.plan import EnvironmentSpec, Plan
    from console.planning.server import ServerSection


@dataclass(frozen=True)
class Prepared:
    """Everything that a backend is asked with."""

    deployment: Deployment
    """With the options bound: complete and valid."""
    backend: Backend
    checkpoints: Mapping[str, Checkpoint]
    host: Host
    needs: tuple[EnvironmentSpec, ...]
    tools: ToolFacts

    @cached_property
    def plan(self) -> Plan:
        """The route's plan with the fetch before it; the fetch alone where facts are missing."""
        from backends import hub

        fetch = hub.fetching(self.deployment, self.checkpoints)
        if self.fetches_first:
            return fetch
        plan = self.backend.plan(self.deployment, self.checkpoints, self.host, self.tools)
        if self.deployment.server.join:
            plan = joined(plan, self.deployment.server.join)
        return hub.before(plan, fetch) if fetch.steps else plan

    @property
    def fetches_first(self) -> bool:
        """Whether the plan only fetches, and another one is to be made afterwards."""
        from backends import hub

        return hub.unfetched(self.checkpoints)


def host() -> Host:
    from console.telemetry.host import host as look

    return look()


def missing(deployment: Deployment) -> tuple[Role, ...]:
    """Roles of the route that need a checkpoint and have none."""
    roles = options.backend(deployment.backend).roles
    return tuple(r for r in roles if r.required and r.name not in deployment.checkpoints)


def prepare(settings: Settings, deployment: Deployment) -> Prepared:
    """Read the checkpoints and this host; runs nothing, writes nothing."""
    from backends import hub

    chosen = options.backend(deployment.backend)
    if empty := missing(deployment):
        raise UsageError(
            f"no checkpoint is chosen for: {', '.join(role.title for role in empty)}",
            why=f"{chosen.name} takes {len(chosen.roles)} checkpoints",
            fix=f'name it in the deployment: [checkpoints] {empty[0].name} = "PATH"',
        )
    values = options.bound(deployment).model_dump(mode="json", exclude_none=True)
    complete = deployment.model_copy(
        update={"options": values, "server": chosen.seat(server(settings, deployment), values)}
    )
    checkpoints = {role: checkpoint(settings, deployment, role) for role in deployment.checkpoints}
    # What a hub id stands for decides what is needed, not the id.
    located = {role: str(found.path) for role, found in checkpoints.items()}
    needed = (
        *hub.environments(complete, checkpoints),
        *chosen.needs(complete.model_copy(update={"checkpoints": located})),
    )
    needs = tuple({spec.name: spec for spec in needed}.values())
    asked = tools(
        settings,
        complete,
        needs,
        triton=not chosen.own_server(complete),
        scripts=chosen.scripts(complete),
    )
    return Prepared(complete, chosen, checkpoints, host(), needs, asked)


def server(settings: Settings, deployment: Deployment) -> ServerSection:
    """The deployment's server; of one that joins another's, that deployment's.

    Raises `UsageError` where that one has none of its own.
    """
    from console.desk import configure

    join = deployment.server.join
    if not join:
        return deployment.server
    host_server = configure.open_deployment(settings, join).server
    if join == deployment.name or host_server.join:
        raise UsageError(
            f"{clean(join)} has no server of its own to join",
            why=f"it joins {clean(host_server.join)}"
            if host_server.join
            else "it is this deployment",
            fix="name the deployment that started the server",
        )
    return host_server.model_copy(update={"join": join})


_READ: Answers[tuple[str, Key], Checkpoint] = Answers(fresh=3.0)
"""Script, verdicts and layout of one change in a form are asked for by three threads at once."""


def checkpoint(settings: Settings, deployment: Deployment, role: str) -> Checkpoint:
    """The facts of one checkpoint; of a hub id, of what an ended fetch has brought.

    Read once for all who ask within a moment and while it is unchanged. Raises `UsageError` for what
    cannot be read, fetched or not.
    """
    from console.checkpoints import hub
    from console.checkpoints.browse import identity
    from console.checkpoints.read import fetched, read

    text = deployment.checkpoints[role]
    ref = hub.parse(text)
    folder = settings.folders.work / deployment.name / "fetched"
    place = hub.fetched(ref, folder, role) if ref else None
    ask = partial(fetched, ref, place) if ref and place else partial(read, Path(text))
    known = identity(place or Path(text))
    return _READ.get((text, known), ask) if known else ask()


def fetches_first(settings: Settings, deployment: Deployment) -> bool:
    """Whether a run of it would only fetch; it is then deployed once more."""
    from backends import hub
    from console.checkpoints.hub import is_hub

    if not any(map(is_hub, deployment.checkpoints.values())):
        return False
    return hub.unfetched(
        {role: checkpoint(settings, deployment, role) for role in deployment.checkpoints}
    )


def plan(settings: Settings, deployment: Deployment) -> Plan:
    return prepare(settings, deployment).plan


def script(settings: Settings, deployment: Deployment) -> str:
    from console.planning.script import render

    return render(plan(settings, deployment))
