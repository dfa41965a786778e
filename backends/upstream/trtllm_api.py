"""Arguments of NeMo's TensorRT-LLM classes, generation by generation."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from backends.upstream import generations
from console import dated
from console.settings import folders

Call = Literal["init", "export", "deploy", "prompt_tables"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(Frozen):
    """The generations that take an argument; empty ends are open."""

    first: str = ""
    last: str = ""


class Catalog(Frozen):
    """``catalog/trtllm_api.toml``."""

    date: datetime.date
    source: str
    modules: dict[Literal["export", "deploy"], dict[Literal["nemo", "ed"], str]]
    init: dict[str, Span]
    export: dict[str, Span]
    deploy: dict[str, Span]
    prompt_tables: dict[str, Span]


def catalog(override: Path | None = None) -> Catalog:
    """Raises `UsageError` that names file, line and key."""
    file = override or folders().config / "trtllm_api.toml"
    return dated.load(Catalog, "backends.catalog", "trtllm_api.toml", file)


def module(what: Literal["export", "deploy"], generation: str) -> str:
    """The module that holds ``TensorRTLLM`` (export) or ``DeployPyTriton`` (deploy)."""
    return catalog().modules[what]["ed" if generation.startswith("ed-") else "nemo"]


def inside(span: Span, generation: str) -> bool:
    """Whether `generation` lies in `span`."""
    order = list(generations.catalog().generations)
    at = order.index(generation)
    first = order.index(span.first) if span.first else 0
    last = order.index(span.last) if span.last else len(order)
    return first <= at <= last


def takes(call: Call, argument: str, generation: str) -> bool:
    """Whether `call` of `generation` has `argument`."""
    span: Span | None = getattr(catalog(), call).get(argument)
    return span is not None and inside(span, generation)


def split(
    call: Call, wanted: Mapping[str, Any], generation: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`wanted` as far as `call` takes it, and the names that it does not take."""
    taken = {name: value for name, value in wanted.items() if takes(call, name, generation)}
    return taken, tuple(name for name in wanted if name not in taken)
