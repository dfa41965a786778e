"""The multimodal route: NeMo's models of images, videos and sound, by NeMo's own scripts or classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from backends.base import Backend, BackendOptions, Checkpoints, MemoryEstimate
from backends.doors.multimodal import NemoMultimodalDoor, kind_of
from backends.language.common import fewest_gpus
from backends.multimodal import checks, form, words
from backends.multimodal import plan as planning
from backends.multimodal.options import MultimodalOptions
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
from console.planning.plan import EnvironmentSpec, Plan

GIB = 1 << 30
ENCODER = 2 * GIB
"""Bytes that an encoder's engine and its activations take: the largest here has 0.7 billion weights."""


class NemoMultimodalBackend(NemoMultimodalDoor, Backend):
    """.nemo with an encoder → TensorRT and TensorRT-LLM → PyTriton."""

    Options: ClassVar[type[BackendOptions]] = MultimodalOptions

    def own_server(self, deployment: Deployment) -> bool:
        """PyTriton starts a Triton of its own."""
        return True

    def suggest(self, checkpoints: Checkpoints, host: Host) -> MultimodalOptions:
        """The model type by name, and the fewest GPUs that the language model fits."""
        checkpoint = checkpoints["model"]
        kind = kind_of(checkpoint) or "auto"
        mode = "load" if checkpoint.format is Format.TRTLLM_ENGINE else "serve"
        given = {"model_type": kind, "mode": mode}
        if checkpoint.format is Format.TRTLLM_ENGINE and checkpoint.engine is not None:
            return MultimodalOptions.model_validate(given | {"num_gpus": checkpoint.engine.ranks})
        made = Deployment(name="x", backend=self.name, checkpoints={})

        def verdicts(options: MultimodalOptions) -> Iterable[Verdict]:
            call = self._called(made, options, checkpoints, ToolFacts())
            return checks.checks(call, host, ToolFacts())

        return fewest_gpus(
            host,
            lambda size: MultimodalOptions.model_validate(given | {"num_gpus": size}),
            verdicts,
        )

    def needs(self, deployment: Deployment) -> tuple[EnvironmentSpec, ...]:
        return place_plan.environments(deployment, MultimodalOptions.of(deployment).place)

    def scripts(self, deployment: Deployment) -> tuple[str, ...]:
        """The installed scripts, where they are on this host."""
        options = MultimodalOptions.of(deployment)
        generation = place.generation_of(options)
        return place.scripts(options, generation, words.SERVE_ROUTE, words.EXPORT_ROUTE)

    def memory(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host
    ) -> MemoryEstimate | None:
        """Weights go through the host's memory while they are converted."""
        call = self._call(deployment, checkpoints, ToolFacts())
        wanted = checks.need_of(call)
        size = sum(found.size for found in checkpoints.values())
        if wanted is None or not size:
            return None
        ranks = call.options.num_gpus
        copies = 2 + call.separated + call.merged
        return MemoryEstimate(
            host_build=4 * GIB + size,
            host_serve=2 * GIB * ranks,
            gpu_serve=(wanted.fixed + ENCODER, *(wanted.fixed,) * (ranks - 1)),
            disk=copies * size,
            source=wanted.source,
        )

    def checks(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> tuple[Verdict, ...]:
        """Route and flags of the generation, types, encoder, precision, GPUs and memory."""
        if self.accepts(checkpoints).level is not Level.PASS:
            return ()
        call = self._call(deployment, checkpoints, tools)
        return (*place_checks.mode(call), *checks.checks(call, host, tools))

    def plan(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> Plan:
        return planning.plan(self._call(deployment, checkpoints, tools))

    def prompts(self, endpoint: Endpoint, model: ModelMetadata) -> PromptAdapter | None:
        """A model that says ``tritondeck_adapter`` ``nemo-multimodal:TYPE`` tells its type itself."""
        told = model.parameters.get("tritondeck_adapter", "").partition(":")
        return form.form(model, told[2] if told[0] == self.name else "")

    def prompts_of(
        self, deployment: Deployment, endpoint: Endpoint, model: ModelMetadata
    ) -> PromptAdapter | None:
        kind = MultimodalOptions.of(deployment).model_type
        return form.form(model, "" if kind == "auto" else kind)

    def _call(
        self, deployment: Deployment, checkpoints: Checkpoints, tools: ToolFacts
    ) -> words.Call:
        return self._called(deployment, MultimodalOptions.of(deployment), checkpoints, tools)

    def _called(
        self,
        deployment: Deployment,
        options: MultimodalOptions,
        checkpoints: Checkpoints,
        tools: ToolFacts,
    ) -> words.Call:
        generation = place.generation_of(options, tools)
        spoken = checkpoints.get("language")
        return words.Call(deployment, options, checkpoints["model"], generation, spoken)
