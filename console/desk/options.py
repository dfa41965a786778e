"""Use case: a backend's options as form fields, flags and validated values.

Everything is derived from the declarations in the backend's `Options`; no backend writes a widget
or a flag.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from console.desk.views import OptionField, OptionProblem
from console.facts import UsageError
from console.text import clean

if TYPE_CHECKING:
    from backends.base import Backend
    from console.planning.deployment import Deployment


def backend(name: str) -> Backend:
    """The backend called `name`; `UsageError` lists those that exist."""
    from backends import registry

    known = tuple(registry.names())
    if name not in known:
        raise UsageError(
            f"there is no backend called {clean(name)!r}",
            why=f"known backends: {', '.join(known)}",
            fix="set backend in the deployment file, or --backend",
        )
    return registry.get(name)


# ---------------------------------------------------------------------------- fields


def fields(options: type[BaseModel]) -> tuple[OptionField, ...]:
    """Every field in declaration order, fields of one group together."""
    found = [_field(name, info) for name, info in options.model_fields.items()]
    groups = list(dict.fromkeys(f.group for f in found))
    return tuple(sorted(found, key=lambda f: groups.index(f.group)))


def _field(name: str, info: FieldInfo) -> OptionField:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, Mapping) else {}
    plain, metadata = _unwrap(info.annotation, list(info.metadata))
    kind, choices = _kind(plain)
    minimum, maximum = _bounds(metadata)
    default = info.get_default(call_default_factory=True, validated_data={})
    return OptionField(
        name=name,
        title=info.title or name.replace("_", " ").capitalize(),
        help=info.description or "",
        group=str(extra.get("group", "General")),
        kind=kind,
        default=None if default is PydanticUndefined else _plain(default),
        choices=choices,
        minimum=minimum,
        maximum=maximum,
        unit=str(extra.get("unit", "")),
        flag=str(extra.get("flag", "")),
        launchers=_texts(extra.get("launchers")),
    )


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def _unwrap(annotation: Any, metadata: list[Any]) -> tuple[Any, list[Any]]:
    """Take `Annotated` and ``| None`` off a type, keeping the constraints found on the way."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *more = get_args(annotation)
            for item in more:
                metadata.extend(item.metadata if isinstance(item, FieldInfo) else [item])
        elif origin in (Union, types.UnionType):
            inner = [a for a in get_args(annotation) if a is not types.NoneType]
            if len(inner) != 1:
                return annotation, metadata
            annotation = inner[0]
        else:
            return annotation, metadata


def _kind(plain: Any) -> tuple[str, tuple[str, ...]]:
    origin = get_origin(plain)
    if origin is Literal:
        return "choice", tuple(str(choice) for choice in get_args(plain))
    if origin in (list, tuple, Sequence, set, frozenset):
        members = [a for a in get_args(plain) if a is not Ellipsis]
        return (
            ("int-list", ())
            if members == [int] or all(_unwrap(m, [])[0] is int for m in members)
            else ("text", ())
        )
    if isinstance(plain, type):
        if issubclass(plain, Enum):
            return "choice", tuple(str(member.value) for member in plain)
        for base, kind in ((bool, "bool"), (int, "int"), (float, "float"), (Path, "path")):
            if issubclass(plain, base):
                return kind, ()
    return "text", ()


def _bounds(metadata: Sequence[Any]) -> tuple[float | None, float | None]:
    """Inclusive bounds for a form; an exclusive one is shown as is and judged by pydantic."""

    def first(*names: str) -> float | None:
        for item in metadata:
            for name in names:
                if (value := getattr(item, name, None)) is not None:
                    return float(value)
        return None

    return first("ge", "gt"), first("le", "lt")


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(value)
    return value


# ---------------------------------------------------------------------------- values


def bound(deployment: Deployment) -> BaseModel:
    """The options as the backend's own model; `UsageError` names each wrong key."""
    chosen = backend(deployment.backend)
    try:
        return chosen.bind(deployment.options)
    except ValidationError as error:
        raise UsageError(
            f"wrong options for the backend {deployment.backend} in deployment {deployment.name}",
            why="; ".join(f"options.{p.field}: {p.message}" for p in _problems(error)),
            fix=f"tritondeck backends {deployment.backend} lists what each option takes",
        ) from error


def change(
    deployment: Deployment, changes: Mapping[str, Any]
) -> tuple[Deployment, tuple[OptionProblem, ...]]:
    """`deployment` with changed options, or unchanged with the problems."""
    chosen = backend(deployment.backend)
    known = {f.name: f for f in fields(chosen.Options)}
    unknown = tuple(
        OptionProblem(clean(name), f"no such option; options are {', '.join(known)}")
        for name in changes
        if name not in known
    )
    if unknown:
        return deployment, unknown
    merged = dict(deployment.options)
    for name, value in changes.items():
        parsed = parse(known[name], value) if isinstance(value, str) else value
        if parsed is None:
            merged.pop(name, None)
        else:
            merged[name] = parsed
    try:
        valid = chosen.bind(merged)
    except ValidationError as error:
        return deployment, _problems(error)
    dumped = valid.model_dump(mode="json")
    for name in changes:
        if name not in merged:
            continue
        if _plain(dumped[name]) == known[name].default and name not in deployment.options:
            del merged[name]
        else:
            merged[name] = dumped[name]
    return deployment.model_copy(update={"options": merged}), ()


def parse(field: OptionField, text: str) -> Any:
    """What a person typed, ready for pydantic; None means: the default.

    Numbers stay text where they are none, so that pydantic says what was expected.
    """
    text = text.strip()
    if not text:
        return "" if field.kind == "text" and field.default not in (None, "") else None
    if field.kind == "int-list":
        return [part for part in text.strip("[]()").replace(",", " ").split() if part]
    return text


def _problems(error: ValidationError) -> tuple[OptionProblem, ...]:
    found = []
    for item in error.errors(include_url=False):
        name = ".".join(str(part) for part in item["loc"]) or "(options)"
        got = (
            ""
            if isinstance(item["input"], Mapping)
            else f" (got {clean(repr(item['input']))[:60]})"
        )
        found.append(OptionProblem(clean(name), clean(item["msg"]) + got))
    return tuple(found)
