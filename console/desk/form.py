"""Use case: everything of a deployment that a form can change, by dotted key.

Options of the backend keep their bare names; ``server.…`` and ``environments.NAME.…`` are the
deployment's own sections. All fields come from declarations, as the options do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from console.desk import options
from console.desk.views import OptionField, OptionProblem
from console.planning.deployment import Deployment, EnvironmentChoice, ServerSection
from console.text import clean
from console.triton import releases

if TYPE_CHECKING:
    from pydantic import BaseModel

    from backends.base import Backend

_KINDS = {"server.join": "choice"}
"""Kinds that only this machine can tell: which servers run here."""
_FIRST = ("server.launcher", "server.join")


def fields(deployment: Deployment, servers: Iterable[str] = ()) -> tuple[OptionField, ...]:
    """Those of `every` that matter for the chosen launcher, or for joining another's server, which
    leaves nothing else of the section to choose. `servers`: deployments whose server can be joined.
    """
    chosen = deployment.server
    choices = {
        "server.join": tuple(dict.fromkeys(("", *servers, chosen.join))),
        "server.image": releases.tags(),
    }
    shown = [
        replace(field, kind=_KINDS.get(field.name, field.kind), choices=choices[field.name])
        if field.name in choices
        else field
        for field in every(deployment)
        if not field.name.startswith("server.") or _matters(field, chosen)
    ]
    places = [n for n, field in enumerate(shown) if field.name.startswith("server.")]
    for place, field in zip(places, sorted((shown[n] for n in places), key=_place), strict=True):
        shown[place] = field
    return tuple(shown)


def _matters(field: OptionField, chosen: ServerSection) -> bool:
    if chosen.join:
        return field.name in _FIRST
    return not field.launchers or chosen.launcher in field.launchers


def _place(field: OptionField) -> int:
    """What is chosen first, what only this launcher has, and what every launcher has."""
    if field.name in _FIRST:
        return _FIRST.index(field.name)
    return len(_FIRST) + (not field.launchers or len(field.launchers) > 2)


def every(deployment: Deployment) -> tuple[OptionField, ...]:
    """The roles of a route with several, the backend's options in form order, then the server's,
    then those of each environment."""
    chosen = options.backend(deployment.backend)
    needs = chosen.needs(deployment)
    environments = dict.fromkeys((*(spec.name for spec in needs), *deployment.environments))
    return (
        *(_checkpoints(chosen) if len(chosen.roles) > 1 else ()),
        *options.fields(chosen.Options),
        *_section(ServerSection, "server", "Server"),
        *(
            replace(field, kind="path")
            for name in environments
            for field in _section(
                EnvironmentChoice, f"environments.{name}", f"Environment {clean(name)}"
            )
        ),
    )


def _checkpoints(backend: Backend) -> Iterator[OptionField]:
    """One field a role."""
    for role in backend.roles:
        needed = "needed" if role.required else "may stay empty"
        yield OptionField(
            f"checkpoints.{role.name}",
            clean(role.title),
            f"One of the checkpoints that this route takes ({needed}): a path or a hub id.",
            "Checkpoints",
            "checkpoint",
            None,
        )


def _section(section: type[BaseModel], prefix: str, group: str) -> Iterator[OptionField]:
    for field in options.fields(section):
        yield replace(field, name=f"{prefix}.{field.name}", group=group)


def values(deployment: Deployment) -> dict[str, Any]:
    """What each field of `fields` holds now; an environment that nobody chose is all defaults."""
    found: dict[str, Any] = options.bound(deployment).model_dump(mode="json")
    for role, path in deployment.checkpoints.items():
        found[f"checkpoints.{role}"] = path
    for key, value in deployment.server.model_dump(mode="json").items():
        found[f"server.{key}"] = value
    for name, choice in deployment.environments.items():
        for key, value in choice.model_dump(mode="json").items():
            found[f"environments.{name}.{key}"] = value
    return found


def change(
    deployment: Deployment, changes: Mapping[str, Any]
) -> tuple[Deployment, tuple[OptionProblem, ...]]:
    """`deployment` with changed fields (texts are parsed), or unchanged with every problem."""
    mine = {name: value for name, value in changes.items() if "." not in name}
    sections = {name: value for name, value in changes.items() if "." in name}
    changed, wrong = options.change(deployment, mine) if mine else (deployment, ())
    changed, more = _sections(changed, sections) if sections else (changed, ())
    problems = (*wrong, *more)
    return (deployment if problems else changed), problems


def _sections(
    deployment: Deployment, changes: Mapping[str, Any]
) -> tuple[Deployment, tuple[OptionProblem, ...]]:
    roles = _checkpoints(options.backend(deployment.backend))
    known = {field.name: field for field in (*roles, *every(deployment))}
    raw = deployment.model_dump(mode="python", exclude_unset=True)
    for name, value in changes.items():
        if name not in known:
            return deployment, (OptionProblem(clean(name), "there is no such key"),)
        place = raw
        *sections, key = name.split(".")
        for section in sections:
            place = place.setdefault(section, {})
        parsed = options.parse(known[name], value) if isinstance(value, str) else value
        if parsed is None:
            place.pop(key, None)
        else:
            place[key] = parsed
    try:
        return Deployment.model_validate(_tidy(raw)), ()
    except ValidationError as error:
        return deployment, tuple(_problems(error, changes))


def _tidy(raw: dict[str, Any]) -> dict[str, Any]:
    """Without the environments that nothing was chosen for."""
    chosen = {n: c for n, c in raw.get("environments", {}).items() if any(c.values())}
    return {**{k: v for k, v in raw.items() if k != "environments"}, "environments": chosen}


def _problems(error: ValidationError, changes: Mapping[str, Any]) -> Iterator[OptionProblem]:
    """One problem a field; one of a whole section stands at the field of it that was changed."""
    for item in error.errors(include_url=False):
        name = ".".join(str(part) for part in item["loc"])
        if name not in changes:
            name = next((key for key in changes if key.startswith(f"{name}.")), name)
        message = item["msg"].removeprefix("Value error, ")
        yield OptionProblem(clean(name), clean(message))
