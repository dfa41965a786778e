"""The in-framework route: PyTorch itself generates, PyTriton serves; nothing is built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from backends.base import Backend, BackendOptions, Checkpoints, MemoryEstimate
from backends.doors.language import NEMO, InFrameworkDoor
from backends.language import in_framework_nodes, in_framework_plan
from backends.language import in_framework_script as upstream
from backends.language.common import (
    FAILED,
    code_checks,
    layout_checks,
    memory_checks,
    spread,
)
from backends.language.in_framework_options import InFrameworkOptions
from backends.upstream import flags, generations
from console.checkpoints.model import Checkpoint, Format
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
from console.planning.deployment import Deployment
from console.planning.parallelism import Spread
from console.planning.plan import EnvironmentSpec, Plan
from console.prompts import Names, Style
from console.text import clean

GIB = 1 << 30
FRACTION = 0.95
"""Of a GPU's memory that PyTorch may fill: it takes what it needs, and no cache beforehand."""
TENSORS = Names(prompt="prompts", text="sentences", stream="", length="max_length")
"""What upstream's in-framework models call the parts of a request (NeMo 24.07 and later)."""


class InFrameworkBackend(InFrameworkDoor, Backend):
    """Hugging Face, NeMo or Megatron → PyTorch in PyTriton → tensors and OpenAI's protocol."""

    Options: ClassVar[type[BackendOptions]] = InFrameworkOptions

    def own_server(self, deployment: Deployment) -> bool:
        """PyTriton starts its own Triton."""
        return True

    def suggest(self, checkpoints: Checkpoints, host: Host) -> InFrameworkOptions:
        """Our worker for Hugging Face models, on the CPU without a GPU; the script for the others,
        of the last generation that takes them."""
        checkpoint = checkpoints["model"]
        if checkpoint.format is Format.MEGATRON:
            return InFrameworkOptions(form="script")
        if checkpoint.format is Format.NEMO2:
            return InFrameworkOptions(form="script", image="nvcr.io/nvidia/nemo:25.11")
        if checkpoint.format is Format.NEMO:
            return InFrameworkOptions(form="script", image="nvcr.io/nvidia/nemo:24.12")
        return InFrameworkOptions(device="cuda" if host.gpus else "cpu")

    def needs(self, deployment: Deployment) -> tuple[EnvironmentSpec, ...]:
        return in_framework_plan.environments(deployment, InFrameworkOptions.of(deployment))

    def memory(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host
    ) -> MemoryEstimate | None:
        """On the CPU: 0.9 GB of processes were seen with a tiny model, and the weights."""
        options = InFrameworkOptions.of(deployment)
        checkpoint = checkpoints["model"]
        if options.device == "cpu":
            serve = GIB + checkpoint.size * (2 if options.dtype == "float32" else 1)
            return MemoryEstimate(
                host_serve=serve, source="Export-Deploy 0.4 on a CPU, and weights"
            )
        wanted = in_framework_plan.need_of(options, checkpoint)
        if wanted is None:
            return None
        return MemoryEstimate(
            host_serve=2 * GIB, gpu_serve=(wanted.fixed,) * options.ranks, source=wanted.source
        )

    def spread(self, deployment: Deployment, checkpoints: Checkpoints) -> Spread | None:
        """PyTorch takes memory as it needs it."""
        options, checkpoint = InFrameworkOptions.of(deployment), checkpoints["model"]
        if options.device == "cpu":
            return None
        return spread(
            checkpoint,
            in_framework_plan.layout_of(options),
            in_framework_plan.need_of(options, checkpoint),
            fraction=FRACTION,
            length=options.inference_max_seq_length,
        )

    def checks(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> tuple[Verdict, ...]:
        """The generation and its flags, layout and memory of each GPU, code of the checkpoint."""
        if self.accepts(checkpoints).level is not Level.PASS:
            return ()
        options = InFrameworkOptions.of(deployment)
        checkpoint = checkpoints["model"]
        trusted = options.trust_remote_code and checkpoint.format not in NEMO
        found = list(code_checks(checkpoint, trusted))
        if options.form == "script":
            found += _generation(deployment, options, checkpoint)
            if all(verdict.level is not Level.FAIL for verdict in found):
                found += in_framework_nodes.checks(deployment, options, checkpoint)
        else:
            found += _worker(options, checkpoint)
        found += _unused(options, checkpoint)
        if options.device == "cuda":
            found += _gpus(options, checkpoint, host)
        found += _speed(options, checkpoint)
        return tuple(found)

    def plan(
        self, deployment: Deployment, checkpoints: Checkpoints, host: Host, tools: ToolFacts
    ) -> Plan:
        return in_framework_plan.plan(
            deployment, InFrameworkOptions.of(deployment), checkpoints["model"]
        )

    def prompts(self, endpoint: Endpoint, model: ModelMetadata) -> PromptAdapter | None:
        """Conversations at the front; a text for upstream's model with its tensors at Triton."""
        if endpoint.kind == "openai":
            return TextForm(model.name)
        inputs = frozenset(tensor.name for tensor in model.inputs)
        if TENSORS.prompt not in inputs or TENSORS.text not in {t.name for t in model.outputs}:
            return None
        return TextForm(
            model.name, Style.GENERATE, TENSORS, stream=False, declared=inputs, never=FAILED
        )


def _worker(options: InFrameworkOptions, checkpoint: Checkpoint) -> Iterator[Verdict]:
    if checkpoint.format in NEMO:
        yield Verdict(
            "in-framework-form",
            Level.FAIL,
            "the worker serves Hugging Face folders: Megatron's packages build only in a container",
            clean(checkpoint.title),
            "nemo_deploy.llm.hf_deployable",
            "set form = script",
            "options.form",
        )
    elif options.ranks > 1:
        yield Verdict(
            "in-framework-form",
            Level.FAIL,
            "the worker is one process, which spreads layers by its device map",
            source="nemo_deploy.llm.hf_deployable",
            fix="use parallel sizes of 1 and a device map, or form = script",
            option="options.tensor_parallel_size",
        )


_OF_NEMO = (
    "context_parallel_size", "expert_model_parallel_size", "expert_tensor_parallel_size",
    "sequence_parallel", "num_layers_in_first_pipeline_stage", "num_layers_in_last_pipeline_stage",
    "account_for_embedding_in_pipeline_split", "account_for_loss_in_pipeline_split",
    "inference_max_seq_length", "micro_batch_size", "enable_flash_decode", "enable_cuda_graphs",
    "model_type", "legacy_ckpt", "legacy_model_format",
)  # fmt: skip
_OF_HUGGING_FACE = ("dtype", "device_map", "tp_plan", "trust_remote_code")


def _unused(options: InFrameworkOptions, checkpoint: Checkpoint) -> Iterator[Verdict]:
    """Options for the other form, for several nodes or for the other kind of checkpoint, and sizes that
    a Hugging Face model is not cut by."""
    if options.form == "worker":
        yield from flags.unused(options, ("image", "generation"), "it is for form = script")
        if options.device == "cpu":
            yield from flags.unused(options, ["device_map"], "device = cpu is one device")
    if options.num_nodes == 1:
        yield from flags.unused(options, ("master_address", "master_port"), "there is one node")
    if checkpoint.format in NEMO:
        why = f"{upstream.MEGATRON.rpartition('/')[2]} does not take it"
        yield from flags.unused(options, _OF_HUGGING_FACE, why)
        return
    yield from flags.unused(options, _OF_NEMO, "it is for NeMo and Megatron checkpoints")
    if options.form == "script":
        cut = () if options.tp_plan else ("tensor_parallel_size",)
        why = "layers are spread by the device map, or cut by tp_plan"
        yield from flags.unused(options, (*cut, "pipeline_parallel_size"), why)


def _generation(
    deployment: Deployment, options: InFrameworkOptions, checkpoint: Checkpoint
) -> Iterator[Verdict]:
    """Whether the image's generation has the route, takes the format and every planned flag."""
    try:
        name = upstream.generation_of(options)
    except UsageError as error:
        yield generations.undecided(error)
        return
    yield generations.verdict(upstream.route_of(checkpoint), name)
    if span := _TAKEN.get(checkpoint.format):
        fix = "export it to Hugging Face format"
        yield generations.reads("in-framework-format", checkpoint.title, name, span, fix=fix)
    words = upstream.arguments(deployment.served_name, options, checkpoint, name)
    yield from flags.compare_known(words, upstream.script_of(checkpoint), name)
    if not upstream.has_front(checkpoint, name):
        why = "this generation's script has no OpenAI-compatible front"
        yield from flags.unused(options, ["triton_port"], why)
    if checkpoint.format in NEMO:
        yield _nemo_eval(name)


_TAKEN = {
    Format.NEMO: ("nemo-24.07", "nemo-24.12"),
    Format.NEMO2: ("nemo-25.02", "ed-0.3"),
    Format.MEGATRON: ("ed-0.2", "ed-main"),
}
"""Format to the first and the last generation whose script loads it."""


def _nemo_eval(name: str) -> Verdict:
    """`nemo_eval.api.deploy`, which operators know from the guide, against this generation."""
    one = name in ("nemo-25.07", "ed-0.1", "ed-0.2")
    return Verdict(
        "nemo-eval",
        Level.PASS,
        "nemo_eval.api.deploy would start the same server here: this script is what it calls"
        if one
        else "nemo_eval.api.deploy does not run here: the script takes its place",
        "one release, 0.1.0, which fits Export-Deploy 0.1 and 0.2",
        "nemo-eval 0.1.0; removed before nemo-evaluator",
        "health is at /v1/health; num_gpus counts the GPUs of one node; there is no log_level",
    )


def _gpus(options: InFrameworkOptions, checkpoint: Checkpoint, host: Host) -> Iterator[Verdict]:
    if not host.gpus:
        yield Verdict(
            "gpu",
            Level.FAIL,
            "there is no GPU here",
            clean(host.gpu_note),
            fix="set form = worker and device = cpu to try a small model without one",
            option="options.device",
        )
        return
    layout = in_framework_plan.layout_of(options)
    if options.ranks > 1:
        yield from layout_checks(checkpoint, layout, host)
    wanted = in_framework_plan.need_of(options, checkpoint)
    if wanted is not None and not (options.form == "worker" and len(host.gpus) > 1):
        length = options.inference_max_seq_length
        yield from memory_checks(wanted, host.gpus, layout, fraction=FRACTION, length=length)


def _speed(options: InFrameworkOptions, checkpoint: Checkpoint) -> Iterator[Verdict]:
    """What to do when it is slow or takes much memory, where something can be done."""
    facts = checkpoint.language
    kept = facts.dtype if facts and options.dtype == "auto" else options.dtype
    chosen = checkpoint.format not in NEMO and options.device == "cuda"
    if chosen and kept in ("fp32", "float32"):
        yield Verdict(
            "in-framework-speed",
            Level.WARN,
            "32-bit weights take twice the memory and more than twice the time",
            "the checkpoint's own" if options.dtype == "auto" else "",
            fix="set dtype = bfloat16",
            option="options.dtype",
        )
    wanted = options.inference_max_seq_length
    if facts and facts.max_positions and wanted > facts.max_positions:
        yield Verdict(
            "in-framework-speed",
            Level.WARN,
            "memory is kept for sequences that are longer than the model knows",
            f"{wanted} tokens, the model has {facts.max_positions} positions",
            fix=f"allow at most {facts.max_positions} tokens",
            option="options.inference_max_seq_length",
        )
    if checkpoint.format in NEMO and not options.enable_cuda_graphs:
        yield Verdict(
            "cuda-graphs",
            Level.PASS,
            "CUDA graphs are off, as upstream has them",
            source="--enable_cuda_graphs, from Export-Deploy 0.1 on",
            fix="switch them on where inference is slow and memory allows",
            option="options.enable_cuda_graphs",
        )
    if checkpoint.format is Format.HUGGING_FACE:
        yield Verdict(
            "in-framework-speed",
            Level.PASS,
            "PyTorch generates batch by batch: no CUDA graphs, no paged cache",
            "right answers at a fraction of an engine's speed",
            "nemo_deploy.llm.hf_deployable",
            "raise max_batch_size for many short requests, or take the vllm route",
            "options.max_batch_size",
        )
