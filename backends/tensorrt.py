"""The TensorRT route: an ONNX graph, a plan built for the GPU at hand, Triton's tensorrt backend.

Where there is no TensorRT the same repository is served by ONNX Runtime (``form = "onnxruntime"``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from backends.base import Backend, BackendOptions, Checkpoints, MemoryEstimate, require
from backends.doors.tensorrt import TensorrtDoor
from backends.environments import environment
from backends.trt import checks as findings
from backends.trt import plan as steps
from backends.trt import shapes
from backends.trt.argv import rewrites
from backends.trt.options import TensorrtOptions
from backends.trt.work import build_version, seat, seated
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
from console.planning.deployment import Deployment, ServerSection
from console.planning.plan import EnvironmentSpec, Plan
from console.triton.repository import batchable

MIB = 1 << 20
CONTEXT = 600 * MIB
"""What a CUDA context takes of a GPU; 582 MiB were measured on an H200."""
WIDTHS = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


class TensorrtBackend(TensorrtDoor, Backend):
    """ONNX graph → TensorRT plan → Triton."""

    Options: ClassVar[type[BackendOptions]] = TensorrtOptions

    def suggest(self, checkpoints: Checkpoints, host: Host) -> TensorrtOptions:
        """A plan where there is a GPU; shapes, and batching where the graph allows it, filled in."""
        checkpoint = checkpoints["model"]
        form = "tensorrt" if host.gpus else "onnxruntime"
        graph = checkpoint.graph
        if checkpoint.format is Format.HUB or graph is None:
            return TensorrtOptions.model_validate({"form": form})
        fits = batchable((*graph.inputs, *graph.outputs))
        batch = 8 if fits else 0
        suggested = shapes.filled(graph, batch)
        return TensorrtOptions.model_validate(
            {
                "form": form,
                "max_batch_size": batch,
                "dynamic_batching": fits,
                "min_shapes": shapes.written(suggested.least),
                "opt_shapes": shapes.written(suggested.usual),
                "max_shapes": shapes.written(suggested.most),
            }
        )

    def seat(self, server: ServerSection, options: Mapping[str, Any]) -> ServerSection:
        """An image that has TensorRT in the place of the embedded server, which has none."""
        return seat(server, TensorrtOptions.model_validate(dict(options)))

    def needs(self, deployment: Deployment) -> tuple[EnvironmentSpec, ...]:
        """ONNX Runtime's environment, ModelOpt's where the graph is rewritten, the launcher's own."""
        if deployment.server.launcher == "attach" and not deployment.server.manage:
            return ()
        options = TensorrtOptions.of(deployment)
        placed = seated(deployment, options)
        names = steps.environments_of(placed, options)
        return tuple(environment(name, deployment) for name in names)

    def memory(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host
    ) -> MemoryEstimate | None:
        """Weights by precision; activations and TensorRT's own needs are known only when it builds."""
        options, size = TensorrtOptions.of(deployment), checkpoints["model"].size
        width = WIDTHS[options.precision]
        weights = size * width // 4
        rewritten = rewrites(options, build_version(seated(deployment, options), options))
        build = 4 * size + 900 * MIB if rewritten else 2 * size
        if options.form == "onnxruntime":
            serve = options.instance_count * (64 * MIB + 3 * weights // 2)
            return MemoryEstimate(
                host_build=build,
                host_serve=40 * MIB + serve,
                disk=3 * size,
                source="ONNX Runtime as measured for the onnx route; ModelOpt 0.47 took 0.9 GB to import",
            )
        one = CONTEXT + options.workspace_mib * MIB + 2 * weights * options.instance_count
        return MemoryEstimate(
            host_build=build + 2 * size,
            host_serve=1024 * MIB + weights,
            gpu_serve=(one,),
            disk=3 * size + 2 * weights,
            source="weights by precision, doubled for activations as an estimate; context 582 MiB "
            "measured on an H200",
        )

    def checks(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> tuple[Verdict, ...]:
        """Shapes, types, precision, calibration, versions, flags, the server and its GPUs."""
        if self.accepts(checkpoints).level is not Level.PASS:
            return ()
        options = TensorrtOptions.of(deployment)
        return findings.checks(deployment, options, checkpoints["model"], host, tools)

    def plan(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> Plan:
        """The steps; see `backends.trt.plan`. Raises `UsageError` for a checkpoint that is not taken."""
        require(self.accepts(checkpoints), self.name, checkpoints["model"])
        options = TensorrtOptions.of(deployment)
        return steps.plan(deployment, options, checkpoints["model"], host, tools)

    def prompts(self, endpoint: Endpoint, model: ModelMetadata) -> PromptAdapter | None:
        """Graphs get the tensor form."""
        return None
