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
    """The versions that have something: from `first` on, before `last`; empty: no bound is known."""

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


class Flag(Span):
    """A flag of a program; `values` are the words that it takes, each with its first version."""

    values: dict[str, str] = {}
    switch: bool = False

    def takes(self, value: str, version: str) -> bool:
        if self.switch:
            return not value
        if not self.values:
            return True
        return value in self.values and Span(first=self.values[value]).holds(version)


class Parameter(Span):
    """A parameter of the engine's model; `left` are left to the backend's own default by intent."""

    left: bool = False


class Inputs(_Data):
    """Names of inputs of the tensorrt_llm model from the version `first` on."""

    first: Version
    seed: tuple[str, ...]
    min_tokens: tuple[str, ...]


Row = TypeVar("Row", Scripts, Inputs)


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
    flags: dict[str, dict[str, Flag]]
    inputs: tuple[Inputs, ...]
    parameters: dict[str, Parameter]

    def script(self, program: str, version: str) -> str:
        """Path of a conversion script below the examples folder."""
        return str(getattr(_newest(self.scripts, version), program))

    def input_names(self, version: str) -> Inputs:
        return _newest(self.inputs, version)

    def takes(self, program: str, flag: str, version: str, value: str = "") -> bool:
        """Whether `program` of this version has `flag`, and takes `value` where one is given."""
        known = self.flags[program].get(flag)
        return (
            known is not None
            and known.holds(version)
            and (not value or known.takes(value, version))
        )


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
    """Every flag and value of `argv` (the words behind the program) that this version refuses."""
    data = catalog()
    for word in given(argv):
        known = data.flags[program].get(word.flag, Flag())
        value = word.values[0] if word.values else ""
        if not data.takes(program, word.flag, version):
            what, first = clean(word.flag), known.first
        elif not data.takes(program, word.flag, version, value):
            what, first = f"{clean(word.flag)} {clean(value)}", known.values.get(value, "")
        else:
            continue
        when = f"from {first} on" if first else f"before {known.last}" if known.last else ""
        yield Verdict(
            "upstream-flags",
            Level.FAIL,
            f"{program} of TensorRT-LLM {clean(version)} has no {what}",
            when,
            data.source,
            "choose another image, or leave the option at its default",
            option,
        )
