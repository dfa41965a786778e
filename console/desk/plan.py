"""Use case: from a deployment to its plan and its script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from console.desk import options
from console.facts import EnvironmentFacts, Host, ToolFacts
from console.settings import Settings

if TYPE_CHECKING:
    from backends.base import Backend
    from console.checkpoints.model import Checkpoint
    from console.planning.deployment import Deployment
    from console.planning.plan import EnvironmentSpec, Plan
    from console.runtimes.environments import Environments


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
        return hub.before(plan, fetch) if fetch.steps else plan

    @property
    def fetches_first(self) -> bool:
        """Whether the plan only fetches, and another one is to be made afterwards."""
        from backends import hub

        return hub.unfetched(self.checkpoints)


def host() -> Host:
    from console.telemetry.host import host as look

    return look()


def prepare(settings: Settings, deployment: Deployment) -> Prepared:
    """Read the checkpoints and this host; runs nothing, writes nothing."""
    from backends import hub

    chosen = options.backend(deployment.backend)
    values = options.bound(deployment).model_dump(mode="json", exclude_none=True)
    complete = deployment.model_copy(update={"options": values})
    checkpoints = {role: checkpoint(settings, deployment, role) for role in deployment.checkpoints}
    # What a hub id stands for decides what is needed, not the id.
    located = {role: str(found.path) for role, found in checkpoints.items()}
    needed = (
        *hub.environments(complete, checkpoints),
        *chosen.needs(complete.model_copy(update={"checkpoints": located})),
    )
    needs = tuple({spec.name: spec for spec in needed}.values())
    return Prepared(complete, chosen, checkpoints, host(), needs, tools(settings, needs))


def checkpoint(settings: Settings, deployment: Deployment, role: str) -> Checkpoint:
    """The facts of one checkpoint; of a hub id, of what an ended fetch has brought.

    Raises `UsageError` for what cannot be read, fetched or not.
    """
    from console.checkpoints import hub
    from console.checkpoints.read import fetched, read

    text = deployment.checkpoints[role]
    ref = hub.parse(text)
    folder = settings.folders.work / deployment.name / "fetched"
    place = hub.fetched(ref, folder, role) if ref else None
    return fetched(ref, place) if ref and place else read(Path(text))


def fetches_first(settings: Settings, deployment: Deployment) -> bool:
    """Whether a run of it would only fetch; it is then deployed once more."""
    from backends import hub
    from console.checkpoints.hub import is_hub

    if not any(map(is_hub, deployment.checkpoints.values())):
        return False
    return hub.unfetched(
        {role: checkpoint(settings, deployment, role) for role in deployment.checkpoints}
    )


def tools(settings: Settings, needs: tuple[EnvironmentSpec, ...]) -> ToolFacts:
    """What is installed where it is installed already; what will be there where it is not."""
    from console.runtimes.environments import Environments
    from console.triton import embedded as server

    environments = Environments(settings)
    ready = {spec.name: _facts(environments, spec) for spec in needs if environments.ready(spec)}
    embedded = any(spec.name == "embedded" for spec in needs)
    return ToolFacts(
        environments=ready,
        triton_version=server.VERSION if embedded else "",
        triton_backends=server.TRITON_BACKENDS if embedded else frozenset(),
    )


_FACTS: dict[tuple[Path, int], EnvironmentFacts] = {}
"""What environments answered. Asking one takes 0.2 s, and a form asks at each key press."""


def _facts(environments: Environments, spec: EnvironmentSpec) -> EnvironmentFacts:
    """Ask the environment unless nothing was installed or removed since it was asked."""
    folder = environments.folder(spec)
    changed = max(
        (p.stat().st_mtime_ns for p in folder.glob("lib/python3*/site-packages")), default=0
    )
    if (folder, changed) not in _FACTS:
        _FACTS[folder, changed] = environments.facts(spec)
    return _FACTS[folder, changed]


def plan(settings: Settings, deployment: Deployment) -> Plan:
    return prepare(settings, deployment).plan


def script(settings: Settings, deployment: Deployment) -> str:
    from console.planning.script import render

    return render(plan(settings, deployment))
