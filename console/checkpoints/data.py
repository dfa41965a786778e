"""YAML and JSON of a checkpoint as plain data: capped, never executed, never expanded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

YAML_CAP = 4 * 1024 * 1024
"""Bytes of a configuration; vocabulary lists make real ones 100 to 500 kB."""
JSON_CAP = 64 * 1024 * 1024
MAX_DEPTH = 100
MAX_NODES = 1_000_000
_SUSPICIOUS = 200
"""Columns or brackets below which a document cannot be nested deeply."""


class BadData(Exception):
    """Not YAML or JSON that we read; the text says why, in one line."""


class _Loader(yaml.CSafeLoader):
    """`CSafeLoader` without merge keys: each level of ``<<: [*a, *a]`` doubles the work."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise BadData("it uses YAML merge keys, which NeMo never writes")
            if key.tag == "tag:yaml.org,2002:value":
                key.tag = "tag:yaml.org,2002:str"


def load_yaml(text: bytes) -> Mapping[str, Any]:
    """One YAML mapping of plain values. Raises `BadData`."""
    if len(text) > YAML_CAP:
        raise BadData(f"it is larger than {YAML_CAP} bytes")
    try:
        _refuse_depth(text)
        value = yaml.load(text, _Loader)
        if b"&" in text and b"*" in text:
            _expanded(value, {}, frozenset())
    except yaml.YAMLError as error:
        raise BadData(_first_line(error)) from error
    # PyYAML's own constructors raise these on `!!int ""`, `!!bool x`, `!!timestamp x`, 2001-99-99
    # and numbers of thousands of digits.
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise BadData("it holds a value that is not valid YAML") from error
    return _mapping(value)


def load_json(text: bytes) -> Mapping[str, Any]:
    """One JSON object. Raises `BadData`."""
    if len(text) > JSON_CAP:
        raise BadData(f"it is larger than {JSON_CAP} bytes")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadData(_first_line(error)) from error
    return _mapping(value)


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadData("it is not a mapping of names to values")
    return (
        value if all(isinstance(k, str) for k in value) else {str(k): v for k, v in value.items()}
    )


def _refuse_depth(text: bytes) -> None:
    """libyaml's composer recurses in C: some 20,000 levels end the process without an exception.

    A block level takes a column more (two with a sequence in a mapping), a flow level a bracket. So
    only documents with long lines or many brackets need the pass over events, which is flat.
    """
    brackets = text.count(b"[") + text.count(b"{")
    if brackets <= _SUSPICIOUS and max(map(len, text.split(b"\n"))) <= _SUSPICIOUS:
        return
    depth = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise BadData(f"it is nested more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _expanded(value: object, known: dict[int, int], above: frozenset[int]) -> int:
    """How many values there are once aliases are written out; refuses bombs and cycles."""
    if not isinstance(value, dict | list | set):
        return 1
    if id(value) in above:
        raise BadData("it refers to itself")
    if id(value) not in known:
        inner = above | {id(value)}
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_expanded(part, known, inner) for part in parts)
    if known[id(value)] > MAX_NODES:
        raise BadData("its aliases expand to more than a million values")
    return known[id(value)]


def _first_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f" (line {mark.line + 1})" if mark is not None else ""
    return (getattr(error, "problem", None) or str(error).split("\n", 1)[0]) + where


# ------------------------------------------------------------------ values of unknown type


def section(config: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """A nested mapping, empty where there is none."""
    here: object = config
    for key in keys:
        here = here.get(key) if isinstance(here, Mapping) else None
    return here if isinstance(here, Mapping) else {}


def text(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    return value if isinstance(value, str) else ""


def whole(config: Mapping[str, Any], key: str, default: int = 0) -> int:
    """A positive integer below 2**53, else `default`."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**53:
        return default
    return value


def number(config: Mapping[str, Any], key: str, default: float) -> float:
    """A positive finite number, else `default`."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        return default
    return float(value)


def items(config: Mapping[str, Any], key: str) -> list[Any]:
    value = config.get(key)
    return value if isinstance(value, list) else []
