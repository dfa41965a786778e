"""Verdicts of the two TensorRT-LLM routes: versions, flags, GPUs, layout, memory, tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from backends.doors.language import BUILT, READY
from backends.language import trtllm_plan
from backends.language.common import code_checks, layout_checks, memory_checks
from backends.language.trtllm_argv import Part, calls, convert, family
from backends.language.trtllm_catalog import catalog, flag_checks, image_of, numbers, tag_of
from backends.language.trtllm_options import (
    CALIBRATED,
    EngineOptions,
    LlmapiOptions,
    TrtllmOptions,
)
from backends.language.trtllm_repository import TOKENIZER, tokenizer_folder
from backends.upstream import flags
from console.checkpoints.model import Checkpoint
from console.facts import Gpu, Host, Level, Verdict
from console.planning.deployment import Deployment
from console.text import clean

CAPABILITY = {
    "fp8": ((8, 9), "Ada or Hopper"),
    "w4a8_awq": ((8, 9), "Ada or Hopper"),
    "nvfp4": ((10, 0), "Blackwell"),
}
"""Least compute capability of a quantisation (TensorRT-LLM's support matrix of precisions)."""
OLDEST = (8, 0)
"""Ampere: Volta went with 0.16, and no image of the catalog names an older one."""


_CUT = ("use_parallel_embedding", "moe_tp_size", "moe_ep_size")
_MODEL = (
    "family", "quantization", "kv_cache_dtype", "moe_tp_size", "moe_ep_size", "smoothquant",
    "calib_dataset", "calib_size",
)  # fmt: skip
"""Of a conversion, and not of a draft model's."""
_CONVERSION = ("load_model_on_cpu", "examples", "use_parallel_embedding")
_BUILD = (
    "dtype", "workers", "max_input_len", "max_num_tokens", "gemm_plugin", "context_fmha",
    "fast_build", "tokens_per_block",
)  # fmt: skip
_DRAFT = ("draft_tokens", "draft_cache_fraction", "draft_instances")


def place(deployment: Deployment, options: TrtllmOptions) -> Iterator[Verdict]:
    """Whether the chosen server can have TensorRT-LLM, and which it is."""
    data = catalog()
    newest = f"{data.engine_last}{data.suffix}"
    deployment = trtllm_plan.seated(deployment)
    server = deployment.server
    if server.launcher not in ("container", "local"):
        yield Verdict(
            "trtllm-server",
            Level.FAIL,
            "TensorRT-LLM models are not built for an attached server",
            "an engine and a model.yaml belong to the server's own versions and files",
            fix=f'launcher = "container" with image = "{newest}"',
            option="server.launcher",
        )
        return
    version = trtllm_plan.version_of(deployment, options)
    image = image_of(deployment)
    if version:
        told = f"TensorRT {image.tensorrt}, CUDA {image.cuda}" if image else ""
        source = data.source if image and not options.tensorrt_llm else "options.tensorrt_llm"
        yield Verdict("trtllm-version", Level.PASS, f"TensorRT-LLM {clean(version)}", told, source)
    else:
        local = server.launcher == "local"
        yield Verdict(
            "trtllm-version",
            Level.UNKNOWN,
            "nothing tells which TensorRT-LLM is installed here"
            if local
            else "this image's tag does not tell its TensorRT-LLM",
            source=data.source,
            fix=f'choose image = "{newest}"'
            if not local
            else "set tensorrt_llm to what python3 -c 'import tensorrt_llm' says",
            option="options.tensorrt_llm" if local else "server.image",
        )


def engine(deployment: Deployment, parts: tuple[Part, ...], host: Host) -> Iterator[Verdict]:
    """Everything that stands in the way of the engine route."""
    part = parts[0]
    yield from place(deployment, part.options)
    deployment = trtllm_plan.seated(deployment)
    version = trtllm_plan.version_of(deployment, part.options)
    data, tag = catalog(), tag_of(deployment)
    if tag > data.engine_last:
        yield Verdict(
            "trtllm-engine-route",
            Level.FAIL,
            f"images after {data.engine_last} are not known to have the engine route",
            tag,
            data.source,
            f"use {data.engine_last}{data.suffix}, or the backend trtllm-llmapi",
            "server.image",
        )
    yield from _scripts(deployment, parts, tag)
    yield from _code(parts)
    for call in calls(parts, version):
        yield from flag_checks(call.program, call.words, version, "server.image")
    yield from _unused(parts, version)
    yield from _fixed(part)
    if part.checkpoint.format in BUILT:
        yield from _match(deployment, part.options, part.checkpoint)
    yield from _tokenizer(part)
    yield from gpus(part.options, part.checkpoint, host, part.options.quantization, _beside(parts))
    if len(parts) > 1:
        yield from _draft(parts[0], parts[1])


def _code(parts: tuple[Part, ...]) -> Iterator[Verdict]:
    """Code of a checkpoint: the conversion scripts let transformers run it and ask nobody."""
    trusted = parts[0].options.trust_remote_code
    for part in parts:
        if not any(risk.code == "remote-code" for risk in part.checkpoint.risks):
            continue
        yield Verdict(
            "remote-code",
            Level.WARN if trusted else Level.FAIL,
            "Python code from the checkpoint's folder will be run",
            clean(part.checkpoint.path.name),
            "auto_map in config.json; upstream's scripts set trust_remote_code",
            "read that code; then set trust_remote_code = true, or take it out of config.json",
            "options.trust_remote_code",
        )


def _unused(parts: tuple[Part, ...], version: str) -> Iterator[Verdict]:
    """Options of a conversion, a build or a draft model, where there is none or its script has none."""
    part, formats = parts[0], {one.checkpoint.format for one in parts}
    options, call = part.options, convert(part, version)
    if not part.drafted:
        yield from flags.unused(options, _DRAFT, "no draft model is named")
    if part.checkpoint.format in READY | BUILT:
        why = "the checkpoint is converted already"
        yield from flags.unused(options, _MODEL, why)
        if formats <= READY | BUILT:
            yield from flags.unused(options, _CONVERSION, why)
        if formats <= BUILT:
            yield from flags.unused(options, _BUILD, "the engine is built already")
        return
    if call and call.program in ("quantize", "gemma"):
        names = (*_CUT, "load_model_on_cpu") if call.program == "quantize" else _CUT
        yield from flags.unused(options, names, f"{call.program}'s script is not told of it")
    if options.quantization != "smoothquant":
        yield from flags.unused(options, ["smoothquant"], "it is for quantization = smoothquant")
    if options.quantization not in CALIBRATED:
        yield from flags.unused(options, ["calib_size"], "quantize.py does not run")
        if options.quantization != "smoothquant" and options.kv_cache_dtype != "int8":
            yield from flags.unused(options, ["calib_dataset"], "nothing is calibrated")


def _tokenizer(part: Part) -> Iterator[Verdict]:
    """Whether text can become tokens."""
    folder = tokenizer_folder(part)
    inside = folder == TOKENIZER
    if folder and not inside:
        return
    yield Verdict(
        "tokenizer",
        Level.UNKNOWN if inside else Level.FAIL,
        "whether the archive holds its tokenizer is known when it is opened"
        if inside
        else "no tokenizer is known: text cannot become tokens",
        clean(part.checkpoint.path.name),
        fix="name a folder with tokenizer.json",
        option="options.tokenizer",
    )


def _beside(parts: tuple[Part, ...]) -> int:
    """Bytes that the draft model takes of each GPU: weights and buffers, and its own cache."""
    wanted = [trtllm_plan.need_of(part.options, part.checkpoint) for part in parts[1:]]
    return sum(one.fixed for one in wanted if one)


def _draft(model: Part, draft: Part) -> Iterator[Verdict]:
    """Whether the draft model can propose tokens to this engine."""
    layout = trtllm_plan.layout_of(model.options, model.checkpoint)
    theirs = trtllm_plan.layout_of(draft.options, draft.checkpoint)
    if theirs != layout:
        yield Verdict(
            "draft-model",
            Level.FAIL,
            "the draft model is cut for other parallel sizes than the model",
            f"tensor {theirs.tensor}, pipeline {theirs.pipeline}; the server has one process for "
            f"each of {layout.world} ranks",
            "TensorRT-LLM: the MPI world size is tensor × pipeline parallel size",
            "convert the draft model to the sizes of the model",
            "options.tensor_parallel_size",
        )
    ours, other = model.checkpoint.language, draft.checkpoint.language
    if ours and other and ours.vocabulary_size != other.vocabulary_size:
        yield Verdict(
            "draft-model",
            Level.WARN,
            "model and draft model have vocabularies of different sizes",
            f"{ours.vocabulary_size} and {other.vocabulary_size}",
            "both checkpoints",
            "take a draft model of the same family: a token must mean the same to both",
        )
    if not model.options.kv_cache_reuse:
        yield Verdict(
            "draft-model",
            Level.FAIL,
            "without cache reuse every round reads the whole text again",
            source="tensorrtllm_backend README: speculative decoding",
            fix="set kv_cache_reuse = true",
            option="options.kv_cache_reuse",
        )
    yield from _room(model, draft)
    if model.checkpoint.format in BUILT:
        built = model.checkpoint.config.get("build_config")
        length = built.get("max_draft_len", 0) if isinstance(built, dict) else 0
        if not isinstance(length, int) or length < model.options.draft_tokens:
            yield Verdict(
                "draft-model",
                Level.FAIL,
                "the engine was built for fewer draft tokens than are proposed",
                f"max_draft_len {clean(str(length))}",
                "the engine's config.json",
                "build it again with a draft model, or propose fewer tokens",
                "options.draft_tokens",
            )


def _room(model: Part, draft: Part) -> Iterator[Verdict]:
    """Several ranks load both engines at once: neither may count on what the other leaves."""
    both = model.options.kv_cache_fraction + draft.options.kv_cache_fraction
    if model.options.world > 1 and both > 0.95:
        yield Verdict(
            "draft-model",
            Level.FAIL,
            "the caches of both engines together take more than there is",
            f"fractions of {model.options.kv_cache_fraction:g} and "
            f"{draft.options.kv_cache_fraction:g}",
            "ranks under mpirun load their models at the same time",
            f"set kv_cache_fraction = {0.95 - draft.options.kv_cache_fraction:.2g} or less",
            "options.kv_cache_fraction",
        )


def llmapi(
    deployment: Deployment, options: LlmapiOptions, checkpoint: Checkpoint, host: Host
) -> Iterator[Verdict]:
    """Everything that stands in the way of the LLM API."""
    yield from place(deployment, options)
    version, data = trtllm_plan.version_of(deployment, options), catalog()
    if version and numbers(version) < numbers(data.llmapi_first):
        yield Verdict(
            "trtllm-llmapi-route",
            Level.FAIL,
            f"the LLM API with PyTorch serves from TensorRT-LLM {data.llmapi_first} on",
            clean(version),
            data.source,
            "use an image of 25.09 or later, or the backend trtllm-engine",
            "server.image",
        )
    yield from code_checks(checkpoint, options.trust_remote_code)
    yield from gpus(options, checkpoint, host, "fp8" if options.kv_cache_dtype == "fp8" else "")


def gpus(
    options: EngineOptions | LlmapiOptions,
    checkpoint: Checkpoint,
    host: Host,
    quantised: str,
    beside: int = 0,
) -> Iterator[Verdict]:
    """Whether there are GPUs that can, enough of them, and with enough memory; `beside` are bytes of
    each GPU that another engine takes."""
    if not host.gpus:
        yield Verdict(
            "gpu",
            Level.FAIL,
            "TensorRT-LLM needs a GPU, and there is none here",
            clean(host.gpu_note),
            fix="run this on a machine with NVIDIA GPUs",
        )
        return
    layout = trtllm_plan.layout_of(options, checkpoint)
    used = host.gpus[: layout.a_node]
    yield from _capable(used, quantised)
    yield from layout_checks(checkpoint, layout, host)
    wanted = trtllm_plan.need_of(options, checkpoint)
    if wanted is not None:
        # The fraction is of what the weights leave, so weights alone may take all.
        facts = checkpoint.language
        length = options.max_seq_len or (facts.max_positions if facts else 0)
        wanted = replace(wanted, context=wanted.context + beside)
        fraction = options.kv_cache_fraction
        yield from memory_checks(wanted, host.gpus, layout, fraction=fraction, length=length)


def _capable(used: tuple[Gpu, ...], quantised: str) -> Iterator[Verdict]:
    least, whose = CAPABILITY.get(quantised, (OLDEST, "Ampere"))
    for gpu in used:
        if gpu.compute_capability is None or gpu.compute_capability >= least:
            continue
        has = ".".join(map(str, gpu.compute_capability))
        what = quantised if quantised in CAPABILITY else "TensorRT-LLM"
        yield Verdict(
            "gpu-architecture",
            Level.FAIL,
            f"{what} needs a GPU of {whose} or later",
            f"GPU {gpu.index} ({clean(gpu.name)}) has compute capability {has}",
            "TensorRT-LLM's support matrix",
            "use no quantisation, int8 or int4" if quantised in CAPABILITY else "use another GPU",
            "options.quantization" if quantised in CAPABILITY else "",
        )


def _scripts(deployment: Deployment, parts: tuple[Part, ...], tag: str) -> Iterator[Verdict]:
    """Where the conversion scripts come from."""
    given = all(part.checkpoint.format in READY | BUILT for part in parts)
    if given or parts[0].options.examples:
        return
    data = catalog()
    if deployment.server.launcher == "container" and tag and tag < data.examples_first:
        yield Verdict(
            "trtllm-examples",
            Level.FAIL,
            f"the image {tag} carries no conversion scripts",
            source=data.source,
            fix=f"name a folder with TensorRT-LLM's examples of that version, or use an image of "
            f"{data.examples_first} or later",
            option="options.examples",
        )


def _fixed(part: Part) -> Iterator[Verdict]:
    """Parallel sizes that the checkpoint was saved with, or that its family has none of."""
    options = part.options
    layout = trtllm_plan.layout_of(options, part.checkpoint)
    if family(options, part.checkpoint) == "gemma" and layout.pipeline > 1:
        yield Verdict(
            "parallelism-fixed",
            Level.FAIL,
            "the conversion script of gemma cuts no pipeline stages",
            f"pipeline parallel {layout.pipeline}",
            catalog().source,
            "set pipeline_parallel_size = 1",
            "options.pipeline_parallel_size",
        )
    if layout == options.layout:
        return
    yield Verdict(
        "parallelism-fixed",
        Level.WARN if options.layout.world == 1 else Level.FAIL,
        f"the checkpoint fixes tensor parallel {layout.tensor}, pipeline parallel {layout.pipeline}",
        source="its config.json",
        fix=f"set tensor_parallel_size = {layout.tensor}, pipeline_parallel_size = {layout.pipeline}",
        option="options.tensor_parallel_size",
    )


def _match(
    deployment: Deployment, options: EngineOptions, checkpoint: Checkpoint
) -> Iterator[Verdict]:
    """An engine that was built elsewhere against what will load it."""
    built, image = checkpoint.engine, image_of(deployment)
    if built is None:
        return
    pairs = [("TensorRT-LLM", built.version, trtllm_plan.version_of(deployment, options))]
    pairs.append(("TensorRT", built.tensorrt, image.tensorrt if image else ""))
    for what, of_engine, here in pairs:
        if not of_engine or not here:
            yield Verdict(
                "engine-version",
                Level.UNKNOWN,
                f"nothing tells whether the engine's {what} is the server's",
                f"engine: {clean(of_engine) or 'unknown'}, server: {clean(here) or 'unknown'}",
                "the engine's config.json and plan header",
                option="server.image",
            )
            continue
        size = min(len(numbers(of_engine)), len(numbers(here)))
        same = numbers(of_engine)[:size] == numbers(here)[:size]
        yield Verdict(
            "engine-version",
            Level.PASS if same else Level.FAIL,
            f"the engine's {what} is the server's"
            if same
            else f"the engine was built with another {what}: the server will refuse it",
            f"engine: {clean(of_engine)}, server: {clean(here)}",
            "the engine's config.json and plan header",
            "" if same else _other_image(what, of_engine),
            "" if same else "server.image",
        )


def _other_image(what: str, version: str) -> str:
    data = catalog()
    key = "tensorrt_llm" if what == "TensorRT-LLM" else "tensorrt"
    fits = [tag for tag, image in data.images.items() if getattr(image, key) == version]
    if not fits:
        return "build it again in the image that serves it"
    return f"use the image {fits[-1]}{data.suffix}, or build it again in this one"
