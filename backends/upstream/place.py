"""Where a route runs the code of NeMo or Export-Deploy: which generation, in which image or environment.

A route that calls upstream's scripts (or its classes, by a worker of ours) is one `Call` for one
generation; its words and arguments are the route's own, everything about the place is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from backends.base import BackendOptions
from backends.fields import AbsolutePath, Image, VariableName, extra
from backends.upstream import container, generations, parsers
from console.checkpoints.model import Checkpoint
from console.facts import ToolFacts
from console.planning.deployment import Deployment
from console.planning.plan import join
from console.planning.variables import literal

ENVIRONMENT = "nemo-trtllm"
DEFAULT = "nemo-25.04"
"""The newest generation that has every parameter of NeMo's TensorRT-LLM routes."""

Generation = Annotated[str, Field(pattern=r"^(auto|nemo-\d\d\.\d\d|ed-[\w.]+)$")]


class PlaceOptions(BackendOptions):
    """Where upstream's code runs and what of it."""

    mode: Literal["serve", "export", "load"] = Field(
        "serve",
        title="What is done",
        description="serve: build an engine and serve it. export: build it and stop there. load: "
        "serve an engine that was built before; the checkpoint is its folder.",
        json_schema_extra=extra("Place"),
    )
    generation: Generation = Field(
        DEFAULT,
        title="Generation",
        description="Which release of NeMo or Export-Deploy is installed there; command lines differ "
        "in each. auto takes it from the image's tag, or from the environment's packages.",
        json_schema_extra=extra("Place"),
    )
    place: Literal["container", "environment"] = Field(
        "container",
        title="Runs in",
        description="container: an image of NeMo. environment: a Python environment of yours with "
        "NeMo and TensorRT-LLM ([environments.nemo-trtllm] use).",
        json_schema_extra=extra("Place"),
    )
    image: Image = Field(
        "",
        title="Image",
        description="Image for the container; empty takes the generation's own.",
        json_schema_extra=extra("Place"),
    )
    scripts_root: AbsolutePath = Field(
        "",
        title="Folder above scripts/",
        description="A checkout of NeMo or Export-Deploy; empty takes /opt/NeMo or "
        "/opt/Export-Deploy, as the images have it.",
        json_schema_extra=extra("Place"),
    )
    form: Literal["auto", "script", "api"] = Field(
        "auto",
        title="Called through",
        description="script: upstream's command line. api: its Python classes, by a worker of ours; "
        "auto takes that where the generation has no script.",
        json_schema_extra=extra("Place"),
    )
    engine_folder: AbsolutePath = Field(
        "",
        title="Engine folder",
        description="Where the engine is built; empty for a folder of the deployment. Upstream "
        "empties the folder that it builds in, so one with other files is refused.",
        json_schema_extra=extra("Place", "--triton_model_repository"),
    )
    hf_token: VariableName = Field(
        "",
        title="Hugging Face token",
        description="Name of its variable: HF_TOKEN where the checkpoint's tokenizer comes from "
        "Hugging Face (StarCoder, Llama 3 of NeMo 1); empty looks nothing up there.",
        json_schema_extra=extra("Place"),
    )

    @model_validator(mode="after")
    def _known(self) -> PlaceOptions:
        if self.generation != "auto" and self.generation not in generations.catalog().generations:
            known = ", ".join(generations.catalog().generations)
            raise ValueError(f"no generation {self.generation}: known are auto, {known}")
        return self


def generation_of(options: PlaceOptions, tools: ToolFacts | None = None) -> str:
    """The generation that is named or found; the default where nothing tells.

    An image of 25.07 carries the scripts of two: those of Export-Deploy count when the operator
    names them, for NeMo's take every option of these routes.
    """
    if options.generation != "auto":
        return options.generation
    if options.place == "environment":
        facts = tools.environments.get(ENVIRONMENT) if tools else None
        return (generations.of_packages(facts.packages) if facts else "") or DEFAULT
    return next(iter(generations.of_image(options.image)), DEFAULT)


def image_of(options: PlaceOptions, generation: str) -> str:
    """The image that is named, or the generation's own; empty where it has none."""
    return options.image or next(iter(generations.generation(generation).images), "")


def scripts(options: PlaceOptions, generation: str, *routes: str) -> tuple[str, ...]:
    """Installed scripts of `routes`, where they are on this host."""
    if options.place == "container" and not options.scripts_root:
        return ()
    found = catalog_root(options, generation)
    return tuple(f"{found}/{generations.catalog().routes[name].script}" for name in routes)


def catalog_root(options: PlaceOptions, generation: str) -> str:
    """The folder above ``scripts/`` at the place."""
    return options.scripts_root or generations.generation(generation).root


@dataclass(frozen=True)
class Call(ABC):
    """One use of upstream: a deployment's options for one generation."""

    deployment: Deployment
    options: PlaceOptions
    checkpoint: Checkpoint
    generation: str

    @property
    @abstractmethod
    def route(self) -> str:
        """The route of the catalog that this is: the script that is called."""

    @abstractmethod
    def argv(self) -> list[str]:
        """The words behind the script (templates); long names only."""

    @abstractmethod
    def arguments(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What our worker gives the classes, and the arguments that this generation lacks."""

    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """Files and folders that upstream reads (templates)."""

    def environment(self, *, online: bool) -> dict[str, str]:
        """Variables of a command; without `online` it asks no hub."""
        return {} if online else {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

    @property
    def engine(self) -> str:
        """Folder that upstream builds in and empties first, or loads from (template)."""
        if self.options.mode == "load":
            path = self.checkpoint.path
            return literal(str(path.parent if path.name == "trtllm_engine" else path))
        return join(self.folder, "engine")

    @property
    def folder(self) -> str:
        """Folder of ours around the engine (template)."""
        given = self.options.engine_folder
        return literal(given) if given else "${work}/engine"

    @property
    def script(self) -> str:
        """Path of the script below its root, or empty when the classes are called."""
        name = generations.catalog().routes[self.route].script
        known = parsers.known(name, self.generation) is not None
        wanted = self.options.form
        return name if wanted == "script" or (wanted == "auto" and known) else ""

    @property
    def installed(self) -> str:
        """Where the script is at the place."""
        return str(PurePosixPath(catalog_root(self.options, self.generation)) / self.script)

    @property
    def inside(self) -> bool:
        return self.options.place == "container"

    @property
    def address(self) -> str:
        """A container's server listens on all of its own addresses; loopback publishes it."""
        return "0.0.0.0" if self.inside else self.deployment.server.address

    @property
    def http(self) -> str:
        return str(container.HTTP) if self.inside else "${http_port}"


def unless(value: str, default: str) -> str:
    """`value`, or nothing where upstream takes it anyway."""
    return "" if value == default else value


def flagged(given: dict[str, Any]) -> list[str]:
    """Flags with their values (templates); nothing for what is empty, 0 or off."""
    words: list[str] = []
    for flag, value in given.items():
        if value is True:
            words.append(flag)
        elif isinstance(value, tuple) and value:
            words += [flag, *(literal(str(one)) for one in value)]
        elif value and not isinstance(value, tuple):
            words += [flag, literal(str(value))]
    return words
