"""Use case: draft, open and save deployments."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from console.desk import options, profiles, readonly
from console.desk.inspect import accepted, inspect, routes
from console.facts import Level, Refused, UsageError
from console.planning import deployment as files
from console.planning.deployment import Deployment
from console.settings import Settings, private_folder
from console.text import clean

if TYPE_CHECKING:
    from console.checkpoints.model import Checkpoint


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
            known = ", ".join(view.stem for view in saved_files(settings)) or "none yet"
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
        raise misnamed(loaded, path, text)
    _validate_options(loaded, path, text)
    return loaded


def misnamed(loaded: Deployment, path: Path, text: str) -> UsageError:
    """What to say of a file that names another deployment than its own name does."""
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


def saved_files(settings: Settings) -> list[Path]:
    """The files of the saved deployments, by name."""
    try:
        return sorted(settings.folders.deployments.glob("*.toml"))
    except OSError as error:
        raise UsageError(
            f"cannot list {clean(str(settings.folders.deployments))}",
            why=error.strerror or str(error),
        ) from error
