"""Command lines of TensorRT-LLM's programs: conversion, calibrated quantisation, build."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backends.doors.language import BUILT, FAMILIES, READY, Family
from backends.language.trtllm_catalog import catalog
from backends.language.trtllm_options import CALIBRATED, WEIGHT_ONLY, EngineOptions
from console.checkpoints.model import Checkpoint, Format
from console.planning.variables import literal

EXAMPLES = "/app/examples"
"""Where the images from 25.10 on have them."""
VARIANTS = {
    "gpt2": "gpt2", "gpt": "gpt2", "gpt_bigcode": "starcoder", "starcoder": "starcoder",
    "starcoder2": "starcoder2", "persimmon": "persimmon", "kosmos-2": "kosmos-2",
    "nemotron": "nemotron",
}  # fmt: skip
"""What the GPT script calls a family. Left out, it looks for the name in the checkpoint's path."""
PLAIN = {"bf16": "bfloat16", "bfloat16": "bfloat16"}
"""Precisions of a checkpoint that stay; TensorRT-LLM takes 32-bit ones as float16."""


@dataclass(frozen=True, slots=True)
class Part:
    """One engine of a plan: the model's, or that of the draft model which proposes its tokens."""

    options: EngineOptions
    checkpoint: Checkpoint
    name: str = "model"
    drafted: bool = False
    """Whether a draft model proposes tokens to it."""

    @property
    def converted(self) -> str:
        """Template of the folder with the TensorRT-LLM checkpoint; an archive is unpacked to it."""
        if self.checkpoint.format is Format.QNEMO:
            return "${work}/qnemo" + self.suffix
        if self.checkpoint.format in READY:
            return literal(str(self.checkpoint.path))
        return "${work}/trtllm-checkpoint" + self.suffix

    @property
    def engine(self) -> str:
        """Template of the folder that the engine is served from."""
        if self.checkpoint.format in BUILT:
            return literal(str(self.checkpoint.path))
        return "${work}/engine" + self.suffix

    @property
    def suffix(self) -> str:
        return "" if self.name == "model" else f"-{self.name}"


def draft_of(options: EngineOptions, checkpoint: Checkpoint) -> Part:
    """The draft model: the same ranks as the model that it serves, and no quantisation of ours."""
    plain = EngineOptions.model_validate(
        options.model_dump()
        | {"family": "auto", "quantization": "none", "kv_cache_dtype": "auto"}
        | {"moe_tp_size": 0, "moe_ep_size": 0, "max_beam_width": 1, "decoding_mode": "auto"}
        | {"kv_cache_fraction": options.draft_cache_fraction, "max_cache_tokens": 0}
    )
    return Part(plain, checkpoint, "draft")


@dataclass(frozen=True, slots=True)
class Call:
    """A program of the catalog and the words behind it (templates)."""

    program: str
    head: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def argv(self) -> tuple[str, ...]:
        return (*self.head, *self.words)


def family(options: EngineOptions, checkpoint: Checkpoint) -> Family | None:
    """Whose conversion script it is; None where no script takes such a model."""
    if options.family != "auto":
        return options.family
    if checkpoint.format is Format.NEMO:
        return "gpt"
    facts = checkpoint.language
    return FAMILIES.get(facts.family.lower()) if facts else None


def calls(parts: Iterable[Part], version: str) -> tuple[Call, ...]:
    """Every command of a plan, in its order."""
    found = [call for part in parts for call in (convert(part, version), build(part, version))]
    return tuple(call for call in found if call)


def _dtype(part: Part, program: str, version: str, flag: str = "--dtype") -> str:
    """The precision in a word that this version takes: older ones do not know ``auto``."""
    if part.options.dtype != "auto":
        return part.options.dtype
    if catalog().takes(program, flag, version, "auto"):
        return "auto"
    facts = part.checkpoint.language
    return PLAIN.get(facts.dtype, "float16") if facts else "float16"


# ------------------------------------------------------------------------------------ conversion


def convert(part: Part, version: str) -> Call | None:
    """What makes a TensorRT-LLM checkpoint; None where the checkpoint is one, or no script takes it."""
    options = part.options
    of = family(options, part.checkpoint)
    if part.checkpoint.format in READY | BUILT or of is None:
        return None
    program = "quantize" if options.quantization in CALIBRATED else of
    script = f"{literal(options.examples) or EXAMPLES}/{catalog().script(program, version)}"
    words = {"quantize": _quantize, "gemma": _gemma}.get(program, _script)
    return Call(program, ("python3", script), tuple(words(part, program, version)))


def _script(part: Part, program: str, version: str) -> list[str]:
    options = part.options
    words = [*_source(part), "--output_dir", part.converted]
    variant = VARIANTS.get(_named(part))
    if program == "gpt" and variant and part.checkpoint.format is not Format.NEMO:
        words += ["--gpt_variant", variant]
    words += ["--dtype", _dtype(part, program, version)]
    words += ["--tp_size", str(options.tensor_parallel_size)]
    words += ["--pp_size", str(options.pipeline_parallel_size)]
    words += ["--workers", str(options.workers)]
    if options.moe_tp_size:
        words += ["--moe_tp_size", str(options.moe_tp_size)]
        words += ["--moe_ep_size", str(options.moe_ep_size)]
    if options.quantization in WEIGHT_ONLY:
        words += ["--use_weight_only", "--weight_only_precision", options.quantization]
    words += _calibrated(options)
    if options.quantization == "smoothquant":
        words += ["--per_channel", "--per_token"]
    words += ["--use_parallel_embedding"] if options.use_parallel_embedding else []
    words += ["--load_model_on_cpu"] if options.load_model_on_cpu else []
    return words


def _source(part: Part) -> list[str]:
    nemo = part.checkpoint.format is Format.NEMO
    return ["--nemo_ckpt_path" if nemo else "--model_dir", literal(str(part.checkpoint.path))]


def _named(part: Part) -> str:
    """The checkpoint's own family."""
    facts = part.checkpoint.language
    return facts.family.lower() if facts else ""


def _gemma(part: Part, program: str, version: str) -> list[str]:
    """Its script has names of its own, and one size for all ranks."""
    options, model = part.options, literal(str(part.checkpoint.path))
    words = ["--ckpt-type", "hf", "--model-dir", model, "--output-model-dir", part.converted]
    words += ["--world-size", str(options.tensor_parallel_size)]
    words += ["--dtype", _dtype(part, program, version)]
    if options.quantization in WEIGHT_ONLY:
        # Its first name, which later versions keep beside that of the other scripts.
        words += ["--use-weight-only-with-precision", options.quantization]
    words += _calibrated(options)
    words += ["--tokenizer_dir", model] if options.quantization == "smoothquant" else []
    words += ["--load_model_on_cpu"] if options.load_model_on_cpu else []
    return words


def _calibrated(options: EngineOptions) -> list[str]:
    """Quantisation of activations or the cache by the conversion script itself, with samples."""
    words = []
    if options.quantization == "smoothquant":
        words += ["--smoothquant", f"{options.smoothquant:g}"]
    words += ["--int8_kv_cache"] if options.kv_cache_dtype == "int8" else []
    if options.calib_dataset and words:
        words += ["--calib_dataset", literal(options.calib_dataset)]
    return words


def _quantize(part: Part, program: str, version: str) -> list[str]:
    options = part.options
    words = [*_source(part), "--output_dir", part.converted]
    if part.checkpoint.format is Format.NEMO:
        words += ["--decoder_type", "llama" if _named(part) == "llama" else "gptnext"]
    words += ["--qformat", options.quantization, "--dtype", _dtype(part, program, version)]
    words += ["--tp_size", str(options.tensor_parallel_size)]
    words += ["--pp_size", str(options.pipeline_parallel_size)]
    words += ["--calib_size", str(options.calib_size)]
    words += (
        ["--kv_cache_dtype", options.kv_cache_dtype] if options.kv_cache_dtype != "auto" else []
    )
    words += ["--calib_dataset", literal(options.calib_dataset)] if options.calib_dataset else []
    return words


# ------------------------------------------------------------------------------------ the build


def build(part: Part, version: str) -> Call | None:
    """The build; None for an engine that is one already."""
    if part.checkpoint.format in BUILT:
        return None
    options = part.options
    words = ["--checkpoint_dir", part.converted, "--output_dir", part.engine]
    words += ["--max_batch_size", str(options.max_batch_size)]
    words += ["--max_input_len", str(options.max_input_len)]
    words += ["--max_beam_width", str(options.max_beam_width)]
    words += ["--max_num_tokens", str(options.max_num_tokens)]
    words += ["--workers", str(options.workers)]
    words += _lengths(part, version)
    words += _plugins(part, version)
    words += ["--context_fmha", "enable" if options.context_fmha else "disable"]
    if options.kv_cache_reuse or options.chunked_context or part.drafted:
        words += ["--use_paged_context_fmha", "enable"]
    if options.tokens_per_block:
        words += ["--tokens_per_block", str(options.tokens_per_block)]
    if part.drafted:
        words += ["--speculative_decoding_mode", "draft_tokens_external"]
        words += ["--max_draft_len", str(options.draft_tokens)]
    words += ["--fast_build"] if options.fast_build else []
    return Call("trtllm-build", ("trtllm-build",), tuple(words))


def _lengths(part: Part, version: str) -> list[str]:
    """Up to 0.10 the answer's length is given, after that the sum of prompt and answer; and up to
    0.11 the build takes the parallel sizes, which later ones read from the checkpoint."""
    options, words = part.options, []
    if catalog().takes("trtllm-build", "--max_seq_len", version):
        words += ["--max_seq_len", str(options.max_seq_len)] if options.max_seq_len else []
    else:
        answer = options.max_seq_len - options.max_input_len if options.max_seq_len else 1024
        words += ["--max_output_len", str(answer)]
    if (
        catalog().takes("trtllm-build", "--tp_size", version)
        and part.checkpoint.format not in READY
    ):
        words += ["--tp_size", str(options.tensor_parallel_size)]
        words += ["--pp_size", str(options.pipeline_parallel_size)]
    return words


def _plugins(part: Part, version: str) -> list[str]:
    """What in-flight batching needs: the attention plugin, a paged cache and no padding."""
    attention = _dtype(part, "trtllm-build", version, "--gpt_attention_plugin")
    words = ["--gpt_attention_plugin", attention, "--remove_input_padding", "enable"]
    if catalog().takes("trtllm-build", "--kv_cache_type", version):
        words += ["--kv_cache_type", "paged"]
    else:
        words += ["--paged_kv_cache", "enable"]
    gemm: str = part.options.gemm_plugin
    if gemm == "auto":
        gemm = _dtype(part, "trtllm-build", version, "--gemm_plugin")
    return words + (["--gemm_plugin", gemm] if gemm != "default" else [])
