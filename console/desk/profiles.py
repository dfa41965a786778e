"""Use case: a new deployment starts with what a profile of the settings says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from console.desk import options
from console.facts import UsageError
from console.planning.deployment import Deployment
from console.settings import Profile, Settings
from console.text import clean
from console.tomllines import line_of, problems


def chosen(settings: Settings, name: str = "") -> tuple[str, Profile]:
    """The named profile, else the one of the settings, else an empty one with no name."""
    name = name or settings.profile
    if not name:
        return "", Profile()
    if name not in settings.profiles:
        known = ", ".join(settings.profiles) or "none yet"
        raise UsageError(
            f"there is no profile {clean(name)!r}",
            why=f"profiles in {clean(str(settings.folders.settings_file))}: {clean(known)}",
            fix=f"add [profiles.{clean(name)}] there, or name one of them",
        )
    return name, settings.profiles[name]


def apply(settings: Settings, deployment: Deployment, name: str = "") -> Deployment:
    """`deployment` with the profile laid over it; errors name the settings file, key and line."""
    name, profile = chosen(settings, name)
    if not name:
        return deployment
    prefix = ("profiles", name)
    backend = options.backend(deployment.backend)
    mine = _own(settings, profile.options, deployment.backend, prefix)
    try:
        made = Deployment.model_validate(
            {
                **deployment.model_dump(mode="python"),
                "profile": name,
                "server": {**deployment.server.model_dump(exclude_unset=True), **profile.server},
                "environments": {**deployment.environments, **profile.environments},
                "options": {**deployment.options, **mine},
            }
        )
    except ValidationError as error:
        raise _wrong(settings, error, prefix) from error
    try:
        backend.bind(made.options)
    except ValidationError as error:
        raise _wrong(settings, error, (*prefix, "options")) from error
    return made


def _own(
    settings: Settings, wanted: Mapping[str, Any], backend: str, prefix: tuple[str, ...]
) -> dict[str, Any]:
    """The options that `backend` has; one that no backend has is an error."""
    own = options.backend(backend).Options.model_fields
    for key in wanted.keys() - own.keys():
        if not any(key in options.backend(other).Options.model_fields for other in _backends()):
            location = (*prefix, "options", key)
            line = line_of(_text(settings), location)
            raise UsageError(
                f"{clean(str(settings.folders.settings_file))}: line {line}, "
                f"{clean('.'.join(location))}: no backend has this option",
                fix=f"tritondeck backends {backend} lists its options",
            )
    return {key: value for key, value in wanted.items() if key in own}


def _backends() -> tuple[str, ...]:
    from backends.registry import names

    return tuple(names())


def _text(settings: Settings) -> str:
    return settings.folders.settings_file.read_text(encoding="utf-8")


def _wrong(settings: Settings, error: ValidationError, prefix: tuple[str, ...]) -> UsageError:
    shown = clean(str(settings.folders.settings_file))
    return UsageError(
        f"{shown}: the profile {clean(prefix[1])} does not fit",
        why="; ".join(problems(error, _text(settings), prefix)),
        fix="correct it there, or draft without this profile",
    )
