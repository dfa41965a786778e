"""Arguments of NeMo's multimodal exporter and of its Hydra script, generation by generation."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from backends.upstream.trtllm_api import Span, inside
from console import dated
from console.settings import folders

Call = Literal["init", "export", "hydra"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Language(Frozen):
    """Where the language model comes from in early generations: model type to the last of them."""

    ignored: dict[str, str]
    """Built from the visual checkpoint whatever else is named."""
    needed: dict[str, str]
    """Built from the language checkpoint alone, which must be named."""


class Catalog(Frozen):
    """``catalog/multimodal.toml``."""

    date: datetime.date
    source: str
    modules: dict[Literal["export", "client"], dict[Literal["nemo", "ed"], str]]
    init: dict[str, Span]
    export: dict[str, Span]
    hydra: dict[str, Span]
    language: Language


def catalog(override: Path | None = None) -> Catalog:
    """Raises `UsageError` that names file, line and key."""
    file = override or folders().config / "multimodal.toml"
    return dated.load(Catalog, "backends.catalog", "multimodal.toml", file)


def module(what: Literal["export", "client"], generation: str) -> str:
    """The module that holds ``TensorRTMMExporter`` (export) or ``NemoQueryMultimodal`` (client)."""
    return catalog().modules[what]["ed" if generation.startswith("ed-") else "nemo"]


def split(
    call: Call, wanted: Mapping[str, Any], generation: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`wanted` as far as `call` takes it, and the names that it does not take."""
    known: dict[str, Span] = getattr(catalog(), call)
    taken = {n: v for n, v in wanted.items() if n in known and inside(known[n], generation)}
    return taken, tuple(name for name in wanted if name not in taken)


def language(what: Literal["ignored", "needed"], kind: str, generation: str) -> bool:
    """Whether the language checkpoint of a model type is `what` in `generation`."""
    last = getattr(catalog().language, what).get(kind, "")
    return bool(last) and inside(Span(last=last), generation)
