"""TensorRT-LLM's LLM API in Triton: a model.yaml in place of an engine, nothing is built."""

from __future__ import annotations

from typing import ClassVar

from backends.base import Checkpoints, MemoryEstimate
from backends.doors.language import TrtllmLlmapiDoor
from backends.language import trtllm_checks, trtllm_plan
from backends.language.common import fewest_gpus
from backends.language.trtllm_llmapi_repository import LLMAPI_NAMES
from backends.language.trtllm_options import LlmapiOptions
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


class TrtllmLlmapiBackend(TrtllmLlmapiDoor, TrtllmBackend):
    """Hugging Face folder → LLM API → Triton."""

    Options: ClassVar[type[LlmapiOptions]] = LlmapiOptions

    def suggest(self, checkpoints: Checkpoints, host: Host) -> LlmapiOptions:
        """The fewest GPUs that the model fits."""
        return fewest_gpus(
            host,
            lambda size: LlmapiOptions(tensor_parallel_size=size),
            lambda options: trtllm_checks.gpus(options, checkpoints["model"], host, ""),
        )

    def memory(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host
    ) -> MemoryEstimate | None:
        options = LlmapiOptions.of(deployment)
        wanted = trtllm_plan.need_of(options, checkpoints["model"])
        if wanted is None:
            return None
        ranks = options.world
        return MemoryEstimate(
            host_serve=(2 << 30) * ranks, gpu_serve=(wanted.fixed,) * ranks, source=wanted.source
        )

    def checks(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> tuple[Verdict, ...]:
        """Version, layout, memory, code of the checkpoint."""
        if self.accepts(checkpoints).level is not Level.PASS:
            return ()
        options = LlmapiOptions.of(deployment)
        return tuple(trtllm_checks.llmapi(deployment, options, checkpoints["model"], host))

    def plan(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> Plan:
        """Raises `UsageError` for a checkpoint or a launcher that the route cannot take."""
        seated = self._seated(deployment, checkpoints)
        return trtllm_plan.llmapi_plan(seated, LlmapiOptions.of(deployment), checkpoints["model"])

    def prompts(self, endpoint: Endpoint, model: ModelMetadata) -> PromptAdapter | None:
        """A form for the LLM API's model, by the inputs that it declares."""
        declared = frozenset(spec.name for spec in model.inputs)
        if not {"text_input", "sampling_param_max_tokens"} <= declared:
            return None
        return TextForm(model.name, Style.GENERATE, LLMAPI_NAMES, declared=declared)
