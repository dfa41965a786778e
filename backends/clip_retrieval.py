"""The retrieval route: a vision and a text tower in Triton, with a store of vectors and documents."""

from __future__ import annotations

from typing import ClassVar

from backends.base import Backend, BackendOptions, MemoryEstimate
from backends.door import Checkpoints
from backends.doors.retrieval import RetrievalDoor
from backends.environments import environment
from backends.retrieval import checks, plan, repository
from backends.retrieval.forms import MatchForm
from backends.retrieval.options import RetrievalOptions
from console.facts import (
    Endpoint,
    Host,
    Level,
    ModelMetadata,
    PromptAdapter,
    ToolFacts,
    Verdict,
)
from console.planning.deployment import Deployment
from console.planning.plan import Command, EnvironmentSpec, Plan

MIB = 1 << 20


class ClipRetrievalBackend(RetrievalDoor, Backend):
    """Hugging Face folder → two ONNX graphs → ensembles and a match model over a store."""

    Options: ClassVar[type[BackendOptions]] = RetrievalOptions

    def suggest(self, checkpoints: Checkpoints, host: Host) -> RetrievalOptions:
        """The defaults: the CPU, a private PostgreSQL."""
        return RetrievalOptions()

    def needs(self, deployment: Deployment) -> tuple[EnvironmentSpec, ...]:
        if deployment.server.launcher == "attach" and not deployment.server.manage:
            return ()
        names = plan.environments_of(deployment)
        return tuple(environment(name, deployment) for name in names)

    def memory(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host
    ) -> MemoryEstimate | None:
        """Measured on a CPU; see `source`."""
        options = RetrievalOptions.of(deployment)
        size = sum(checkpoint.size for checkpoint in checkpoints.values())
        fronts = 3 * options.front_instances
        cuda = options.device == "cuda"
        towers = options.instance_count * (2 * 64 * MIB + 3 * size // 2)
        return MemoryEstimate(
            host_build=1200 * MIB + 4 * size,
            host_serve=700 * MIB + fronts * 90 * MIB + towers,
            gpu_serve=(options.instance_count * (2 * 600 * MIB + 2 * size),) if cuda else (),
            disk=2 * size + 80 * MIB,
            source="measured on a CPU with 0.5 and 151 million parameters: export, front models of "
            "60 to 90 MB, PostgreSQL with 256 MB of shared buffers",
        )

    def checks(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> tuple[Verdict, ...]:
        if self.accepts(checkpoints).level is not Level.PASS:
            return ()
        return checks.checks(deployment, RetrievalOptions.of(deployment), checkpoints, host, tools)

    def plan(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> Plan:
        return plan.plan(deployment, RetrievalOptions.of(deployment), dict(checkpoints), tools)

    def prompts(self, endpoint: Endpoint, model: ModelMetadata) -> PromptAdapter | None:
        mine = model.parameters.get(repository.ADAPTER_KEY) == repository.ADAPTER
        return MatchForm(model) if mine else None

    def store_command(self, deployment: Deployment, version: int) -> Command | None:
        return plan.store_command(deployment, RetrievalOptions.of(deployment), version)
