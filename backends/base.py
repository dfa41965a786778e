"""The contract of an export backend: one route from a checkpoint to something Triton serves.

A backend is stateless. Everything it says is data: verdicts, options, a plan. It runs nothing and
writes nothing; `plan` is a pure function of its inputs. A third party adds one through the entry
point group ``tritondeck.backends``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from console.checkpoints.model import Checkpoint
from console.facts import Endpoint, Host, ModelMetadata, PromptAdapter, ToolFacts, Verdict
from console.planning.deployment import Deployment
from console.planning.plan import EnvironmentSpec, Plan

Checkpoints = Mapping[str, Checkpoint]
"""Role to what was read from disk."""


class BackendOptions(BaseModel):
    """Base of every `Options`: unknown keys are errors, values are frozen.

    Each field is declared with `pydantic.Field`: type, bounds, `title` (label), `description`
    (help), and ``json_schema_extra={"group": "Model", "flag": "--upstream-flag", "unit": "ms"}``.
    The form, the TOML schema and the command-line flags come from these declarations alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Role:
    """One checkpoint that a route takes."""

    name: str
    title: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes that building and serving need, with where each figure comes from."""

    host_build: int = 0
    host_serve: int = 0
    gpu_serve: tuple[int, ...] = ()
    disk: int = 0
    source: str = ""


class Backend(ABC):
    """One export route. Class attributes describe it without an instance."""

    name: ClassVar[str]
    """Stable, used in deployment files: ``onnx``."""
    title: ClassVar[str]
    """One line for the screen."""
    Options: ClassVar[type[BackendOptions]]
    roles: ClassVar[tuple[Role, ...]] = (Role("model", "Checkpoint"),)

    @abstractmethod
    def accepts(self, checkpoints: Checkpoints) -> Verdict:
        """Whether this route takes these checkpoints; if not, why not and what would.

        Of a route with several roles it is asked for one of them too, while the others are still
        to be chosen.
        """

    @abstractmethod
    def suggest(self, checkpoints: Checkpoints, host: Host) -> BackendOptions:
        """Options that fit these checkpoints on this host; some roles may still be empty."""

    @abstractmethod
    def needs(self, deployment: Deployment) -> tuple[EnvironmentSpec, ...]:
        """Environments that must exist before probing."""

    @abstractmethod
    def memory(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host
    ) -> MemoryEstimate | None:
        """What building and serving will need, or None when nothing is known."""

    @abstractmethod
    def checks(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> tuple[Verdict, ...]:
        """Verdicts that only this route can give."""

    @abstractmethod
    def plan(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> Plan:
        """The ordered steps. `deployment.options` have been bound to `Options` before."""

    @abstractmethod
    def prompts(self, endpoint: Endpoint, model: ModelMetadata) -> PromptAdapter | None:
        """The form for a model that this route built; None for an unknown one (tensor form)."""

    def scripts(self, deployment: Deployment) -> tuple[str, ...]:
        """Paths on this host of upstream scripts whose text `checks` wants to see."""
        return ()

    def own_server(self, deployment: Deployment) -> bool:
        """Whether the route starts a server of its own kind instead of Triton by the deployment's
        launcher; nothing is asked of a Triton then."""
        return False

    def bind(self, options: Mapping[str, Any]) -> BackendOptions:
        """Validate raw options; raises pydantic's `ValidationError`."""
        return self.Options.model_validate(dict(options))
