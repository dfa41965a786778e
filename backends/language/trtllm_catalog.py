"""What each TensorRT-LLM takes and which Triton image carries which, from dated data."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from backends.upstream.flags import given
from console import dated
from console.facts import Level, Verdict
from console.planning.deployment import Deployment
from console.settings import folders
from console.text import clean
from console.triton import releases

Version = Annotated[str, Field(pattern=r"^\d+(\.\w+)*$")]
Tag = Annotated[str, Field(pattern=r"^\d\d\.\d\d$")]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Image(_Data):
    """What one release of the image carries."""

    tensorrt_llm: Version
    tensorrt: Version
    cuda: Version
    python: Version


class Scripts(_Data):
    """Paths below the examples folder from the version `first` on."""

    first: Version
    gpt: str
    llama: str
    gemma: str
    falcon: str
    quantize: str


class Span(_Data):
    """The versions that have a flag: from `first` on, before `last`; empty: no bound is known."""

    first: str = ""
    last: str = ""

    def holds(self, version: str) -> bool:
        """An unknown version is given the newest known form."""
        if not version:
            return not self.last
        at = numbers(version)
        return (not self.first or at >= numbers(self.first)) and (
            not self.last or at < numbers(self.last)
        )


class Inputs(_Data):
    """Names of inputs of the tensorrt_llm model from the version `first` on."""

    first: Version
    seed: str
    min_tokens: str


Row = TypeVar("Row", Scripts, Inputs)


class Parameters(_Data):
    first: dict[str, Version]
    defaults: tuple[str, ...]
    """Left to the backend's default by intent."""


class Catalog(_Data):
    date: datetime.date
    source: str
    repository: str
    suffix: str
    engine_last: Tag
    llmapi_first: Version
    examples_first: Tag
    images: dict[Tag, Image]
    scripts: tuple[Scripts, ...]
    flags: dict[str, dict[str, Span]]
    inputs: tuple[Inputs, ...]
    parameters: Parameters

    def script(self, program: str, version: str) -> str:
        """Path of a conversion script below the examples folder."""
        return str(getattr(_newest(self.scripts, version), program))

    def input_names(self, version: str) -> Inputs:
        return _newest(self.inputs, version)

    def takes(self, program: str, flag: str, version: str) -> bool:
        span = self.flags[program].get(flag)
        return span is not None and span.holds(version)


def _newest(rows: tuple[Row, ...], version: str) -> Row:
    fits = [row for row in rows if not version or numbers(row.first) <= numbers(version)]
    return max(fits or rows[:1], key=lambda row: numbers(row.first))


def numbers(text: str) -> tuple[int, ...]:
    """``0.17.0.post1`` → (0, 17, 0): what orders versions here."""
    found = []
    for part in text.split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)


def catalog(override: Path | None = None) -> Catalog:
    """The data, the operator's file laid over it. Raises `UsageError` that names file and key."""
    return dated.load(
        Catalog, "backends.catalog", "trtllm.toml", override or folders().config / "trtllm.toml"
    )


def tag_of(deployment: Deployment) -> str:
    """The release (``26.07``) of the deployment's image; empty where its name does not tell."""
    match = re.search(r":(\d\d\.\d\d)-trtllm", releases.reference(deployment.server.image))
    return match[1] if match else ""


def image_of(deployment: Deployment) -> Image | None:
    """What the deployment's image carries; None where the data does not know it."""
    if deployment.server.launcher != "container":
        return None
    return catalog().images.get(tag_of(deployment))


def default_image() -> str:
    """The newest image with the engine route."""
    data = catalog()
    return f"{data.repository}:{data.engine_last}{data.suffix}"


def flag_checks(program: str, argv: Sequence[str], version: str, option: str) -> Iterator[Verdict]:
    """Every flag of `argv` (the words behind the program) that this version does not take."""
    data = catalog()
    for word in given(argv):
        if data.takes(program, word.flag, version):
            continue
        span = data.flags[program].get(word.flag, Span())
        when = f"from {span.first}" if span.first else f"before {span.last}" if span.last else ""
        yield Verdict(
            "upstream-flags",
            Level.FAIL,
            f"{program} of TensorRT-LLM {clean(version)} has no {clean(word.flag)}",
            when and f"{when} on" if span.first else when,
            data.source,
            "choose another image, or leave the option at its default",
            option,
        )
