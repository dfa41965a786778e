"""Use case: everything that is to be said of one server now, asked once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from console.desk import attached, query, versions
from console.desk.views import ContainerView, ServerView
from console.facts import UsageError
from console.services import lifecycle, watch
from console.services.lifecycle import Lifecycle, Phase
from console.services.model import ServiceState, ServiceView

if TYPE_CHECKING:
    from console.settings import Settings


def server(settings: Settings, name_or_id: str, deployment: str = "") -> ServerView:
    """See `Desk.server`."""
    view = query.service(settings, name_or_id)
    if name_or_id.startswith(attached.PREFIX):
        return _attached(view)
    known = None
    try:
        known = versions.look(settings, deployment or view.deployment)
    except UsageError:
        pass  # nothing of it was verified yet, or its deployment is forgotten
    tunnel = query.forwarding(view.endpoint) if view.living else ""
    container = _container(view)
    if not view.living or view.state is ServiceState.RESTARTING:
        life = lifecycle.lifecycle(view, None)
        return ServerView(view, life, versions=known, container=container, tunnel=tunnel)
    health = query.health(view.endpoint)
    if health.live and not view.endpoint.ours:
        watch.refresh(view.folder)
    life = lifecycle.lifecycle(view, health)
    return ServerView(view, life, health, known, container, tunnel, _controlled(view))


def _attached(view: ServiceView) -> ServerView:
    """A server that is watched alone: what it says of itself, for nothing is kept of it here."""
    if view.endpoint.url.startswith("grpc"):
        words = "it is watched over gRPC: the monitor shows its figures"
        return ServerView(view, Lifecycle(Phase.FOREIGN, words), watched=True)
    health = query.health(view.endpoint)
    if not health.live:
        return ServerView(view, Lifecycle(Phase.DEGRADED, health.problem), health, watched=True)
    view = replace(view, models=tuple(dict.fromkeys(model.name for model in health.models)))
    life = lifecycle.lifecycle(view, health)
    tunnel = query.forwarding(view.endpoint)
    control = view.endpoint.manage
    return ServerView(view, life, health, tunnel=tunnel, control=control, watched=True)


def _container(view: ServiceView) -> ContainerView | None:
    """What it runs in; None for a process of this host."""
    from console.planning.plan import image_variable
    from console.runtimes import containers
    from console.services import record

    found = containers.look(view.folder)
    if found is None:
        return None
    kept = record.load(view.folder)
    command = kept.spec.command
    image = kept.values.get(image_variable(command.image), "") if command else ""
    return ContainerView(
        found.record.engine,
        found.record.name,
        image,
        found.following.id,
        found.following.unreachable,
        found.following.oom_kills,
    )


def _controlled(view: ServiceView) -> bool:
    """A server of ours takes such requests only with its token; another's when it was allowed."""
    end = view.endpoint
    return end.token_file is not None if end.ours else end.manage
