"""Use case: list and forget the deployments that are saved."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from console.desk import configure, readonly, versions
from console.desk.views import DeploymentView
from console.facts import DeckError, Refused, UsageError
from console.planning import deployment as files
from console.settings import Settings, private_folder
from console.text import clean

if TYPE_CHECKING:
    from console.runs.model import RunView
    from console.services.model import ServiceView


def deployments(settings: Settings) -> tuple[DeploymentView, ...]:
    """Every saved deployment with its newest run and service, its own or one that it went into."""
    from console.runs.store import RunStore
    from console.services.store import ServiceStore

    runs: dict[str, RunView] = {}
    for run in RunStore(settings).views():
        runs.setdefault(run.deployment, run)
    services: dict[str, ServiceView] = {}
    for service in ServiceStore(settings).views():
        services.setdefault(service.deployment, service)
    paths = configure.saved_files(settings)
    for name in (path.stem for path in paths):
        if name in services and services[name].living:
            continue
        if (host := versions.host_of(settings, name)) is not None:
            services[name] = host
    found = [(_changed(path, runs), _view(path, runs, services)) for path in paths]
    return tuple(view for _, view in sorted(found, key=lambda f: -f[0]))


def _changed(path: Path, runs: dict[str, RunView]) -> float:
    """When it was last saved or run, seconds since the epoch."""
    try:
        saved = path.stat().st_mtime
    except OSError:
        return 0.0  # it went away between listing and looking; `_view` says so
    run = runs.get(path.stem)
    return max(saved, run.started if run else 0.0)


def _view(path: Path, runs: dict[str, RunView], services: dict[str, ServiceView]) -> DeploymentView:
    name = path.stem
    run, service = runs.get(name), services.get(name)
    try:
        loaded = files.load(path)
        if loaded.name != name:
            raise configure.misnamed(loaded, path, path.read_text(encoding="utf-8"))
    except DeckError as error:
        return DeploymentView(clean(name), path, "", "", run, service, problem=str(error))
    checkpoint = loaded.checkpoints.get("model") or next(iter(loaded.checkpoints.values()), "")
    return DeploymentView(
        name,
        path,
        clean(checkpoint),
        loaded.backend,
        run,
        service,
        profile=clean(loaded.profile),
        trouble=_trouble(service),
    )


def _trouble(service: ServiceView | None) -> str:
    """What the server's supervisor has seen go wrong; nothing is asked."""
    from console.services import watch

    return "; ".join(watch.read(service.folder).problems) if service and service.living else ""


def forget(settings: Settings, name: str) -> None:
    """Move the file, the runs and the work folder to ``trash/<name>-<time>`` in the state folder."""
    from console.runs.store import RunStore
    from console.services.store import ServiceStore

    readonly.require_writable(settings, f"forget {name}")
    file = configure.file_of(settings, name)
    if not file.exists():
        raise UsageError(f"there is no deployment called {clean(name)!r}")
    runs = RunStore(settings).views(name)
    active = next((run for run in runs if run.active), None)
    if active:
        raise Refused(
            f"{name} is being built by run {active.id}",
            fix=f"tritondeck runs cancel {active.id}",
        )
    for service in ServiceStore(settings).views():
        if service.deployment == name and service.living:
            raise Refused(f"{name} is being served", fix=f"tritondeck stop {name}")
    if (host := versions.host_of(settings, name)) is not None:
        raise Refused(
            f"{name} is being served by the server of {host.deployment}",
            fix=f"tritondeck remove {name}",
        )
    if guests := versions.guests(settings, name):
        raise Refused(
            f"the models of {clean(', '.join(guests))} stand in the repository of {name}",
            fix="; ".join(f"tritondeck remove {clean(guest)}" for guest in guests),
        )
    trash = private_folder(settings.folders.state / "trash")
    target = private_folder(
        trash / f"{name}-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**6}"
    )
    for path in (*(run.folder for run in runs), settings.folders.work / name, file):
        if path.exists():
            path.rename(target / path.name)
