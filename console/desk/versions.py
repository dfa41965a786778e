"""Use case: the versions of a deployment's models, going back to one, taking all of them away."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from console import storage
from console.desk import acting, configure, readonly
from console.desk.views import VersionsView, VersionView
from console.facts import DeckError, Progress, Refused, UsageError
from console.settings import Settings, private_folder
from console.text import clean

if TYPE_CHECKING:
    from console.services.model import ServiceView
    from console.triton.versions import Version, Versions

_PATIENCE = 10.0


def look(settings: Settings, name: str) -> VersionsView:
    """What is on disk of the deployment's models, and which version answers."""
    return _view(settings, _known(settings, name))


def rollback(
    settings: Settings, name: str, version: int = 0, progress: Progress | None = None
) -> VersionsView:
    """See `Desk.rollback`."""
    from console.runs import again
    from console.triton import switching, versions

    readonly.require_writable(settings, f"roll {clean(name)} back")
    known = _known(settings, name)
    section = configure.open_deployment(settings, name).server
    if section.control == "none":
        raise Refused(
            f"{clean(name)} cannot be rolled back",
            why='[server] control = "none": its server loads what was deployed last when it starts',
            fix="deploy the earlier checkpoint and options again",
        )
    with acting.noted(settings, "rollback", name), _alone(settings, name):
        target = _target(known, version)
        server = serving(settings, known)
        if server is None:
            for model in target.models:
                versions.put(known.repository, model, target.number)
            return _view(settings, versions.now_live(_work(settings, name), known, target.number))
        if progress:
            progress(f"loading version {target.number} beside version {known.live}")
        live, limit = known.version(known.live), section.load_timeout
        switching.switch(server.endpoint, known.repository, live, target, limit)
        now = versions.now_live(_work(settings, name), known, target.number)
        try:
            answer = again.ask(settings, target.run, name, server)
        except DeckError as error:
            raise DeckError(
                f"version {target.number} of {name} answers again, but not as when it was verified",
                why=str(error),
                fix=f"tritondeck rollback {name} goes back to version {live.number}",
            ) from error
    return _view(settings, now, answer)


def _target(known: Versions, version: int) -> Version:
    number = version or known.previous
    there = ", ".join(str(one.number) for one in known.known)
    if not any(one.number == number for one in known.known):
        asked = f"no version {number}" if version else "no version to go back to"
        raise UsageError(
            f"{known.deployment} has {asked}",
            why=f"on disk: {there}; version {known.live} is live",
        )
    if number == known.live:
        raise UsageError(f"version {number} of {known.deployment} is live already", why=there)
    return known.version(number)


def remove(settings: Settings, name: str, progress: Progress | None = None) -> tuple[str, ...]:
    """See `Desk.remove`."""
    from console.triton import control, health, versions

    readonly.require_writable(settings, f"remove {clean(name)}")
    known = _known(settings, name)
    with _alone(settings, name):
        _refuse_needed(settings, known)
        models = known.all_models
        server = serving(settings, known)
        if server is not None:
            states = {e.name: e.state for e in health.index(server.endpoint)[0]}
            for model in reversed(models):
                if states.get(clean(model)) in ("READY", "LOADING"):
                    if progress:
                        progress(f"unloading {model}")
                    control.unload(server.endpoint, model)
        trash = private_folder(private_folder(settings.folders.state / "trash") / _stamped(name))
        for model in models:
            folder = known.repository / model
            if folder.is_dir():
                shutil.move(folder, trash / model)
        (_work(settings, name) / versions.FILE).replace(trash / versions.FILE)
    return models


def _refuse_needed(settings: Settings, known: Versions) -> None:
    from console.triton import versions

    needed = versions.needed_by(known.repository, known.all_models)
    if not needed:
        return
    owned = versions.owners(settings.folders.work, known.repository)
    whose = {model: owner for owner, found in owned.items() for model in found.all_models}
    users = sorted({user for names in needed.values() for user in names})
    words = [f"{u} of the deployment {whose[u]}" if u in whose else u for u in users]
    raise Refused(
        f"{known.deployment} cannot be removed: another model needs it",
        why=f"{clean(', '.join(words))} calls {clean(', '.join(sorted(needed)))}",
        fix="; ".join(f"tritondeck remove {whose[u]} first" for u in users if u in whose),
    )


def prune(settings: Settings, name: str, number: int) -> None:
    """Remove one version that is not live from the disk."""
    from console.triton import versions

    with _alone(settings, name):
        known = _known(settings, name)
        if number == known.live:
            raise Refused(f"version {number} of {clean(name)} is live")
        gone = known.version(number)
        left = tuple(one for one in known.known if one is not gone)
        previous = 0 if known.previous == number else known.previous
        versions.write(_work(settings, name), replace(known, known=left, previous=previous))
        for folder in folders_of(settings, known, gone):
            if folder.is_dir():
                shutil.rmtree(folder)


def folders_of(settings: Settings, known: Versions, version: Version) -> tuple[Path, ...]:
    """Everything that belongs to one version alone."""
    number = str(version.number)
    work = _work(settings, known.deployment)
    models = (known.repository / model / number for model in version.models)
    return (*models, work / "export" / number)


# ---------------------------------------------------------------------------- who serves it


def serving(settings: Settings, known: Versions) -> ServiceView | None:
    """The living server that has the deployment's models in its repository, its own or another's."""
    from console.services.model import ServiceState
    from console.services.store import ServiceStore

    for view in ServiceStore(settings).views():
        if view.repository == known.repository and view.state is ServiceState.RUNNING:
            return view
    return None


def host_of(settings: Settings, name: str) -> ServiceView | None:
    """The living server of another deployment that serves this one's models, and which ones."""
    from console.triton import versions

    known = versions.read(_work(settings, name))
    own = _work(settings, name) / "repository"
    if known is None or known.repository == own:
        return None
    host = serving(settings, known)
    return replace(host, models=known.models) if host else None


def guests(settings: Settings, name: str) -> tuple[str, ...]:
    """Other deployments whose models stand in the repository of this one."""
    from console.triton import versions

    inside = _work(settings, name)
    return tuple(
        found.deployment
        for found in versions.everything(settings.folders.work)
        if found.deployment != name and found.repository.is_relative_to(inside)
    )


# ---------------------------------------------------------------------------- helpers


def _known(settings: Settings, name: str) -> Versions:
    from console.triton import versions

    configure.file_of(settings, name)  # a name, and no path
    known = versions.read(_work(settings, name))
    if known is None:
        raise UsageError(
            f"{clean(name)} has no verified version",
            fix=f"tritondeck deploy {clean(name)} makes one",
        )
    return known


def _view(settings: Settings, known: Versions, answer: str = "") -> VersionsView:
    server = serving(settings, known)
    return VersionsView(
        deployment=known.deployment,
        live=known.live,
        previous=known.previous,
        versions=tuple(
            VersionView(one.number, one.models, one.run, one.verified, one.number == known.live)
            for one in known.known
        ),
        service=server.id if server else "",
        answer=answer,
    )


def _work(settings: Settings, name: str) -> Path:
    return settings.folders.work / name


def _stamped(name: str) -> str:
    return f"{name}-models-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**6}"


@contextmanager
def _alone(settings: Settings, name: str) -> Iterator[None]:
    """No run of the deployment goes on meanwhile, and none starts."""
    held = f"a run of {name} is being executed"
    # Patient: a runner may have told its end and not be gone yet.
    handle = storage.lock(_work(settings, name) / ".lock", held, _PATIENCE)
    try:
        yield
    finally:
        os.close(handle)
