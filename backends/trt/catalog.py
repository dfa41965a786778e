"""What each trtexec takes and which TensorRT an image carries, from dated data."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from backends.language.trtllm_catalog import Span, numbers
from console import dated
from console.planning.plan import Pattern
from console.settings import folders
from console.triton import releases

Program = Literal["trtexec", "polygraphy"]
Version = Annotated[str, Field(pattern=r"^\d+(\.\d+){1,3}$")]
Flag = Annotated[str, Field(pattern=r"^--[A-Za-z0-9-]+$")]
Tag = Annotated[str, Field(pattern=r"^\d\d\.\d\d$")]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Types(_Data):
    """Types of inputs and outputs from the version `first` on, and what others become."""

    first: Version
    takes: frozenset[str]
    becomes: dict[str, str]
    source: str


class Catalog(_Data):
    date: datetime.date
    source: str
    images_source: str
    versions: Annotated[tuple[Version, ...], Field(min_length=1)]
    repository: str
    suffix: str
    progress: Pattern
    passed: Pattern
    programs: dict[str, str]
    types: Annotated[tuple[Types, ...], Field(min_length=1)]
    values: dict[Flag, dict[str, Span]]
    flags: dict[Program, dict[Flag, Span]]
    images: dict[Tag, Version]

    def takes(self, program: Program, flag: str, version: str) -> bool:
        """Whether `program` of TensorRT `version` has `flag`; an unknown version is the newest."""
        span = self.flags[program].get(flag)
        return span is not None and span.holds(version)

    def takes_value(self, flag: str, value: str, version: str) -> bool:
        """Whether a value of `flag` is known to that version; an unlisted one is as old as it."""
        span = self.values.get(flag, {}).get(value)
        return span is None or span.holds(version)

    def types_of(self, version: str) -> Types:
        """The types of that version; of the newest where it is not known."""
        fits = [row for row in self.types if not version or at_least(version, row.first)]
        return max(fits or self.types[:1], key=lambda row: numbers(row.first))


def catalog(override: Path | None = None) -> Catalog:
    """The data, the operator's file laid over it. Raises `UsageError` that names file and key."""
    file = override or folders().config / "trtexec.toml"
    return dated.load(Catalog, "backends.catalog", "trtexec.toml", file)


def at_least(version: str, first: str) -> bool:
    """Whether `version` is `first` or later, number by number."""
    return numbers(version) >= numbers(first)


def tensorrt_of(image: str) -> str:
    """TensorRT's version in an image, by its name; empty where the data does not know it."""
    data = catalog()
    found = re.fullmatch(
        rf"{re.escape(data.repository)}:(\d\d\.\d\d){re.escape(data.suffix)}(?:@sha256:\w+)?",
        releases.reference(image),
    )
    return data.images.get(found[1], "") if found else ""


def default_image() -> str:
    """The newest image whose TensorRT is known."""
    data = catalog()
    return f"{data.repository}:{max(data.images)}{data.suffix}"


def program_in(image: str, program: Program) -> str:
    """The program's path in an image: where images of that name keep it, else its plain name."""
    if program == "trtexec":
        full = releases.reference(image)
        for start, path in catalog().programs.items():
            if full.startswith(start):
                return path
    return program
