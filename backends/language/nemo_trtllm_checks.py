"""Verdicts of the NeMo TensorRT-LLM route: generation, flags, folder, FP8, memory, open ports."""

from __future__ import annotations

from collections.abc import Iterator

from backends.language import nemo_trtllm_words as words
from backends.language.common import language, layout_checks, memory_checks
from backends.language.nemo_trtllm_words import Call
from backends.upstream import generations, place_checks, trtllm_api
from console.checkpoints.model import Format
from console.facts import Host, Level, ToolFacts, Verdict
from console.planning.language_memory import USABLE, Need, need
from console.text import clean

FP8_FROM = (8, 9)
"""Compute capability of Ada; Hopper has 9.0."""
SOURCE = "NVIDIA's CUDA programming guide: FP8 from compute capability 8.9 on"


_BUILD = (
    "opt_num_tokens", "no_paged_kv_cache", "disable_remove_input_padding", "use_parallel_embedding",
    "multiple_profiles", "gpt_attention_plugin", "gemm_plugin", "use_lora_plugin",
    "lora_target_modules", "max_lora_rank",
)  # fmt: skip


def need_of(call: Call) -> Need | None:
    """What each GPU needs; None where the checkpoint does not tell its geometry."""
    facts = language(call.checkpoint)
    if facts is None:
        return None
    options = call.options
    weights = facts.quantisation or options.dtype
    if options.export_fp8_quantized != "auto":
        weights = "fp8" if options.export_fp8_quantized == "true" else options.dtype
    cache = {"true": "fp8", "false": options.dtype}.get(options.use_fp8_kv_cache, "")
    step = options.max_num_tokens or min(8192, options.max_batch_size * options.max_input_len)
    return need(
        facts,
        options.layout,
        weights=weights,
        cache=cache or ("fp8" if facts.kv_quantisation == "fp8" else options.dtype),
        step_tokens=step,
        counted=call.checkpoint.parameters,
    )


def checks(call: Call, host: Host, tools: ToolFacts) -> Iterator[Verdict]:
    """Every verdict of this route, the cheap and decisive ones first."""
    yield generations.verdict(call.route if call.script else words.SERVE_ROUTE, call.generation)
    yield from place_checks.found(call, tools)
    yield from place_checks.runnable(call)
    yield from _flags(call, tools)
    yield from place_checks.unused(
        call,
        build=_BUILD,
        serving=("model_version", "request_timeout"),
        script=("scripts_root", "request_timeout", "debug_mode")
        if call.options.mode != "export"
        else ("scripts_root", "debug_mode"),
    )
    yield from _model(call)
    yield from place_checks.emptied(call)
    yield from _fp8(call, host)
    yield from _gpus(call, host)


def _flags(call: Call, tools: ToolFacts) -> Iterator[Verdict]:
    """The planned words against what upstream takes."""
    if not generations.has(words.SERVE_ROUTE, call.generation):
        return
    if call.script:
        yield from place_checks.accepted(call, tools)
        return
    source = f"backends/catalog/trtllm_api.toml of {trtllm_api.catalog().date}"
    yield from place_checks.arguments(call, source)


def _model(call: Call) -> Iterator[Verdict]:
    if call.options.mode == "load" or words.model_type(call.options, call.checkpoint):
        return
    family = call.checkpoint.language.family if call.checkpoint.language else ""
    yield Verdict(
        "model-type",
        Level.FAIL,
        "upstream has no model type for this checkpoint",
        clean(family) or "it does not tell its family",
        "the model table of NeMo's TensorRT-LLM guide",
        "set model_type when you know that it is one of them, or take vllm",
        "options.model_type",
    )


def wants_fp8(call: Call) -> str:
    """Why FP8 is needed, in words, or empty."""
    options, facts = call.options, call.checkpoint.language
    if options.dtype == "fp8":
        return "dtype = fp8"
    if "true" in (options.export_fp8_quantized, options.use_fp8_kv_cache):
        return "FP8 is asked for"
    trained = facts is not None and "fp8" in facts.quantisation
    fixed = call.checkpoint.format in (Format.QNEMO, Format.TRTLLM_ENGINE)
    if trained and (fixed or options.export_fp8_quantized == "auto"):
        return "the checkpoint is in FP8"
    if facts is not None and facts.kv_quantisation == "fp8" and options.use_fp8_kv_cache == "auto":
        return "the checkpoint has an FP8 cache"
    return ""


def _fp8(call: Call, host: Host) -> Iterator[Verdict]:
    why = wants_fp8(call)
    if not why or not host.gpus:
        return
    used = host.gpus[: call.options.layout.a_node]
    old = [gpu for gpu in used if gpu.compute_capability and gpu.compute_capability < FP8_FROM]
    unknown = [gpu for gpu in used if gpu.compute_capability is None]
    if old:
        major, minor = old[0].compute_capability or (0, 0)
        yield Verdict(
            "compute-capability",
            Level.FAIL,
            f"{why}, and GPU {old[0].index} ({clean(old[0].name)}) cannot compute it",
            f"{major}.{minor}, and FP8 needs 8.9 (Ada) or 9.0 (Hopper)",
            SOURCE,
            "set export_fp8_quantized = false, or use an Ada, Hopper or later GPU",
            "options.export_fp8_quantized",
        )
    elif unknown:
        yield Verdict(
            "compute-capability",
            Level.UNKNOWN,
            f"{why}, and GPU {unknown[0].index} does not tell its compute capability",
            source=SOURCE,
            fix="FP8 needs an Ada, Hopper or later GPU",
        )
    else:
        yield Verdict(
            "compute-capability", Level.PASS, f"{why}; the GPUs compute it", source=SOURCE
        )


def _gpus(call: Call, host: Host) -> Iterator[Verdict]:
    if not host.gpus:
        yield Verdict(
            "gpu",
            Level.FAIL,
            "TensorRT-LLM needs a GPU, and there is none here",
            clean(host.gpu_note),
            fix="plan it here and run the script where the GPUs are",
        )
        return
    options = call.options
    yield from layout_checks(call.checkpoint, options.layout, host)
    wanted = need_of(call)
    if wanted is not None:
        yield from memory_checks(
            wanted, host.gpus, options.layout, fraction=USABLE, length=options.sequence
        )
