"""The TensorRT-LLM engine route: convert, build, and serve by Triton's tensorrtllm backend.

Upstream ended it in July 2026; it lives in the images up to the catalog's `engine_last`.
"""

from __future__ import annotations

from typing import ClassVar

from backends.base import Checkpoints, MemoryEstimate
from backends.doors.language import BUILT, TrtllmEngineDoor
from backends.language import trtllm_checks, trtllm_plan
from backends.language.common import fewest_gpus
from backends.language.trtllm_argv import Part, draft_of
from backends.language.trtllm_options import EngineOptions
from backends.language.trtllm_repository import ENGINE_NAMES
from backends.language.trtllm_route import TrtllmBackend
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
from console.planning.plan import Plan
from console.prompts import Style


class TrtllmEngineBackend(TrtllmEngineDoor, TrtllmBackend):
    """Hugging Face, `.nemo`, `.qnemo`, TensorRT-LLM checkpoint or engine → Triton."""

    Options: ClassVar[type[EngineOptions]] = EngineOptions

    def suggest(self, checkpoints: Checkpoints, host: Host) -> EngineOptions:
        """The sizes that the checkpoint fixes, else the fewest GPUs that the weights fit."""
        checkpoint = checkpoints["model"]
        fixed = trtllm_plan.layout_of(EngineOptions(), checkpoint)
        if fixed.world > 1:
            return EngineOptions(
                tensor_parallel_size=fixed.tensor, pipeline_parallel_size=fixed.pipeline
            )
        return fewest_gpus(
            host,
            lambda size: EngineOptions(tensor_parallel_size=size),
            lambda options: trtllm_checks.gpus(options, checkpoint, host, "none"),
        )

    def memory(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host
    ) -> MemoryEstimate | None:
        """Building takes one to two times the checkpoint of host memory, twice that of disk."""
        options, checkpoint = EngineOptions.of(deployment), checkpoints["model"]
        wanted = trtllm_plan.need_of(options, checkpoint)
        if wanted is None:
            return None
        layout = trtllm_plan.layout_of(options, checkpoint)
        whole = wanted.weights * layout.world
        draft = checkpoints.get("draft")
        drafted = trtllm_plan.need_of(draft_of(options, draft).options, draft) if draft else None
        added = drafted.fixed if drafted else 0
        return MemoryEstimate(
            host_build=0 if checkpoint.format in BUILT else 2 * max(whole, checkpoint.size),
            host_serve=(2 << 30) * layout.world,
            gpu_serve=(wanted.fixed + added,) * layout.world,
            disk=(0 if checkpoint.format in BUILT else 2 * whole) + 2 * added * layout.world,
            source=wanted.source,
        )

    def checks(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> tuple[Verdict, ...]:
        """Versions, flags, layout, memory, tokenizer."""
        if self.accepts(checkpoints).level is not Level.PASS:
            return ()
        parts = self._parts(deployment, checkpoints)
        return tuple(trtllm_checks.engine(deployment, parts, host))

    def plan(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> Plan:
        """Raises `UsageError` for a checkpoint or a launcher that the route cannot take."""
        seated = self._seated(deployment, checkpoints)
        return trtllm_plan.engine_plan(seated, self._parts(deployment, checkpoints))

    def prompts(self, endpoint: Endpoint, model: ModelMetadata) -> PromptAdapter | None:
        """A form for the ensemble or the model with a draft, by the inputs that it declares."""
        declared = frozenset(spec.name for spec in model.inputs)
        if not {"text_input", "max_tokens", "stream"} <= declared:
            return None
        return TextForm(model.name, Style.GENERATE, ENGINE_NAMES, declared=declared)

    def _parts(self, deployment: Deployment, checkpoints: Checkpoints) -> tuple[Part, ...]:
        options, draft = EngineOptions.of(deployment), checkpoints.get("draft")
        return trtllm_plan.parts_of(options, checkpoints["model"], draft)
