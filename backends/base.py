"""The contract of an export backend: one route from a checkpoint to something Triton serves.

A backend is stateless. Everything it says is data: verdicts, options, a plan. It runs nothing and
writes nothing; `plan` is a pure function of its inputs. A third party adds one through the entry
point group ``tritondeck.backends``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from backends.door import Checkpoints, Door, Role
from console.checkpoints.model import Checkpoint
from console.facts import (
    Endpoint,
    Host,
    Level,
    ModelMetadata,
    PromptAdapter,
    ToolFacts,
    UsageError,
    Verdict,
)
from console.planning.deployment import Deployment, ServerSection
from console.planning.parallelism import Spread
from console.planning.plan import Command, EnvironmentSpec, Plan
from console.text import clean

__all__ = ["Backend", "BackendOptions", "Checkpoints", "Door", "MemoryEstimate", "Role", "require"]


class BackendOptions(BaseModel):
    """Base of every `Options`: unknown keys are errors, values are frozen.

    Each field is declared with `pydantic.Field`: type, bounds, `title` (label), `description`
    (help), and ``json_schema_extra={"group": "Model", "flag": "--upstream-flag", "unit": "ms"}``.
    The form, the TOML schema and the command-line flags come from these declarations alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def of(cls, deployment: Deployment) -> Self:
        """What `deployment` says; raises pydantic's `ValidationError`."""
        return cls.model_validate(dict(deployment.options))


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes that building and serving need, with where each figure comes from."""

    host_build: int = 0
    host_serve: int = 0
    gpu_serve: tuple[int, ...] = ()
    disk: int = 0
    source: str = ""


def require(accepted: Verdict, route: str, checkpoint: Checkpoint) -> None:
    """Raises `UsageError` unless `accepted` passes: nothing is planned for what a route does not take."""
    if accepted.level is not Level.PASS:
        raise UsageError(
            f"the {route} route does not take {clean(checkpoint.path.name)}",
            why=accepted.summary,
            fix=accepted.fix,
        )


class Backend(Door):
    """One export route: its door, and what is behind it. Class attributes describe it without an
    instance."""

    Options: ClassVar[type[BackendOptions]]

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

    def prompts_of(
        self, deployment: Deployment, endpoint: Endpoint, model: ModelMetadata
    ) -> PromptAdapter | None:
        """The form for a model of `deployment`: what its options say is not asked again."""
        return self.prompts(endpoint, model)

    def spread(self, deployment: Deployment, checkpoints: Checkpoints) -> Spread | None:
        """How a language model lies on GPUs with these options (`tensor_parallel_size` and
        `pipeline_parallel_size` are among them); None where it does not, or nothing is known."""
        return None

    def scripts(self, deployment: Deployment) -> tuple[str, ...]:
        """Paths on this host of upstream sources whose text `checks` wants to see;
        ``environment:NAME/…`` is a file among that environment's packages."""
        return ()

    def own_server(self, deployment: Deployment) -> bool:
        """Whether the route starts a server of its own kind instead of Triton by the deployment's
        launcher; nothing is asked of a Triton then."""
        return False

    def seat(self, server: ServerSection, options: Mapping[str, Any]) -> ServerSection:
        """The server that this route needs with these options, made from the one that the deployment
        names: a route whose models load in certain images alone says which."""
        return server

    def store_command(self, deployment: Deployment, version: int) -> Command | None:
        """The command that works on the store that the models of `version` search, to be followed by a
        verb and its flags (`backends/workers/retrieval_store.py`); None for a route without one."""
        return None

    def bind(self, options: Mapping[str, Any]) -> BackendOptions:
        """Validate raw options; raises pydantic's `ValidationError`."""
        return self.Options.model_validate(dict(options))
