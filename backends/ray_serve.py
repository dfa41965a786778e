"""The Ray Serve route: a model on a cluster of machines, in as many replicas as are wanted."""

from __future__ import annotations

from typing import ClassVar

from backends.base import Backend, BackendOptions, Checkpoints, MemoryEstimate
from backends.doors.ray import RayServeDoor
from backends.language import ray_checks, ray_plan, ray_words
from backends.language.common import FAILED, language, spread
from backends.language.ray_options import RayOptions
from console.checkpoints.model import Format
from console.facts import (
    Endpoint,
    Host,
    Level,
    ModelMetadata,
    PromptAdapter,
    ToolFacts,
    Verdict,
)
from console.generation.form import TextForm
from console.planning.deployment import Deployment
from console.planning.language_memory import USABLE, Layout, need
from console.planning.parallelism import Spread
from console.planning.plan import EnvironmentSpec, Plan
from console.text import clean

GIB = 1 << 30


class RayServeBackend(RayServeDoor, Backend):
    """Hugging Face, NeMo or Megatron → Export-Deploy's Ray classes → OpenAI's protocol."""

    Options: ClassVar[type[BackendOptions]] = RayOptions

    def own_server(self, deployment: Deployment) -> bool:
        """Serve answers, on the cluster's nodes."""
        return True

    def suggest(self, checkpoints: Checkpoints, host: Host) -> RayOptions:
        """Our own job for Hugging Face folders, on the CPU without a GPU; for the others the script
        of the last generation that takes them."""
        checkpoint = checkpoints["model"]
        if checkpoint.format is Format.MEGATRON:
            return RayOptions(form="script")
        if checkpoint.format is Format.NEMO2:
            return RayOptions(form="script", generation="ed-0.3")
        if checkpoint.format is Format.NEMO:
            return RayOptions(form="script", engine="tensorrt-llm")
        return RayOptions(device="cuda" if host.gpus else "cpu")

    def needs(self, deployment: Deployment) -> tuple[EnvironmentSpec, ...]:
        return ray_plan.environments(deployment, RayOptions.of(deployment))

    def memory(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host
    ) -> MemoryEstimate | None:
        """Of this machine: nothing is known of replicas on others."""
        options = RayOptions.of(deployment)
        checkpoint = checkpoints["model"]
        if options.cluster == "existing" or language(checkpoint) is None:
            return None
        replicas = 0 if options.cluster == "join" else options.num_replicas
        each = GIB + checkpoint.size * 2 if options.device == "cpu" else 2 * GIB
        source = (
            "a rule of thumb: 2 GiB for Ray itself, 1 GiB for a replica on the CPU, and weights"
        )
        return MemoryEstimate(host_serve=2 * GIB + replicas * each, source=source)

    def spread(self, deployment: Deployment, checkpoints: Checkpoints) -> Spread | None:
        """One replica; of GPUs in somebody else's cluster nothing is known here."""
        options, checkpoint = RayOptions.of(deployment), checkpoints["model"]
        facts = language(checkpoint)
        if facts is None or options.device == "cpu" or options.cluster == "existing":
            return None
        sizes = options.tensor_parallel_size, options.pipeline_parallel_size
        layout = Layout(*sizes, nodes=min(options.num_nodes, sizes[0] * sizes[1]))
        wanted = need(facts, layout, counted=checkpoint.parameters)
        return spread(checkpoint, layout, wanted, fraction=USABLE)

    def checks(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> tuple[Verdict, ...]:
        """Whatever needs no answer of the cluster; the rest is told when the job is submitted."""
        if self.accepts(checkpoints).level is not Level.PASS:
            return ()
        options, checkpoint = RayOptions.of(deployment), checkpoints["model"]
        found = list(ray_checks.checks(deployment, options, checkpoint))
        here = options.cluster == "head" and options.num_nodes == 1
        if here and ray_words.gpus(options, checkpoint) and not host.gpus:
            found.append(
                Verdict(
                    "gpu",
                    Level.FAIL,
                    "there is no GPU here, and the cluster is this machine",
                    clean(host.gpu_note),
                    fix="set device = cpu to try a small model without one",
                    option="options.device",
                )
            )
        return tuple(found)

    def plan(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> Plan:
        return ray_plan.plan(deployment, RayOptions.of(deployment), checkpoints["model"])

    def prompts(self, endpoint: Endpoint, model: ModelMetadata) -> PromptAdapter | None:
        return TextForm(model.name, never=FAILED) if endpoint.kind == "openai" else None
