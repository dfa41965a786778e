"""Model repository of the TensorRT-LLM engine route, as messages of Triton's own configuration.

The stages are those of upstream's ``inflight_batcher_llm``: tokens are made, the engine generates,
text is made, and an ensemble joins them; with a draft model a python model of ours joins them instead.
Tensor names of the engine's model are upstream's; optional inputs that no stage of ours sends are left
out, every parameter is set or left to the backend's default by intent (see the catalog).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backends.doors.language import READY
from backends.language.trtllm_argv import Part
from backends.language.trtllm_catalog import catalog
from backends.language.trtllm_options import EngineOptions
from backends.sources import model_files
from console.checkpoints.model import Format
from console.facts import TensorSpec
from console.planning.plan import FileSpec, join
from console.planning.variables import literal
from console.prompts import Names
from console.triton.repository import DynamicBatching, Instances, model_config, to_text

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

REPOSITORY = "${repository}"
TOKENIZER = "${work}/tokenizer"
"""What an archive of NeMo holds of its tokenizer."""
ENGINE_NAMES = Names()
"""text_input, text_output, stream; sampling parameters by their plain names."""
DEFAULT_TOKENS = 128
"""Length of an answer to a request that names none."""
BACKENDS = "/opt/tritonserver/backends/tensorrtllm"
GIB = 1 << 30
_FLOATS = (
    "temperature",
    "length_penalty",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "top_p",
)
_ENGINE_SAYS = {"top_p": "runtime_top_p", "top_k": "runtime_top_k", "length_penalty": "len_penalty"}
_MARK = "\x02{}\x02"
"""Stands in a configuration for a path that a plan fills in: protobuf would escape a template."""


@dataclass(frozen=True, slots=True)
class Stages:
    """Names of the models. `whole` is the one that is asked."""

    whole: str
    drafted: bool = False

    @property
    def before(self) -> str:
        return f"{self.whole}_preprocessing"

    @property
    def engine(self) -> str:
        return f"{self.whole}_tensorrt_llm"

    @property
    def draft(self) -> str:
        return f"{self.whole}_draft" if self.drafted else ""

    @property
    def after(self) -> str:
        return f"{self.whole}_postprocessing"

    @property
    def engines(self) -> tuple[str, ...]:
        """The draft model comes first: its share of the cache is taken before the engine's."""
        return (self.draft, self.engine) if self.drafted else (self.engine,)

    @property
    def every(self) -> tuple[str, ...]:
        """In the order in which they are loaded."""
        return (self.before, *self.engines, self.after, self.whole)


def tokenizer_folder(part: Part) -> str:
    """Template of the folder that the text stages read; empty where neither the operator nor the
    checkpoint has one."""
    if part.options.tokenizer:
        return literal(part.options.tokenizer)
    if part.checkpoint.format is Format.NEMO:
        return TOKENIZER
    facts = part.checkpoint.language
    kind = facts.tokenizer if facts else ""
    if not part.checkpoint.path.is_absolute() or kind in ("", "tiktoken"):
        return ""
    if part.checkpoint.format in READY:
        return part.converted if kind in ("hugging-face", "sentencepiece") else ""
    return literal(str(part.checkpoint.path))


def engine_configs(stages: Stages, parts: tuple[Part, ...], version: str) -> dict[str, ModelConfig]:
    """Every model's configuration by its name; paths are still marks."""
    part = parts[0]
    found = [
        _preprocessing(stages.before, part),
        _engine(stages.engine, part, version),
        _postprocessing(stages.after, part.options),
    ]
    if stages.drafted:
        found.append(_engine(stages.draft, parts[1], version))
        found.append(_speculative(stages, part.options, version))
    else:
        found.append(_ensemble(stages, part.options, version))
    return {config.name: config for config in found}


def engine_files(stages: Stages, parts: tuple[Part, ...], version: str) -> tuple[FileSpec, ...]:
    """The repository, the engines themselves aside: they are read from where they were built."""
    files: list[FileSpec] = []
    places = {part.name: part.engine for part in parts} | {"tokenizer": tokenizer_folder(parts[0])}
    for model, config in engine_configs(stages, parts, version).items():
        text = literal(to_text(config))
        for name, place in places.items():
            # Inside a quoted string: a path of somebody's may hold what ends one.
            written = place.replace("\\", "\\\\").replace('"', '\\"')
            text = text.replace(_text_form(_MARK.format(name)), written)
        files.append(
            FileSpec(path=join(REPOSITORY, model, "config.pbtxt"), text=text, template=True)
        )
    for model, package in (
        (stages.before, "trtllm_preprocessing"),
        (stages.after, "trtllm_postprocessing"),
    ):
        files += model_files(package, ("model",), join(REPOSITORY, model, "1"))
        files += model_files("trtllm_preprocessing", ("tokenizing",), join(REPOSITORY, model, "1"))[
            :-1
        ]
    if stages.drafted:
        files += model_files("trtllm_speculative", ("model",), join(REPOSITORY, stages.whole, "1"))
    # Triton wants a version folder of models that have no file too.
    empty = stages.engines if stages.drafted else (*stages.engines, stages.whole)
    files += [FileSpec(path=join(REPOSITORY, model, "1", ".keep"), text="") for model in empty]
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


def _preprocessing(name: str, part: Part) -> ModelConfig:
    options = part.options
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
        tokenizer_dir=_MARK.format("tokenizer"),
        add_special_tokens=_word(options.add_special_tokens),
        end_id=str(end_id(part)),
        default_tokens=str(DEFAULT_TOKENS),
    )


def end_id(part: Part) -> int:
    """The id that ends an answer: the option's, else the configuration's first, else -1 (the
    tokenizer's own)."""
    if part.options.end_id >= 0:
        return part.options.end_id
    folder = part.checkpoint.format is Format.HUGGING_FACE
    said = part.checkpoint.config.get("eos_token_id") if folder else None
    if isinstance(said, list) and said:
        said = said[0]
    return said if isinstance(said, int) and not isinstance(said, bool) else -1


def _postprocessing(name: str, options: EngineOptions) -> ModelConfig:
    inputs = (
        _tensor("TOKENS_BATCH", "INT32", -1, -1),
        _tensor("SEQUENCE_LENGTH", "INT32", -1),
    )
    return _stage(
        name,
        inputs,
        (_tensor("OUTPUT", "BYTES", -1),),
        options,
        tokenizer_dir=_MARK.format("tokenizer"),
        skip_special_tokens=_word(options.skip_special_tokens),
    )


def _sampling(version: str) -> tuple[tuple[str, str, str], ...]:
    """What a request may set: its name outside, its name at the engine, its dtype."""
    names = catalog().input_names(version)
    return (
        *((name, _ENGINE_SAYS.get(name, name), "FP32") for name in _FLOATS),
        ("top_k", _ENGINE_SAYS["top_k"], "INT32"),
        ("beam_width", "beam_width", "INT32"),
        *(("min_tokens", name, "INT32") for name in names.min_tokens),
        *(("seed", name, "UINT64") for name in names.seed),
        ("stream", "streaming", "BOOL"),
    )


def _engine(name: str, part: Part, version: str) -> ModelConfig:
    options = part.options
    ragged = ("input_ids", "stop_words_list", "bad_words_list", "draft_input_ids")
    inputs = (
        _tensor("input_ids", "INT32", -1),
        _tensor("input_lengths", "INT32"),
        _tensor("request_output_len", "INT32"),
        *((_tensor("draft_input_ids", "INT32", -1, optional=True),) if part.drafted else ()),
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
        parameters=parameters(part, version),
        decoupled=options.streaming,
    )
    for tensor in config.input:
        tensor.allow_ragged_batch = tensor.name in ragged
    return config


def parameters(part: Part, version: str) -> dict[str, str]:
    """Parameters of the engine's model: those that this version reads and an option or we decide."""
    options = part.options
    given = {
        "gpt_model_type": "inflight_fused_batching",
        "gpt_model_path": _MARK.format(part.name),
        "worker_path": f"{BACKENDS}/triton_tensorrtllm_worker",
        "executor_worker_path": f"{BACKENDS}/trtllmExecutorWorker",
        "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
        "max_beam_width": str(options.max_beam_width),
        "kv_cache_free_gpu_mem_fraction": f"{options.kv_cache_fraction:g}",
        "batch_scheduler_policy": options.scheduler,
        "enable_kv_cache_reuse": _word(options.kv_cache_reuse),
        "enable_chunked_context": _word(options.chunked_context),
        "multi_block_mode": _word(options.multi_block_mode),
        "cuda_graph_mode": _word(options.cuda_graph_mode),
        # The text stages make text of what is new.
        "exclude_input_in_output": "true",
    }
    limits = {
        "max_tokens_in_paged_kv_cache": options.max_cache_tokens,
        "max_attention_window_size": options.max_attention_window,
        "kv_cache_host_memory_bytes": options.kv_cache_host_memory * GIB,
    }
    given |= {name: str(value) for name, value in limits.items() if value}
    given |= {} if options.decoding_mode == "auto" else {"decoding_mode": options.decoding_mode}
    known = catalog().parameters
    return {name: value for name, value in given.items() if known[name].holds(version)}


def _asked(version: str) -> tuple[TensorSpec, ...]:
    """What a request may say."""
    named = {ours: dtype for ours, _, dtype in _sampling(version)}
    return (
        _tensor("text_input", "BYTES", 1),
        _tensor("max_tokens", "INT32", 1, optional=True),
        _tensor("stop_words", "BYTES", -1, optional=True),
        _tensor("bad_words", "BYTES", -1, optional=True),
        *(_tensor(name, dtype, 1, optional=True) for name, dtype in named.items()),
    )


def _speculative(stages: Stages, options: EngineOptions, version: str) -> ModelConfig:
    sampling: Iterable[tuple[str, str]] = [(ours, theirs) for ours, theirs, _ in _sampling(version)]
    return model_config(
        stages.whole,
        _asked(version),
        (_tensor("text_output", "BYTES", -1),),
        max_batch_size=options.max_batch_size,
        instances=Instances(options.draft_instances, "cpu"),
        parameters={
            "preprocessing": stages.before,
            "engine": stages.engine,
            "draft": stages.draft,
            "postprocessing": stages.after,
            "draft_tokens": str(options.draft_tokens),
            "sampling": json.dumps(sampling),
        },
        decoupled=options.streaming,
    )


def _ensemble(stages: Stages, options: EngineOptions, version: str) -> ModelConfig:
    sampling = _sampling(version)
    config = model_config(
        stages.whole,
        _asked(version),
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
    _step(config, stages.before, asked, {ours: inner[theirs] for ours, theirs in made.items()})
    _step(
        config,
        stages.engine,
        inner | {theirs: ours for ours, theirs, _ in sampling},
        {"output_ids": "_output_ids", "sequence_length": "_sequence_length"},
    )
    _step(
        config,
        stages.after,
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
