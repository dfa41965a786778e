"""Use case: draft, open, save, list and forget deployments."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from console.desk import options, profiles, readonly
from console.desk.inspect import accepted, inspect, routes
from console.desk.views import DeploymentView
from console.facts import DeckError, Level, Refused, UsageError
from console.planning import deployment as files
from console.planning.deployment import Deployment
from console.settings import Settings, private_folder
from console.text import clean

if TYPE_CHECKING:
    from console.checkpoints.model import Checkpoint
    from console.runs.model import RunView
    from console.services.model import ServiceView

LIVING = frozenset({"starting", "running", "stopping"})
"""States of a service whose process may still be there."""


def draft(
    settings: Settings, checkpoint: Path, backend: str = "", name: str = "", profile: str = ""
) -> Deployment:
    """A deployment for the checkpoint; the first accepting backend when none is named."""
    profiles.chosen(settings, profile)  # a wrong name before the checkpoint is read
    from console.checkpoints import hub
    from console.telemetry.host import host

    found = {"model": inspect(checkpoint)}
    ref = found["model"].hub
    # A hub id stays one although its files may be here: the plan fetches what is missing.
    named = hub.words(ref) if ref else str(found["model"].path)
    chosen = options.backend(backend or _first_route(found))
    role, _ = accepted(chosen, found)
    suggested = chosen.suggest({role: found["model"]}, host())
    try:
        made = Deployment(
            name=name or _free_name(settings, Path(named)),
            backend=chosen.name,
            checkpoints={role: named},
            options=suggested.model_dump(mode="json", exclude_defaults=True, exclude_none=True),
        )
    except ValidationError as error:
        raise UsageError(
            f"{clean(name)!r} cannot be a deployment's name",
            why="; ".join(clean(item["msg"]) for item in error.errors(include_url=False)),
        ) from error
    return profiles.apply(settings, made, profile)


def _first_route(found: dict[str, Checkpoint]) -> str:
    from console.checkpoints.model import Format

    answers = routes(found)
    fits = {Level.PASS, Level.WARN}
    if found["model"].format is Format.HUB:
        fits.add(Level.UNKNOWN)  # no route can say more before the fetch
    for route in answers:
        if route.verdict.level in fits:
            return route.name
    raise Refused(
        f"no backend takes {found['model'].title}",
        why="; ".join(f"{r.name}: {r.verdict.summary}" for r in answers),
        fix=next((r.verdict.fix for r in answers if r.verdict.fix), ""),
    )


def _free_name(settings: Settings, path: Path) -> str:
    """A name made from the file's, not taken by a saved deployment of another checkpoint."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-_")[:100].lower() or "model"
    name, number = stem, 2
    while (saved := settings.folders.deployments / f"{name}.toml").exists():
        try:
            if str(path) in files.load(saved).checkpoints.values():
                break
        except UsageError:
            pass  # unreadable, and therefore somebody's: take the next name
        name, number = f"{stem}-{number}", number + 1
    return name


# ---------------------------------------------------------------------------- files


def file_of(settings: Settings, name: str) -> Path:
    """Where the deployment `name` is saved; `UsageError` for what cannot be a name."""
    try:
        files.check_name(name)
    except ValueError as error:
        raise UsageError(f"{clean(name)!r} is not a deployment's name", why=str(error)) from error
    return settings.folders.deployments / f"{name}.toml"


def is_file(settings: Settings, name_or_file: str) -> bool:
    """Whether the operator means a path: it has a slash, or ends in ``.toml`` and no saved
    deployment is called that."""
    if "/" in name_or_file:
        return True
    saved = settings.folders.deployments / f"{name_or_file}.toml"
    return name_or_file.endswith(".toml") and not saved.exists()


def open_deployment(settings: Settings, name_or_file: str) -> Deployment:
    """Load and validate, options too; every error names file, key, line and what was expected."""
    if "\0" in name_or_file:
        raise UsageError(f"{clean(name_or_file)!r} is neither a name nor a path")
    if is_file(settings, name_or_file):
        path = files.at_home(Path(name_or_file)).absolute()
    else:
        path = file_of(settings, name_or_file)
        if not path.exists():
            known = ", ".join(view.stem for view in _saved(settings)) or "none yet"
            raise UsageError(
                f"there is no deployment called {clean(name_or_file)!r}",
                why=f"saved deployments: {known}",
                fix="name one of them, or give the path of a deployment file",
            )
    loaded = files.load(path)
    if is_file(settings, name_or_file):
        _validate_options(loaded, path, path.read_text(encoding="utf-8"))
        return loaded
    return validated(loaded, path, path.read_text(encoding="utf-8"))


def validated(loaded: Deployment, path: Path, text: str) -> Deployment:
    """A saved deployment whose name is its file's and whose options its backend takes."""
    if loaded.name != path.stem:
        raise _misnamed(loaded, path, text)
    _validate_options(loaded, path, text)
    return loaded


def _misnamed(loaded: Deployment, path: Path, text: str) -> UsageError:
    line = files.line_of(text, ("name",))
    return UsageError(
        f"{clean(str(path))}: line {line}, name: expected {path.stem}, as the file is called",
        why=f"it says {loaded.name}",
        fix="rename the file, or correct the name in it",
    )


def _validate_options(loaded: Deployment, path: Path, text: str) -> None:
    shown = clean(str(path))
    try:
        options.backend(loaded.backend).bind(loaded.options)
    except ValidationError as error:
        raise UsageError(
            f"{shown}: {error.error_count()} wrong option(s)",
            why="; ".join(files.problems(error, text, prefix=("options",))),
            fix=f"tritondeck backends {loaded.backend} lists what each option takes",
        ) from error
    except UsageError as error:
        line = files.line_of(text, ("backend",))
        raise UsageError(f"{shown}: line {line}, backend: {error.title}", why=error.why) from error


def save(settings: Settings, deployment: Deployment, file: Path | None = None) -> Path:
    """Write to `file`, or to the deployment's place among the saved ones."""
    from console.desk import tomlfile

    readonly.require_writable(settings, "save a deployment")
    if file is None:
        private_folder(settings.folders.state)
        private_folder(settings.folders.deployments)
        file = file_of(settings, deployment.name)
    tomlfile.write(deployment, files.at_home(file))
    return file


# ---------------------------------------------------------------------------- list


def _saved(settings: Settings) -> list[Path]:
    try:
        return sorted(settings.folders.deployments.glob("*.toml"))
    except OSError as error:
        raise UsageError(
            f"cannot list {clean(str(settings.folders.deployments))}",
            why=error.strerror or str(error),
        ) from error


def deployments(settings: Settings) -> tuple[DeploymentView, ...]:
    """Every saved deployment with its newest run and service, its own or one that it went into."""
    from console.desk import versions
    from console.runs.store import RunStore
    from console.services.store import ServiceStore

    runs: dict[str, RunView] = {}
    for run in RunStore(settings).views():
        runs.setdefault(run.deployment, run)
    services: dict[str, ServiceView] = {}
    for service in ServiceStore(settings).views():
        services.setdefault(service.deployment, service)
    for name in (path.stem for path in _saved(settings)):
        if name in services and services[name].living:
            continue
        if (host := versions.host_of(settings, name)) is not None:
            services[name] = host
    found = [(_changed(path, runs), _view(path, runs, services)) for path in _saved(settings)]
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
            raise _misnamed(loaded, path, path.read_text(encoding="utf-8"))
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
    from console.desk import versions
    from console.runs.store import RunStore
    from console.services.store import ServiceStore

    readonly.require_writable(settings, f"forget {name}")
    file = file_of(settings, name)
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
        if service.deployment == name and service.state.value in LIVING:
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
