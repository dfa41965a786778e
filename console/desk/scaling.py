"""Use case: an application on a Ray cluster: its nodes and replicas, and how many there are to be.

The process that keeps the application looks at the cluster every second and writes what it has seen;
a wish for other replicas is left for it as a file. So the cluster's token is needed nowhere else.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console import storage
from console.desk import acting, query, readonly
from console.facts import DeckError, Progress, UsageError
from console.settings import Settings
from console.text import clean, human_seconds, redact
from console.waiting import looks

if TYPE_CHECKING:
    from console.services.model import ServiceView

STATE, REQUEST = "cluster.json", "scale.json"
_HEARD = 30.0
"""Seconds within which a wish is heard."""
_PLACED = 900.0
"""Seconds that new replicas may take to load the model."""
_OLD = 15.0
_POLL = 0.3
_TRIES = 3
"""New replicas that may fail before one runs. Ray tries for ever where the application has run before."""
_STILL = 15.0
"""Seconds that Ray may start no replica of an unwell application: it waits up to four before it tries
again for the third time (source: ray 2.60, serve/_private/deployment_state.py)."""


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """One machine of the cluster. Percents as Ray's own agent there tells them, memory in bytes."""

    address: str
    hostname: str
    state: str
    """Ray's word: ``ALIVE``, ``DEAD``."""
    head: bool
    cpus: float
    """What it gives to the cluster, as `gpus`."""
    gpus: float
    cpu_percent: float | None
    gpu_percent: tuple[float | None, ...]
    memory_used: int
    memory_total: int


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy of the model. `state` is Serve's word: ``STARTING``, ``RUNNING``, ``STOPPING``."""

    id: str
    state: str
    node: str
    """Address of its node; empty while it waits for one."""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """An application and its cluster. `age` in seconds since it was seen."""

    status: str
    """Serve's word for the application: ``DEPLOYING``, ``RUNNING``, ``UNHEALTHY``, …"""
    message: str
    target: int
    """Replicas that are wanted."""
    replicas: tuple[Replica, ...]
    nodes: tuple[ClusterNode, ...]
    age: float
    old: bool
    """Whether that was too long ago to be relied on."""


def look(settings: Settings, name: str) -> ClusterView:
    """What the cluster of a deployment (or service) was last seen to be."""
    _, folder = _service(settings, name)
    return _view(folder)


def scale(
    settings: Settings, name: str, replicas: int, progress: Progress | None = None
) -> ClusterView:
    """Ask for so many replicas and wait until they all run.

    `DeckError` when the cluster refuses, when the application or its new replicas fail, when they do
    not run in time, or when the service ends.
    """
    readonly.require_writable(settings, "scale an application")
    if not 1 <= replicas <= 10_000:
        raise UsageError("replicas are 1 to 10000", fix="tritondeck stop takes them all away")
    view, folder = _service(settings, name)
    with acting.noted(settings, "scale", view.id, str(replicas)):
        asked = secrets.token_hex(8)
        storage.write_json(folder / REQUEST, {"id": asked, "replicas": replicas})
        _heard(folder, asked)
        return _placed(settings, view, folder, replicas, progress)


def _service(settings: Settings, name: str) -> tuple[ServiceView, Path]:
    from console.services.store import ServiceStore

    view = query.service(settings, name)
    work = ServiceStore(settings).values(view.id).get("work", "")
    folder = Path(work) / "ray"
    if not work or not (folder / STATE).is_file():
        raise UsageError(
            f"{clean(name)} is no application on a cluster",
            why="only deployments of the backend ray-serve have replicas",
        )
    if not view.living:
        raise UsageError(
            f"{clean(name)} is not served", why=view.reason, fix=f"tritondeck deploy {clean(name)}"
        )
    return view, folder


def _heard(folder: Path, asked: str) -> None:
    for _ in looks(_HEARD, _POLL):
        answer = (storage.read_json(folder / STATE) or {}).get("asked") or {}
        if answer.get("id") == asked:
            break
    else:
        raise DeckError(
            f"nobody heard the wish within {human_seconds(_HEARD)}",
            why="the process that keeps the application does not answer, or cannot reach the head",
            fix="read the service's log",
        )
    if answer.get("problem"):
        raise DeckError("the cluster does not scale it", why=_foreign(answer["problem"]))


def _placed(
    settings: Settings,
    service: ServiceView,
    folder: Path,
    replicas: int,
    progress: Progress | None,
) -> ClusterView:
    """Wait until exactly so many run."""
    until = time.monotonic() + _PLACED
    outlook = _Outlook(replicas)
    while True:
        found = _view(folder)
        running = sum(replica.state == "RUNNING" for replica in found.replicas)
        if running == replicas == len(found.replicas) == found.target:
            return found
        if progress:
            progress(f"{running} of {replicas} replicas run", min(1.0, running / replicas))
        now = query.service(settings, service.id)
        if not now.living:
            raise DeckError(
                f"{now.deployment} ended before all its replicas ran",
                why=now.reason or found.message,
                fix=f"read its log, then: tritondeck deploy {now.deployment}",
            )
        if lost := outlook.lost(found):
            raise DeckError(
                f"{running} of {replicas} replicas run: {lost}",
                why=found.message or "Ray does not say why",
                fix=f"read its log, correct that, then: tritondeck deploy {now.deployment}",
            )
        if time.monotonic() > until:
            raise DeckError(
                f"{running} of {replicas} replicas run",
                why=found.message or "Ray places a replica when a node has the GPUs and CPUs free",
                fix="join another node, or ask for fewer",
            )
        time.sleep(_POLL)


class _Outlook:
    """Whether what was asked for can still come, from one look at the cluster to the next."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        self.first = ""
        self.before: set[str] | None = None
        """Replicas that are older than the wish, which may be what takes them away."""
        self.starting: set[str] = set()
        self.failed = 0
        self.moved = time.monotonic()

    def lost(self, found: ClusterView) -> str:
        """Why not all of them will run; empty while they may."""
        self.first = self.first or found.status
        self._count(found)
        if any(one.state not in ("RUNNING", "STOPPED") for one in found.replicas) or found.old:
            self.moved = time.monotonic()
        # What was unwell before the wish may get well by it.
        if found.status in ("DELETING", "DEPLOY_FAILED") and found.status != self.first:
            return f"the application is {found.status}"
        if self.failed >= _TRIES:
            return f"{self.failed} new ones failed one after the other"
        unwell = found.status in ("UNHEALTHY", "DEPLOY_FAILED")
        if unwell and time.monotonic() - self.moved > _STILL:
            return f"the application is {found.status}, and Ray starts none"
        return ""

    def _count(self, found: ClusterView) -> None:
        """New replicas that were starting and have gone since, with none that ran between them."""
        if found.target != self.replicas:
            return
        if self.before is None:
            self.before = {one.id for one in found.replicas}
        new = {one.id: one.state for one in found.replicas if one.id not in self.before}
        self.failed += sum(
            new.get(id_, "STOPPED") in ("STOPPING", "STOPPED") for id_ in self.starting
        )
        if any(new.get(id_) == "RUNNING" for id_ in self.starting):
            self.failed = 0
        self.starting = {id_ for id_, state in new.items() if state == "STARTING"}


def _view(folder: Path) -> ClusterView:
    raw = storage.read_json(folder / STATE) or {}
    application = raw.get("application") or {}
    deployments = application.get("deployments") or []
    told = (application.get("message"), *(one.get("message") for one in deployments))
    age = max(0.0, time.time() - float(raw.get("time") or 0.0))
    return ClusterView(
        status=clean(str(application.get("status") or "not deployed yet")),
        message=_foreign("; ".join(str(words) for words in told if words)),
        target=sum(int(one.get("target") or 0) for one in deployments),
        replicas=tuple(
            Replica(clean(str(one["id"])), clean(str(one["state"])), clean(str(one["node"])))
            for deployment in deployments
            for one in deployment.get("replicas") or []
        ),
        nodes=tuple(_node(one) for one in raw.get("nodes") or []),
        age=age,
        old=age > _OLD,
    )


def _node(raw: dict[str, Any]) -> ClusterNode:
    return ClusterNode(
        address=clean(str(raw.get("address", ""))),
        hostname=clean(str(raw.get("hostname", ""))),
        state=clean(str(raw.get("state", ""))),
        head=bool(raw.get("head")),
        cpus=float(raw.get("cpus") or 0),
        gpus=float(raw.get("gpus") or 0),
        cpu_percent=_number(raw.get("cpu_percent")),
        gpu_percent=tuple(_number(one) for one in raw.get("gpu_percent") or []),
        memory_used=int(raw.get("memory_used") or 0),
        memory_total=int(raw.get("memory_total") or 0),
    )


def _foreign(words: object) -> str:
    """What Ray says, which may hold the environment and the command lines of its processes."""
    return redact(clean(str(words)))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
