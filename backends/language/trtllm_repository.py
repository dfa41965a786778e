"""Model repositories of the TensorRT-LLM routes, as messages of Triton's own configuration.

The engine's stages are those of upstream's ``inflight_batcher_llm``: tokens are made, the engine
generates, text is made, and an ensemble joins them. Tensor names of the engine's model are
upstream's; optional inputs that no stage of ours sends are left out, every parameter is set or left
to the backend's default by intent (see the catalog).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from backends.doors.language import BUILT
from backends.language.trtllm_argv import ENGINE
from backends.language.trtllm_catalog import catalog, numbers
from backends.language.trtllm_options import EngineOptions, LlmapiOptions
from backends.sources import model_files
from console.checkpoints.model import Checkpoint, Format
from console.facts import TensorSpec
from console.planning.plan import FileSpec, join
from console.planning.variables import literal
from console.prompts import Names
from console.triton.repository import DynamicBatching, Instances, model_config, to_text

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

REPOSITORY = "${repository}"
ENGINE_NAMES = Names()
"""text_input, text_output, stream; sampling parameters by their plain names."""
LLMAPI_NAMES = Names(
    stream="streaming",
    prefix="sampling_param_",
    without_prompt="sampling_param_exclude_input_from_output",
)
DEFAULT_TOKENS = 128
"""Length of an answer to a request that names none."""
WORKER = "/opt/tritonserver/backends/tensorrtllm/trtllmExecutorWorker"
_PLACE = "\x02engine\x02"
_FLOATS = (
    "temperature",
    "length_penalty",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "top_p",
)
_ENGINE_SAYS = {"top_p": "runtime_top_p", "top_k": "runtime_top_k", "length_penalty": "len_penalty"}


def stages(name: str) -> tuple[str, str, str, str]:
    """Names of the models: preprocessing, engine, postprocessing and the ensemble that is asked."""
    return f"{name}_preprocessing", f"{name}_tensorrt_llm", f"{name}_postprocessing", name


def engine_folder(checkpoint: Checkpoint) -> str:
    """Template of the folder that the engine is served from."""
    return literal(str(checkpoint.path)) if checkpoint.format in BUILT else ENGINE


def tokenizer_folder(options: EngineOptions, checkpoint: Checkpoint) -> str:
    """The folder that the text stages read; empty where neither the operator nor the checkpoint has
    one."""
    if options.tokenizer:
        return options.tokenizer
    facts = checkpoint.language
    if checkpoint.path.is_absolute() and facts is not None and facts.tokenizer == "hugging-face":
        return str(checkpoint.path)
    return ""


# ------------------------------------------------------------------------------------ engine


def engine_configs(
    name: str, options: EngineOptions, checkpoint: Checkpoint, version: str
) -> dict[str, ModelConfig]:
    """Every model's configuration by its name; the engine's folder is still a mark in its own."""
    before, engine, after, whole = stages(name)
    found = (
        _preprocessing(before, options, checkpoint),
        _engine(engine, options, version),
        _postprocessing(after, options, checkpoint),
        _ensemble(whole, name, options, version),
    )
    return {config.name: config for config in found}


def engine_files(
    name: str, options: EngineOptions, checkpoint: Checkpoint, version: str
) -> tuple[FileSpec, ...]:
    """The repository, the engine itself aside: that is read from where it was built."""
    files = []
    for model, config in engine_configs(name, options, checkpoint, version).items():
        text = literal(to_text(config)).replace(
            literal(_text_form(_PLACE)), engine_folder(checkpoint)
        )
        files.append(
            FileSpec(path=join(REPOSITORY, model, "config.pbtxt"), text=text, template=True)
        )
    before, engine, after, whole = stages(name)
    for model, package in ((before, "trtllm_preprocessing"), (after, "trtllm_postprocessing")):
        files += model_files(package, ("model",), join(REPOSITORY, model, "1"))
    # Triton wants a version folder of models that have no file too.
    files += [FileSpec(path=join(REPOSITORY, m, "1", ".keep"), text="") for m in (engine, whole)]
    return tuple(files)


def _text_form(mark: str) -> str:
    """`mark` as protobuf's text form writes it."""
    return mark.replace("\x02", "\\002")


def _tensor(name: str, dtype: str, *shape: int, optional: bool = False) -> TensorSpec:
    return TensorSpec(name, dtype, (-1, *shape), optional)


def _stage(
    name: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    options: EngineOptions,
    **parameters: str,
) -> ModelConfig:
    return model_config(
        name,
        inputs,
        outputs,
        max_batch_size=options.max_batch_size,
        instances=Instances(options.text_instances, "cpu"),
        parameters=parameters,
    )


def _preprocessing(name: str, options: EngineOptions, checkpoint: Checkpoint) -> ModelConfig:
    inputs = (
        _tensor("QUERY", "BYTES", 1),
        _tensor("REQUEST_OUTPUT_LEN", "INT32", 1, optional=True),
        _tensor("STOP_WORDS_DICT", "BYTES", -1, optional=True),
        _tensor("BAD_WORDS_DICT", "BYTES", -1, optional=True),
    )
    outputs = (
        _tensor("INPUT_ID", "INT32", -1),
        _tensor("REQUEST_INPUT_LEN", "INT32", 1),
        _tensor("REQUEST_OUTPUT_LEN", "INT32", 1),
        _tensor("STOP_WORDS_IDS", "INT32", 2, -1),
        _tensor("BAD_WORDS_IDS", "INT32", 2, -1),
        _tensor("OUT_END_ID", "INT32", 1),
        _tensor("OUT_PAD_ID", "INT32", 1),
    )
    return _stage(
        name,
        inputs,
        outputs,
        options,
        tokenizer_dir=tokenizer_folder(options, checkpoint),
        add_special_tokens=_word(options.add_special_tokens),
        end_id=str(end_id(options, checkpoint)),
        default_tokens=str(DEFAULT_TOKENS),
    )


def end_id(options: EngineOptions, checkpoint: Checkpoint) -> int:
    """The id that ends an answer: the option's, else the configuration's first, else -1 (the
    tokenizer's own)."""
    if options.end_id >= 0:
        return options.end_id
    said = (
        checkpoint.config.get("eos_token_id") if checkpoint.format is Format.HUGGING_FACE else None
    )
    if isinstance(said, list) and said:
        said = said[0]
    return said if isinstance(said, int) and not isinstance(said, bool) else -1


def _postprocessing(name: str, options: EngineOptions, checkpoint: Checkpoint) -> ModelConfig:
    inputs = (
        _tensor("TOKENS_BATCH", "INT32", -1, -1),
        _tensor("SEQUENCE_LENGTH", "INT32", -1),
    )
    return _stage(
        name,
        inputs,
        (_tensor("OUTPUT", "BYTES", -1),),
        options,
        tokenizer_dir=tokenizer_folder(options, checkpoint),
        skip_special_tokens=_word(options.skip_special_tokens),
    )


def _sampling(version: str) -> tuple[tuple[str, str, str], ...]:
    """What a request may set: its name outside, its name at the engine, its dtype."""
    names = catalog().input_names(version)
    return (
        *((name, _ENGINE_SAYS.get(name, name), "FP32") for name in _FLOATS),
        ("top_k", _ENGINE_SAYS["top_k"], "INT32"),
        ("beam_width", "beam_width", "INT32"),
        ("min_tokens", names.min_tokens, "INT32"),
        ("seed", names.seed, "UINT64"),
        ("stream", "streaming", "BOOL"),
    )


def _engine(name: str, options: EngineOptions, version: str) -> ModelConfig:
    ragged = ("input_ids", "stop_words_list", "bad_words_list")
    inputs = (
        _tensor("input_ids", "INT32", -1),
        _tensor("input_lengths", "INT32"),
        _tensor("request_output_len", "INT32"),
        _tensor("end_id", "INT32", optional=True),
        _tensor("pad_id", "INT32", optional=True),
        _tensor("stop_words_list", "INT32", 2, -1, optional=True),
        _tensor("bad_words_list", "INT32", 2, -1, optional=True),
        *(_tensor(theirs, dtype, optional=True) for _, theirs, dtype in _sampling(version)),
    )
    outputs = (
        _tensor("output_ids", "INT32", -1, -1),
        _tensor("sequence_length", "INT32", -1),
        _tensor("cum_log_probs", "FP32", -1),
        _tensor("output_log_probs", "FP32", -1, -1),
    )
    config = model_config(
        name,
        inputs,
        outputs,
        backend="tensorrtllm",
        max_batch_size=options.max_batch_size,
        dynamic_batching=DynamicBatching(0, (options.max_batch_size,)),
        parameters=parameters(options, version),
        decoupled=options.streaming,
    )
    for tensor in config.input:
        tensor.allow_ragged_batch = tensor.name in ragged
    return config


def parameters(options: EngineOptions, version: str) -> dict[str, str]:
    """Parameters of the engine's model: those that this version reads and an option or we decide."""
    given = {
        "gpt_model_type": "inflight_fused_batching",
        "gpt_model_path": _PLACE,
        "executor_worker_path": WORKER,
        "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
        "max_beam_width": str(options.max_beam_width),
        "kv_cache_free_gpu_mem_fraction": f"{options.kv_cache_fraction:g}",
        "batch_scheduler_policy": options.scheduler,
        "enable_kv_cache_reuse": _word(options.kv_cache_reuse),
        "enable_chunked_context": _word(options.chunked_context),
        "exclude_input_in_output": "true",
    }
    if options.max_cache_tokens:
        given["max_tokens_in_paged_kv_cache"] = str(options.max_cache_tokens)
    first = catalog().parameters.first
    at = numbers(version)
    return {k: v for k, v in given.items() if not at or numbers(first[k]) <= at}


def _ensemble(name: str, base: str, options: EngineOptions, version: str) -> ModelConfig:
    before, engine, after, _ = stages(base)
    sampling = _sampling(version)
    inputs = (
        _tensor("text_input", "BYTES", 1),
        _tensor("max_tokens", "INT32", 1, optional=True),
        _tensor("stop_words", "BYTES", -1, optional=True),
        _tensor("bad_words", "BYTES", -1, optional=True),
        *(_tensor(ours, dtype, 1, optional=True) for ours, _, dtype in sampling),
    )
    config = model_config(
        name,
        inputs,
        (_tensor("text_output", "BYTES", -1),),
        backend="",
        max_batch_size=options.max_batch_size,
    )
    config.platform = "ensemble"
    del config.instance_group[:]
    made = {
        "INPUT_ID": "input_ids",
        "REQUEST_INPUT_LEN": "input_lengths",
        "REQUEST_OUTPUT_LEN": "request_output_len",
        "STOP_WORDS_IDS": "stop_words_list",
        "BAD_WORDS_IDS": "bad_words_list",
        "OUT_END_ID": "end_id",
        "OUT_PAD_ID": "pad_id",
    }
    inner = {theirs: f"_{theirs}" for theirs in made.values()}
    asked = {
        "QUERY": "text_input",
        "REQUEST_OUTPUT_LEN": "max_tokens",
        "STOP_WORDS_DICT": "stop_words",
        "BAD_WORDS_DICT": "bad_words",
    }
    _step(config, before, asked, {ours: inner[theirs] for ours, theirs in made.items()})
    _step(
        config,
        engine,
        inner | {theirs: ours for ours, theirs, _ in sampling},
        {"output_ids": "_output_ids", "sequence_length": "_sequence_length"},
    )
    _step(
        config,
        after,
        {"TOKENS_BATCH": "_output_ids", "SEQUENCE_LENGTH": "_sequence_length"},
        {"OUTPUT": "text_output"},
    )
    return config


def _step(config: Any, model: str, inputs: dict[str, str], outputs: dict[str, str]) -> None:
    step = config.ensemble_scheduling.step.add(model_name=model, model_version=-1)
    step.input_map.update(inputs)
    step.output_map.update(outputs)


def _word(value: bool) -> str:
    return "true" if value else "false"


# ------------------------------------------------------------------------------------ LLM API

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
