"""Dated data: TOML (or JSON) that we ship, with an operator's file laid over it, validated when it is read."""

from __future__ import annotations

import json
import tomllib
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from console.facts import UsageError
from console.text import clean
from console.tomllines import problems

Model = TypeVar("Model", bound=BaseModel)


def load(model: type[Model], package: str, name: str, override: Path) -> Model:
    """The file `name` of `package`, `override` laid over it where that exists, as `model`.

    Tables are joined key by key; any other value of the override replaces the one below. Raises
    `UsageError` that names file, line and key. Taken apart again when the override says something
    else: two changes may have one time.
    """
    shown = clean(str(override))
    try:
        over = override.read_text(encoding="utf-8")
    except FileNotFoundError:
        return model.model_validate(_load(model, package, name, "", ""))
    except OSError as error:
        raise UsageError(f"cannot read {shown}", why=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {shown}", why=clean(str(error))) from error
    return model.model_validate(_load(model, package, name, shown, over))


@lru_cache(maxsize=32)
def _load(model: type[BaseModel], package: str, name: str, override: str, over: str) -> BaseModel:
    shown = f"{package.replace('.', '/')}/{name}"
    text = resources.files(package).joinpath(name).read_text(encoding="utf-8")
    raw = _parsed(text, shown)
    if override:
        shown, text = override, over
        raw = _laid_over(raw, _parsed(text, shown))
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise UsageError(
            f"{shown}: {error.error_count()} wrong value(s)", why="; ".join(problems(error, text))
        ) from error


def _parsed(text: str, shown: str) -> dict[str, Any]:
    kind = "JSON" if shown.endswith(".json") else "TOML"
    try:
        raw = json.loads(text) if kind == "JSON" else tomllib.loads(text)
    except ValueError as error:  # both decoders' errors are of this kind
        raise UsageError(f"{shown}: not valid {kind}", why=clean(str(error))) from error
    if not isinstance(raw, dict):
        raise UsageError(f"{shown}: not an object", why=f"its top level is a {type(raw).__name__}")
    return raw


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    joined = dict(below)
    for key, value in above.items():
        under = joined.get(key)
        both = isinstance(under, dict) and isinstance(value, dict)
        joined[key] = _laid_over(under, value) if both else value  # type: ignore[arg-type]
    return joined
