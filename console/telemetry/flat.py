"""A frozen reading as flat names and plain values, and back: what a recording keeps.

``gpus/0/memory_used`` → 123; ``gpus/#`` holds how many there are, so that an empty tuple and None differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import PurePath
from typing import Any

Plain = str | int | float | bool | None


def flatten(value: Any, prefix: str, into: dict[str, Plain]) -> None:
    """Put `value` (dataclasses, tuples, mappings, plain values) under `prefix`."""
    if value is None or isinstance(value, int | str | bool):
        into[prefix] = value
    elif isinstance(value, float):
        into[prefix] = rounded(value)
    elif isinstance(value, tuple):
        into[f"{prefix}/#"] = len(value)
        for index, item in enumerate(value):
            flatten(item, f"{prefix}/{index}", into)
    elif is_dataclass(value) and not isinstance(value, type):
        for name in _names(type(value)):
            flatten(getattr(value, name), f"{prefix}/{name}", into)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            flatten(item, f"{prefix}/{key}", into)
    elif isinstance(value, PurePath):
        into[prefix] = str(value)
    else:
        raise TypeError(f"{type(value).__name__} cannot be recorded")


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def rounded(value: float) -> float:
    """Milliseconds for times, six significant digits for the rest: more only takes room."""
    return round(value, 3) if abs(value) >= 1000 else float(f"{value:.6g}")


def nested(flat: Mapping[str, Plain]) -> dict[str, Any]:
    """Dictionaries and lists again; the caller validates them into its dataclasses."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split("/")
        here = tree
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = value
    listed = _listed(tree)
    assert isinstance(listed, dict)
    return listed


def _listed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if "#" in node:
        return [_listed(node.get(str(index))) for index in range(int(node["#"]))]
    return {key: _listed(item) for key, item in node.items()}
