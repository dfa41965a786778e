"""Command lines of TensorRT-LLM's programs: conversion, calibrated quantisation, build."""

from __future__ import annotations

from dataclasses import dataclass

from backends.doors.language import BUILT, FAMILIES, READY, Family
from backends.language.trtllm_catalog import catalog
from backends.language.trtllm_options import CALIBRATED, WEIGHT_ONLY, EngineOptions
from console.checkpoints.model import Checkpoint, Format
from console.planning.variables import literal

EXAMPLES = "/app/examples"
"""Where the images from 25.10 on have them."""
CONVERTED = "${work}/trtllm-checkpoint"
ENGINE = "${work}/engine"


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


def convert(options: EngineOptions, checkpoint: Checkpoint, version: str) -> Call | None:
    """What makes a TensorRT-LLM checkpoint; None where the checkpoint is one, or no script takes it."""
    if checkpoint.format in READY | BUILT:
        return None
    of = family(options, checkpoint)
    if of is None:
        return None
    program = "quantize" if options.quantization in CALIBRATED else of
    script = f"{literal(options.examples) or EXAMPLES}/{catalog().script(program, version)}"
    model = literal(str(checkpoint.path))
    words = {
        "quantize": _quantize,
        "gemma": _gemma,
    }.get(program, _script)(options, checkpoint, model, of)
    return Call(program, ("python3", script), tuple(words))


def _script(
    options: EngineOptions, checkpoint: Checkpoint, model: str, of: Family
) -> tuple[str, ...]:
    source = "--nemo_ckpt_path" if checkpoint.format is Format.NEMO else "--model_dir"
    words = [
        source,
        model,
        f"--output_dir={CONVERTED}",
        f"--dtype={options.dtype}",
        f"--tp_size={options.tensor_parallel_size}",
        f"--pp_size={options.pipeline_parallel_size}",
        f"--workers={options.workers}",
    ]
    if options.moe_tp_size:
        words += [f"--moe_tp_size={options.moe_tp_size}", f"--moe_ep_size={options.moe_ep_size}"]
    words += _quantised(options)
    if options.use_parallel_embedding:
        words.append("--use_parallel_embedding")
    if options.load_model_on_cpu:
        words.append("--load_model_on_cpu")
    return tuple(words)


def _gemma(
    options: EngineOptions, checkpoint: Checkpoint, model: str, of: Family
) -> tuple[str, ...]:
    """Its script has names of its own, and one size for all ranks."""
    words = [
        "--ckpt-type=hf",
        "--model-dir",
        model,
        f"--output-model-dir={CONVERTED}",
        f"--world-size={options.tensor_parallel_size}",
        f"--dtype={options.dtype if options.dtype != 'auto' else 'bfloat16'}",
        *(word for word in _quantised(options) if word not in ("--per_channel", "--per_token")),
    ]
    if options.quantization == "smoothquant":
        words += ["--tokenizer_dir", model]
    if options.load_model_on_cpu:
        words.append("--load_model_on_cpu")
    return tuple(words)


def _quantised(options: EngineOptions) -> list[str]:
    """Quantisation by the conversion script itself."""
    words = []
    if options.quantization in WEIGHT_ONLY:
        words += ["--use_weight_only", f"--weight_only_precision={options.quantization}"]
    elif options.quantization == "smoothquant":
        words += [f"--smoothquant={options.smoothquant:g}", "--per_channel", "--per_token"]
    if options.kv_cache_dtype == "int8":
        words.append("--int8_kv_cache")
    if options.calib_dataset and (
        options.quantization == "smoothquant" or "--int8_kv_cache" in words
    ):
        words.append(f"--calib_dataset={literal(options.calib_dataset)}")
    return words


def _quantize(
    options: EngineOptions, checkpoint: Checkpoint, model: str, of: Family
) -> tuple[str, ...]:
    words = [
        "--model_dir",
        model,
        f"--output_dir={CONVERTED}",
        f"--qformat={options.quantization}",
        f"--dtype={options.dtype}",
        f"--tp_size={options.tensor_parallel_size}",
        f"--pp_size={options.pipeline_parallel_size}",
        f"--calib_size={options.calib_size}",
    ]
    if options.kv_cache_dtype != "auto":
        words.append(f"--kv_cache_dtype={options.kv_cache_dtype}")
    if options.calib_dataset:
        words.append(f"--calib_dataset={literal(options.calib_dataset)}")
    return tuple(words)


def build(options: EngineOptions, checkpoint: Checkpoint, version: str) -> Call | None:
    """The build; None for an engine that is one already."""
    if checkpoint.format in BUILT:
        return None
    data = catalog()

    def takes(flag: str) -> bool:
        return data.takes("trtllm-build", flag, version)

    source = literal(str(checkpoint.path)) if checkpoint.format in READY else CONVERTED
    words = [
        "--checkpoint_dir",
        source,
        f"--output_dir={ENGINE}",
        f"--max_batch_size={options.max_batch_size}",
        f"--max_input_len={options.max_input_len}",
        f"--max_beam_width={options.max_beam_width}",
        f"--max_num_tokens={options.max_num_tokens}",
        f"--workers={options.workers}",
    ]
    if takes("--max_seq_len"):
        words += [f"--max_seq_len={options.max_seq_len}"] if options.max_seq_len else []
    else:
        answer = options.max_seq_len - options.max_input_len if options.max_seq_len else 1024
        words.append(f"--max_output_len={answer}")
    if takes("--tp_size") and checkpoint.format not in READY:
        words += [
            f"--tp_size={options.tensor_parallel_size}",
            f"--pp_size={options.pipeline_parallel_size}",
        ]
    words += ["--gpt_attention_plugin=auto", "--remove_input_padding=enable"]
    words.append("--kv_cache_type=paged" if takes("--kv_cache_type") else "--paged_kv_cache=enable")
    if options.gemm_plugin != "default":
        words.append(f"--gemm_plugin={options.gemm_plugin}")
    words.append(f"--context_fmha={'enable' if options.context_fmha else 'disable'}")
    if options.kv_cache_reuse or options.chunked_context:
        words.append("--use_paged_context_fmha=enable")
    if options.tokens_per_block:
        words.append(f"--tokens_per_block={options.tokens_per_block}")
    if options.fast_build:
        words.append("--fast_build")
    return Call("trtllm-build", ("trtllm-build",), tuple(words))
