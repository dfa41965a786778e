"""What the ONNX Runtime that will open the graph loads, from dated data."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from backends.environments import environment
from console import dated
from console.facts import ToolFacts
from console.planning.deployment import Deployment
from console.settings import folders

_PINNED = re.compile(r"^onnxruntime(?:-gpu)?==([0-9.]+)")


class Newest(BaseModel):
    """The newest opset and graph format (IR) that a version loads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    opset: Annotated[int, Field(ge=7)]
    ir: Annotated[int, Field(ge=3)]


class Catalog(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    checked: datetime.date
    source: str
    versions: dict[Annotated[str, Field(pattern=r"^\d+\.\d+$")], Newest]


def catalog(override: Path | None = None) -> Catalog:
    """The data, the operator's file laid over it. Raises `UsageError` that names file and key."""
    file = override or folders().config / "onnxruntime.toml"
    return dated.load(Catalog, "backends.catalog", "onnxruntime.toml", file)


def version(deployment: Deployment, tools: ToolFacts) -> str:
    """The version in the embedded server's environment: what is installed, else what its lock pins;
    empty where another launcher brings its own, or nothing says."""
    if deployment.server.launcher != "embedded":
        return ""
    facts = tools.environments.get("embedded")
    if facts is not None:
        return facts.packages.get("onnxruntime-gpu") or facts.packages.get("onnxruntime", "")
    pinned = filter(None, map(_PINNED.match, environment("embedded", deployment).requirements))
    return next((match[1] for match in pinned), "")


def newest(installed: str) -> Newest | None:
    """What a version loads for certain; None for one that is older than all that the data knows."""
    known = catalog().versions
    fits = [name for name in known if _numbers(name) <= _numbers(installed)]
    return known[max(fits, key=_numbers)] if fits else None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
