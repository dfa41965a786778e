"""The NeMo TensorRT-LLM route: a NeMo checkpoint, built and served by NeMo's own scripts or classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from backends.base import Backend, BackendOptions, Checkpoints, MemoryEstimate
from backends.doors.language import NemoTrtllmDoor
from backends.language import nemo_trtllm_checks, nemo_trtllm_form, nemo_trtllm_plan
from backends.language import nemo_trtllm_words as words
from backends.language.common import fewest_gpus, spread
from backends.language.nemo_trtllm_options import NemoTrtllmOptions
from backends.upstream import place, place_checks, place_plan
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
from console.planning.deployment import Deployment
from console.planning.language_memory import USABLE
from console.planning.parallelism import Spread
from console.planning.plan import EnvironmentSpec, Plan

GIB = 1 << 30


class NemoTrtllmBackend(NemoTrtllmDoor, Backend):
    """.nemo, .qnemo or an engine → TensorRT-LLM → PyTriton."""

    Options: ClassVar[type[BackendOptions]] = NemoTrtllmOptions

    def own_server(self, deployment: Deployment) -> bool:
        """PyTriton starts a Triton of its own."""
        return True

    def suggest(self, checkpoints: Checkpoints, host: Host) -> NemoTrtllmOptions:
        """The parallel sizes that the checkpoint fixes, else the fewest GPUs that it fits."""
        checkpoint = checkpoints["model"]
        mode = "load" if checkpoint.format is Format.TRTLLM_ENGINE else "serve"
        facts = checkpoint.language
        if facts is not None and facts.parallel_fixed:
            return NemoTrtllmOptions(
                mode=mode,
                tensor_parallel_size=facts.tensor_parallel,
                pipeline_parallel_size=facts.pipeline_parallel,
            )
        made = Deployment(name="x", backend=self.name, checkpoints={})

        def verdicts(options: NemoTrtllmOptions) -> Iterable[Verdict]:
            call = words.Call(made, options, checkpoint, place.generation_of(options))
            return nemo_trtllm_checks.checks(call, host, ToolFacts())

        return fewest_gpus(
            host, lambda size: NemoTrtllmOptions(mode=mode, tensor_parallel_size=size), verdicts
        )

    def needs(self, deployment: Deployment) -> tuple[EnvironmentSpec, ...]:
        options = NemoTrtllmOptions.of(deployment)
        return place_plan.environments(deployment, options.place)

    def scripts(self, deployment: Deployment) -> tuple[str, ...]:
        """The installed script, where it is on this host."""
        options = NemoTrtllmOptions.of(deployment)
        generation = place.generation_of(options)
        return place.scripts(options, generation, words.SERVE_ROUTE, words.EXPORT_ROUTE)

    def memory(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host
    ) -> MemoryEstimate | None:
        """Weights go through the host's memory while they are converted."""
        checkpoint = checkpoints["model"]
        wanted = nemo_trtllm_checks.need_of(self._call(deployment, checkpoints, ToolFacts()))
        if wanted is None or not checkpoint.size:
            return None
        ranks = NemoTrtllmOptions.of(deployment).layout.world
        return MemoryEstimate(
            host_build=4 * GIB + checkpoint.size,
            host_serve=2 * GIB * ranks,
            gpu_serve=(wanted.fixed,) * ranks,
            disk=2 * checkpoint.size,
            source=wanted.source,
        )

    def spread(self, deployment: Deployment, checkpoints: Checkpoints) -> Spread | None:
        """What TensorRT-LLM leaves of a card goes to weights first, then to the cache."""
        options, checkpoint = NemoTrtllmOptions.of(deployment), checkpoints["model"]
        wanted = nemo_trtllm_checks.need_of(self._call(deployment, checkpoints, ToolFacts()))
        layout = options.layout
        return spread(checkpoint, layout, wanted, fraction=USABLE, length=options.sequence)

    def checks(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> tuple[Verdict, ...]:
        """Route and flags of the generation, the place, the folder, FP8, layout and memory."""
        if self.accepts(checkpoints).level is not Level.PASS:
            return ()
        call = self._call(deployment, checkpoints, tools)
        return (*place_checks.mode(call), *nemo_trtllm_checks.checks(call, host, tools))

    def plan(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> Plan:
        return nemo_trtllm_plan.plan(self._call(deployment, checkpoints, tools))

    def prompts(self, endpoint: Endpoint, model: ModelMetadata) -> PromptAdapter | None:
        return nemo_trtllm_form.form(model)

    def _call(
        self, deployment: Deployment, checkpoints: Checkpoints, tools: ToolFacts
    ) -> words.Call:
        options = NemoTrtllmOptions.of(deployment)
        generation = place.generation_of(options, tools)
        return words.Call(deployment, options, checkpoints["model"], generation)
