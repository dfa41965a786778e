"""The ONNX route: NeMo speech models (text, labels, speakers), and any ONNX graph."""

from __future__ import annotations

from typing import ClassVar

from backends import labels, onnx_checks, onnx_plan, speech
from backends.base import Backend, BackendOptions, Checkpoints, MemoryEstimate
from backends.doors.onnx import OnnxDoor
from backends.environments import environment
from backends.onnx_options import OnnxOptions
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
from console.planning.deployment import Deployment
from console.planning.plan import EnvironmentSpec, Plan
from console.triton.repository import batchable

MIB = 1 << 20


class OnnxBackend(OnnxDoor, Backend):
    """Checkpoint → ONNX graph → Triton (onnxruntime backend, or our python model)."""

    Options: ClassVar[type[BackendOptions]] = OnnxOptions

    def suggest(self, checkpoints: Checkpoints, host: Host) -> OnnxOptions:
        """CPU unless the host has a GPU that ONNX Runtime's environment can use; batching where
        the graph allows it."""
        checkpoint = checkpoints["model"]
        if checkpoint.format is Format.HUB:
            return OnnxOptions()
        if checkpoint.speech is not None:
            longest = speech.longest_seconds(checkpoint)
            return OnnxOptions(chunk_seconds=min(20.0, max(2.0, longest / 2)))
        graph = checkpoint.graph
        fits = graph is not None and batchable((*graph.inputs, *graph.outputs))
        return OnnxOptions(max_batch_size=8 if fits else 0, dynamic_batching=fits)

    def needs(self, deployment: Deployment) -> tuple[EnvironmentSpec, ...]:
        """NeMo's environment for a ``.nemo``, ONNX Runtime's for a graph, and the launcher's own."""
        if deployment.server.launcher == "attach" and not deployment.server.manage:
            return ()
        exported = deployment.checkpoints.get("model", "").lower().endswith(".nemo")
        names = onnx_plan.environments_of(deployment, exported)
        return tuple(environment(name, deployment) for name in names)

    def memory(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host
    ) -> MemoryEstimate | None:
        """Measured on CPU: NeMo's import takes 0.8 GB, an export peaks at 2.4 × the weights."""
        options = OnnxOptions.of(deployment)
        checkpoint = checkpoints["model"]
        size = checkpoint.size
        exported = needs_export(checkpoint)
        serve = options.instance_count * (64 * MIB + 3 * size // 2)
        cuda = options.device == "cuda"
        return MemoryEstimate(
            host_build=900 * MIB + 12 * size // 5 if exported else size,
            host_serve=40 * MIB + (options.instance_count * 800 * MIB if cuda else serve),
            gpu_serve=(options.instance_count * (600 * MIB + 2 * size),) if cuda else (),
            disk=(2 * size if exported else size) + 16 * MIB,
            source="measured on the CPU with exports of 0.5 MB to 2.2 GB (NeMo 2.7.3, ONNX Runtime 1.31); "
            "GPU: measured context 582 MiB, weights doubled as an estimate",
        )

    def checks(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> tuple[Verdict, ...]:
        """What only this route knows: serving form, graph, batch, device, lengths."""
        options = OnnxOptions.of(deployment)
        if self.accepts(checkpoints).level is not Level.PASS:
            return ()  # that verdict says it all
        return onnx_checks.checks(deployment, options, checkpoints["model"], host, tools)

    def plan(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> Plan:
        """The steps; see `backends.onnx_plan`."""
        options = OnnxOptions.of(deployment)
        return onnx_plan.plan(deployment, options, checkpoints["model"], tools)

    def prompts(self, endpoint: Endpoint, model: ModelMetadata) -> PromptAdapter | None:
        """A sound form for our speech models; ONNX graphs get the tensor form."""
        if model.parameters.get(speech.ADAPTER_KEY) == speech.ADAPTER:
            return speech.SpeechForm(model)
        if model.parameters.get(speech.ADAPTER_KEY) == labels.ADAPTER:
            return labels.LabelsForm(model)
        return None


def needs_export(checkpoint: Checkpoint) -> bool:
    """Whether the graph must be made first."""
    return checkpoint.format is Format.NEMO
