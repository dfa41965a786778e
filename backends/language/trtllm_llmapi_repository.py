"""Model repository of TensorRT-LLM's LLM API: a configuration, a model.yaml, and the image's model.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from backends.language.trtllm_options import LlmapiOptions
from backends.language.trtllm_repository import REPOSITORY
from console.checkpoints.model import Checkpoint
from console.facts import TensorSpec
from console.planning.plan import FileSpec, join
from console.prompts import Names
from console.triton.repository import model_config, to_text

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

LLMAPI_NAMES = Names(
    stream="streaming",
    prefix="sampling_param_",
    without_prompt="sampling_param_exclude_input_from_output",
)
_LLMAPI_INPUTS = (
    ("streaming", "BOOL", 1),
    ("sampling_param_max_tokens", "INT32", 1),
    ("sampling_param_temperature", "FP32", 1),
    ("sampling_param_top_k", "INT32", 1),
    ("sampling_param_top_p", "FP32", 1),
    ("sampling_param_best_of", "INT32", 1),
    ("sampling_param_frequency_penalty", "FP32", 1),
    ("sampling_param_presence_penalty", "FP32", 1),
    ("sampling_param_stop", "BYTES", -1),
    ("sampling_param_seed", "UINT64", 1),
    ("sampling_param_exclude_input_from_output", "BOOL", 1),
    ("sampling_param_return_perf_metrics", "BOOL", 1),
    ("return_finish_reason", "BOOL", 1),
    ("return_stop_reason", "BOOL", 1),
    ("return_cumulative_logprob", "BOOL", 1),
    ("stop", "BOOL", 1),
)
_LLMAPI_OUTPUTS = (
    ("text_output", "BYTES"), ("finish_reason", "BYTES"), ("stop_reason", "BYTES"),
    ("cumulative_logprob", "FP32"), ("kv_cache_reused_block", "INT32"),
    ("kv_cache_missed_block", "INT32"), ("kv_cache_alloc_new_blocks", "INT32"),
    ("kv_cache_alloc_total_blocks", "INT32"), ("kv_cache_hit_rate", "FP32"),
    ("arrival_time_ns", "INT64"), ("first_scheduled_time_ns", "INT64"),
    ("first_token_time_ns", "INT64"), ("last_token_time_ns", "INT64"),
    ("acceptance_rate", "FP32"), ("total_accepted_draft_tokens", "INT32"),
    ("total_draft_tokens", "INT32"),
)  # fmt: skip


def llmapi_config(name: str, options: LlmapiOptions) -> ModelConfig:
    """The LLM API's model. Its own model.py decides on decoupled answers by model.yaml; a server
    that completes no configurations reads them here, so both say the same."""
    inputs = [TensorSpec("text_input", "BYTES", (-1,))]
    inputs += [TensorSpec(n, dtype, (size,), True) for n, dtype, size in _LLMAPI_INPUTS]
    outputs = [TensorSpec(n, dtype, (-1,)) for n, dtype in _LLMAPI_OUTPUTS]
    return model_config(name, inputs, outputs, decoupled=options.streaming)


def model_yaml(options: LlmapiOptions, checkpoint: Checkpoint) -> str:
    """Arguments of `LLM()`; JSON is YAML."""
    cache: dict[str, Any] = {
        "free_gpu_memory_fraction": options.kv_cache_fraction,
        "enable_block_reuse": options.kv_cache_reuse,
    }
    if options.kv_cache_dtype != "auto":
        cache["dtype"] = options.kv_cache_dtype
    given: dict[str, Any] = {
        "model": str(checkpoint.path),
        "backend": "pytorch",
        "tensor_parallel_size": options.tensor_parallel_size,
        "pipeline_parallel_size": options.pipeline_parallel_size,
        "dtype": options.dtype,
        "max_batch_size": options.max_batch_size,
        "max_num_tokens": options.max_num_tokens,
        "enable_chunked_prefill": options.chunked_context,
        "trust_remote_code": options.trust_remote_code,
        "load_format": options.load_format,
        "kv_cache_config": cache,
        "triton_config": {"max_batch_size": 0, "decoupled": options.streaming},
    }
    if options.max_seq_len:
        given["max_seq_len"] = options.max_seq_len
    if options.moe_tp_size:
        given["moe_tensor_parallel_size"] = options.moe_tp_size
        given["moe_expert_parallel_size"] = options.moe_ep_size
    return json.dumps(given, indent=2) + "\n"


def llmapi_files(name: str, options: LlmapiOptions, checkpoint: Checkpoint) -> tuple[FileSpec, ...]:
    """What is ours of the repository; model.py and helpers.py are the image's."""
    folder = join(REPOSITORY, name)
    return (
        FileSpec(path=join(folder, "config.pbtxt"), text=to_text(llmapi_config(name, options))),
        FileSpec(path=join(folder, "1", "model.yaml"), text=model_yaml(options, checkpoint)),
        FileSpec(path=join(folder, "1", "__pycache__"), text=""),
    )
