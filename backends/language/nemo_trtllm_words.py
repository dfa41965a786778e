"""What the NeMo TensorRT-LLM route says to upstream: command lines, and arguments of its classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backends.language.nemo_trtllm_options import NemoTrtllmOptions
from backends.upstream import place, trtllm_api
from backends.upstream.place import flagged, unless
from console.checkpoints.model import Checkpoint
from console.planning.variables import literal

SERVE_ROUTE, EXPORT_ROUTE = "nemo-tensorrt-llm", "nemo-tensorrt-llm-export"
MODEL_TYPES = {
    "gpt": "gpt",
    "gpt2": "gpt",
    "gptnext": "gptnext",
    "nemotron": "gpt",
    "llama": "llama",
    "mistral": "llama",
    "mixtral": "mixtral",
    "falcon": "falcon",
    "starcoder": "starcoder",
    "starcoder2": "starcoder",
    "gpt_bigcode": "starcoder",
    "gemma": "gemma",
}
"""What a checkpoint calls its family, to upstream's ``model_type`` (the table of its guide)."""
_TRISTATE = {"auto": None, "true": True, "false": False}


def model_type(options: NemoTrtllmOptions, checkpoint: Checkpoint) -> str:
    """Upstream's word for the architecture; empty where it has none."""
    if options.model_type != "auto":
        return options.model_type
    family = checkpoint.language.family.lower() if checkpoint.language else ""
    return MODEL_TYPES.get(family, "")


@dataclass(frozen=True)
class Call(place.Call):
    """One use of upstream's scripts for language models."""

    options: NemoTrtllmOptions

    @property
    def route(self) -> str:
        return EXPORT_ROUTE if self.options.mode == "export" else SERVE_ROUTE

    def argv(self) -> list[str]:
        return _export(self) if self.options.mode == "export" else _deploy(self)

    def arguments(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        return _api(self)

    def reads(self) -> tuple[str, ...]:
        loaded = self.options.mode == "load"
        first = self.engine if loaded else literal(str(self.checkpoint.path))
        more = (*self.options.ptuning_nemo_checkpoint, *self.options.lora_ckpt)
        return tuple(dict.fromkeys((first, *map(literal, more))))


def _deploy(call: Call) -> list[str]:
    options = call.options
    words: list[str] = []
    kind = model_type(options, call.checkpoint)
    if options.mode == "serve":
        words += ["--nemo_checkpoint", literal(str(call.checkpoint.path))]
    if kind:
        words += ["--model_type", kind]
    words += [
        *("--triton_model_name", literal(call.deployment.served_name)),
        *("--triton_model_version", str(options.model_version)),
        *("--triton_port", call.http, "--triton_http_address", literal(call.address)),
        *("--triton_model_repository", call.engine),
        *_sizes(call),
    ]
    given: dict[str, Any] = {
        "--triton_request_timeout": options.request_timeout if options.request_timeout != 60 else 0,
        "--max_seq_len": options.max_seq_len,
        "--ptuning_nemo_checkpoint": options.ptuning_nemo_checkpoint,
        "--task_ids": options.task_ids,
        "--lora_ckpt": options.lora_ckpt,
        "--multiple_profiles": options.multiple_profiles,
        "--gpt_attention_plugin": unless(options.gpt_attention_plugin, "auto"),
        "--gemm_plugin": unless(options.gemm_plugin, "auto"),
        "--use_cpp_runtime": options.use_cpp_runtime,
    }
    return words + _shared(options) + flagged(given)


def _export(call: Call) -> list[str]:
    kind = model_type(call.options, call.checkpoint)
    words = ["--nemo_checkpoint", literal(str(call.checkpoint.path))]
    words += ["--model_type", kind] if kind else []
    words += ["--model_repository", call.engine, *_sizes(call)]
    # No such flags there; a check says so before anything runs.
    given: dict[str, Any] = {
        "--max_seq_len": call.options.max_seq_len,
        "--lora_ckpt": call.options.lora_ckpt,
        "--ptuning_nemo_checkpoint": call.options.ptuning_nemo_checkpoint,
        "--task_ids": call.options.task_ids,
        "--multiple_profiles": call.options.multiple_profiles,
        "--gpt_attention_plugin": unless(call.options.gpt_attention_plugin, "auto"),
        "--gemm_plugin": unless(call.options.gemm_plugin, "auto"),
        "--use_cpp_runtime": call.options.use_cpp_runtime,
    }
    return words + _shared(call.options) + flagged(given)


def _sizes(call: Call) -> list[str]:
    options = call.options
    words = ["--tensor_parallelism_size", str(options.tensor_parallel_size)]
    words += ["--pipeline_parallelism_size", str(options.pipeline_parallel_size)]
    if trtllm_api.takes("export", "n_gpus", call.generation):
        words += ["--num_gpus", str(options.layout.world)]
    words += ["--max_batch_size", str(options.max_batch_size)]
    if options.mode == "load":
        return words
    return [
        *words,
        *("--dtype", options.dtype),
        *("--max_input_len", str(options.max_input_len)),
        *("--max_output_len", str(options.max_output_len)),
    ]


def _shared(options: NemoTrtllmOptions) -> list[str]:
    """Flags that both scripts have, where they differ from upstream's defaults."""
    return flagged(
        {
            "--max_num_tokens": options.max_num_tokens,
            "--opt_num_tokens": options.opt_num_tokens,
            "--max_prompt_embedding_table_size": options.max_prompt_embedding_table_size,
            "--use_lora_plugin": options.use_lora_plugin,
            "--lora_target_modules": options.lora_target_modules,
            "--max_lora_rank": options.max_lora_rank if options.max_lora_rank != 64 else 0,
            "--export_fp8_quantized": unless(options.export_fp8_quantized, "auto"),
            "--use_fp8_kv_cache": unless(options.use_fp8_kv_cache, "auto"),
            "--no_paged_kv_cache": options.no_paged_kv_cache,
            "--disable_remove_input_padding": options.disable_remove_input_padding,
            "--use_parallel_embedding": options.use_parallel_embedding,
            "--multi_block_mode": options.multi_block_mode,
            "--debug_mode": options.debug_mode,
        }
    )


def _api(call: Call) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The worker's document. Paths and ports come on its command line: they may hold variables."""
    options = call.options
    init = {
        "lora_ckpt_list": list(options.lora_ckpt) or None,
        "load_model": options.mode == "load",
        "use_python_runtime": not options.use_cpp_runtime,
        "multi_block_mode": options.multi_block_mode or None,
    }
    export = _export_arguments(call) if options.mode != "load" else {}
    deploy = {
        "triton_model_name": call.deployment.served_name,
        "triton_model_version": options.model_version,
        "max_batch_size": options.max_batch_size,
        "address": call.address,
    }
    ids = options.task_ids or tuple(map(str, range(len(options.ptuning_nemo_checkpoint))))
    tables = list(zip(ids, options.ptuning_nemo_checkpoint, strict=True))
    document: dict[str, Any] = {
        "export_module": trtllm_api.module("export", call.generation),
        "deploy_module": trtllm_api.module("deploy", call.generation),
        "http_port": "http_port"
        if trtllm_api.takes("deploy", "http_port", call.generation)
        else "port",
        "grpc_port": "grpc_port"
        if trtllm_api.takes("deploy", "grpc_port", call.generation)
        else "",
        "tables": [list(table) for table in tables],
    }
    lacking: list[str] = []
    for name, wanted in (("init", init), ("export", export), ("deploy", deploy)):
        given = {key: value for key, value in wanted.items() if value is not None}
        document[name], missing = trtllm_api.split(name, given, call.generation)  # type: ignore[arg-type]
        lacking += missing
    if "multi_block_mode" in lacking and "enable_multi_block_mode" in document["export"]:
        lacking.remove("multi_block_mode")
    if tables and not trtllm_api.takes("prompt_tables", "add_prompt_table", call.generation):
        lacking.append("ptuning_nemo_checkpoint")
    return document, tuple(lacking)


def _export_arguments(call: Call) -> dict[str, Any]:
    options = call.options
    both = trtllm_api.takes("export", "n_gpus", call.generation)
    early = trtllm_api.takes("export", "enable_multi_block_mode", call.generation)
    return {
        "model_type": model_type(options, call.checkpoint) or None,
        "delete_existing_files": True,
        "n_gpus": options.layout.world if both else None,
        "tensor_parallelism_size": options.tensor_parallel_size,
        "pipeline_parallelism_size": options.pipeline_parallel_size,
        "max_input_len": options.max_input_len,
        "max_output_len": options.max_output_len,
        "max_batch_size": options.max_batch_size,
        "max_num_tokens": options.max_num_tokens or None,
        "opt_num_tokens": options.opt_num_tokens or None,
        "max_seq_len": options.max_seq_len or None,
        "max_prompt_embedding_table_size": options.max_prompt_embedding_table_size or None,
        "use_parallel_embedding": options.use_parallel_embedding,
        "paged_kv_cache": not options.no_paged_kv_cache,
        "remove_input_padding": not options.disable_remove_input_padding,
        "enable_multi_block_mode": options.multi_block_mode if early else None,
        "multiple_profiles": options.multiple_profiles or None,
        "gpt_attention_plugin": unless(options.gpt_attention_plugin, "auto") or None,
        "gemm_plugin": unless(options.gemm_plugin, "auto") or None,
        "fp8_quantized": _TRISTATE[options.export_fp8_quantized],
        "fp8_kvcache": _TRISTATE[options.use_fp8_kv_cache],
        "dtype": options.dtype,
        "load_model": options.mode == "serve",
        "use_lora_plugin": options.use_lora_plugin or None,
        "lora_target_modules": list(options.lora_target_modules) or None,
        "max_lora_rank": options.max_lora_rank,
    }
