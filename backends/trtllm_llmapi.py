"""TensorRT-LLM's LLM API in Triton: a model.yaml in place of an engine, nothing is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from backends.base import Backend, BackendOptions, Checkpoints, MemoryEstimate
from backends.doors.language import TrtllmLlmapiDoor
from backends.language import trtllm_checks, trtllm_plan
from backends.language.common import spread
from backends.language.trtllm_llmapi_repository import LLMAPI_NAMES
from backends.language.trtllm_options import LlmapiOptions
from backends.trtllm_engine import placed
from console.checkpoints.model import Format
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
from console.generation.form import TextForm
from console.planning.deployment import Deployment, ServerSection
from console.planning.parallelism import Spread
from console.planning.plan import EnvironmentSpec, Plan
from console.prompts import Style
from console.text import clean


class TrtllmLlmapiBackend(TrtllmLlmapiDoor, Backend):
    """Hugging Face folder → LLM API → Triton."""

    Options: ClassVar[type[BackendOptions]] = LlmapiOptions

    def suggest(self, checkpoints: Checkpoints, host: Host) -> LlmapiOptions:
        """The fewest GPUs that the model fits."""
        sizes = [n for n in (1, 2, 4, 8, 16) if n <= len(host.gpus)] or [1]
        for size in sizes:
            options = LlmapiOptions(tensor_parallel_size=size)
            verdicts = trtllm_checks.gpus(options, checkpoints["model"], host, "")
            if all(v.check == "gpu-free" or v.level is not Level.FAIL for v in verdicts):
                return options
        return LlmapiOptions(tensor_parallel_size=sizes[-1])

    def seat(self, server: ServerSection, options: Mapping[str, Any]) -> ServerSection:
        """An image that has TensorRT-LLM in the place of the embedded server, which has none."""
        return trtllm_plan.seat(server)

    def needs(self, deployment: Deployment) -> tuple[EnvironmentSpec, ...]:
        return ()

    def memory(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host
    ) -> MemoryEstimate | None:
        options = self._options(deployment)
        wanted = trtllm_plan.need_of(options, checkpoints["model"])
        if wanted is None:
            return None
        ranks = options.world
        return MemoryEstimate(
            host_serve=(2 << 30) * ranks, gpu_serve=(wanted.fixed,) * ranks, source=wanted.source
        )

    def spread(self, deployment: Deployment, checkpoints: Checkpoints) -> Spread | None:
        """Weights first; the cache takes its fraction of what they leave."""
        options, checkpoint = self._options(deployment), checkpoints["model"]
        return spread(
            checkpoint,
            trtllm_plan.layout_of(options, checkpoint),
            trtllm_plan.need_of(options, checkpoint),
            fraction=options.kv_cache_fraction,
            length=options.max_seq_len,
        )

    def checks(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> tuple[Verdict, ...]:
        """Version, layout, memory, code of the checkpoint."""
        checkpoint = checkpoints["model"]
        if self.accepts(checkpoints).level is not Level.PASS or checkpoint.format is Format.HUB:
            return ()
        options = self._options(deployment)
        return tuple(trtllm_checks.llmapi(deployment, options, checkpoint, host))

    def plan(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> Plan:
        """Raises `UsageError` for a checkpoint or a launcher that the route cannot take."""
        checkpoint = checkpoints["model"]
        accepted = self.accepts(checkpoints)
        if accepted.level is not Level.PASS:
            raise UsageError(
                f"the LLM API does not take {clean(checkpoint.path.name)}",
                why=accepted.summary,
                fix=accepted.fix,
            )
        placed(deployment)
        seated = trtllm_plan.seated(deployment)
        return trtllm_plan.llmapi_plan(seated, self._options(deployment), checkpoint)

    def prompts(self, endpoint: Endpoint, model: ModelMetadata) -> PromptAdapter | None:
        """A form for the LLM API's model, by the inputs that it declares."""
        declared = frozenset(spec.name for spec in model.inputs)
        if not {"text_input", "sampling_param_max_tokens"} <= declared:
            return None
        return TextForm(model.name, Style.GENERATE, LLMAPI_NAMES, declared=declared)

    def _options(self, deployment: Deployment) -> LlmapiOptions:
        options = self.bind(deployment.options)
        assert isinstance(options, LlmapiOptions)
        return options
