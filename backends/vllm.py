"""The vLLM route: a Hugging Face folder served by vLLM, as one of four kinds of server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from backends.base import Backend, BackendOptions, Checkpoints, MemoryEstimate
from backends.doors.language import VllmDoor
from backends.language import vllm_checks, vllm_nemo, vllm_plan, vllm_proxy, vllm_triton
from backends.language.common import FAILED, fewest_gpus, spread
from backends.language.vllm_options import VllmOptions
from backends.upstream.vllm_arguments import ENGINE, FRONTS, newest_image
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
from console.planning.deployment import Deployment, ServerSection
from console.planning.parallelism import Spread
from console.planning.plan import EnvironmentSpec, Plan
from console.prompts import Style

GIB = 1 << 30


class VllmBackend(VllmDoor, Backend):
    """Hugging Face folder → vLLM → OpenAI's protocol, Triton's, or both."""

    Options: ClassVar[type[BackendOptions]] = VllmOptions

    def own_server(self, deployment: Deployment) -> bool:
        """vLLM is the server, or PyTriton's is; else it is the launcher's Triton."""
        return VllmOptions.of(deployment).serve_as in ("openai", "nemo")

    def seat(self, server: ServerSection, options: Mapping[str, Any]) -> ServerSection:
        """For Triton's vLLM backend in a container: an image that has it, and its GPUs."""
        if options.get("serve_as") != "triton" or server.launcher != "container":
            return server
        image, gpus = server.image or newest_image(), server.gpus or "all"
        return server.model_copy(update={"image": image, "gpus": gpus})

    def scripts(self, deployment: Deployment) -> tuple[str, ...]:
        """The installed vLLM's own arguments."""
        options = VllmOptions.of(deployment)
        if not options.own or options.place == "container":
            return ()
        place = f"environment:{vllm_plan.environment_of(options)}"
        return tuple(f"{place}/{name}" for name in (ENGINE, *FRONTS))

    def suggest(self, checkpoints: Checkpoints, host: Host) -> VllmOptions:
        """The fewest GPUs that the model fits; the CPU where there is none."""
        checkpoint = checkpoints["model"]
        if checkpoint.format is not Format.HUGGING_FACE and checkpoint.language is not None:
            return vllm_checks.suggested(checkpoint)
        if not host.gpus:
            return VllmOptions(device="cpu")
        if checkpoint.language is None:
            return VllmOptions()
        return fewest_gpus(
            host,
            lambda size: VllmOptions(tensor_parallel_size=size),
            lambda options: vllm_checks.gpus(options, checkpoint, host),
        )

    def needs(self, deployment: Deployment) -> tuple[EnvironmentSpec, ...]:
        options = VllmOptions.of(deployment)
        if options.serve_as == "proxy":
            return vllm_proxy.environments(deployment, options)
        return vllm_plan.environments(deployment, options)

    def memory(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host
    ) -> MemoryEstimate | None:
        """On the CPU: three processes of 2.9 GB in all were seen with a tiny model, and the weights."""
        options = VllmOptions.of(deployment)
        checkpoint = checkpoints["model"]
        if options.device == "cpu":
            serve = 3 * GIB + checkpoint.size * 2 + options.cpu_kvcache_space * GIB
            return MemoryEstimate(host_serve=serve, source="vLLM 0.32 on a CPU: 2.9 GB and weights")
        wanted = vllm_plan.need_of(options, checkpoint)
        if wanted is None:
            return None
        ranks = options.layout.world
        return MemoryEstimate(
            host_serve=2 * GIB * ranks, gpu_serve=(wanted.fixed,) * ranks, source=wanted.source
        )

    def spread(self, deployment: Deployment, checkpoints: Checkpoints) -> Spread | None:
        """vLLM takes its fraction of each GPU; what is left after the weights is cache."""
        options, checkpoint = VllmOptions.of(deployment), checkpoints["model"]
        if options.device == "cpu":
            return None
        return spread(
            checkpoint,
            options.layout,
            vllm_plan.need_of(options, checkpoint),
            fraction=options.gpu_memory_utilization,
            length=options.max_model_len,
        )

    def checks(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> tuple[Verdict, ...]:
        """The form and its server, arguments, layout, memory of each GPU, code of the checkpoint."""
        if self.accepts(checkpoints).level is not Level.PASS:
            return ()
        options = VllmOptions.of(deployment)
        return tuple(vllm_checks.checks(deployment, options, checkpoints["model"], host, tools))

    def plan(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> Plan:
        """Raises `UsageError` for a server that the form cannot be served by."""
        options, checkpoint = VllmOptions.of(deployment), checkpoints["model"]
        match options.serve_as:
            case "openai":
                return vllm_plan.plan(deployment, options, checkpoint)
            case "nemo":
                return vllm_nemo.plan(deployment, options, checkpoint)
            case "triton":
                vllm_checks.startable(deployment, options)
                return vllm_triton.plan(deployment, options, checkpoint)
            case "proxy":
                vllm_checks.startable(deployment, options)
                return vllm_proxy.plan(deployment, options, checkpoint)

    def prompts(self, endpoint: Endpoint, model: ModelMetadata) -> PromptAdapter | None:
        """By what is served: OpenAI's protocol, the vLLM backend's tensors, or NeMo's."""
        if endpoint.kind == "openai":
            return TextForm(model.name)
        inputs = frozenset(tensor.name for tensor in model.inputs)
        outputs = {tensor.name for tensor in model.outputs}
        if {"text_input", "sampling_parameters"} <= inputs:
            return TextForm(model.name, Style.GENERATE, vllm_triton.NAMES, declared=inputs)
        for called in (vllm_nemo.LATE, vllm_nemo.EARLY):
            if {called.prompt, called.length} <= inputs and called.text in outputs:
                return TextForm(
                    model.name, Style.GENERATE, called, stream=False, declared=inputs, never=FAILED
                )
        return None
