"""`Checkpoint`: the facts read from what is on disk, never its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from console.facts import TensorSpec


class Format(StrEnum):
    """On-disk formats that are told apart (see `checkpoints.sniff`)."""

    NEMO = "nemo"
    NEMO2 = "nemo2"
    QNEMO = "qnemo"
    HUGGING_FACE = "hugging-face"
    ADAPTER = "adapter"
    TRTLLM_CHECKPOINT = "trtllm-checkpoint"
    TRTLLM_ENGINE = "trtllm-engine"
    TENSORRT = "tensorrt"
    MEGATRON = "megatron"
    ONNX = "onnx"
    HUB = "hub"
    """Named by a hub id and not fetched yet: nothing but its name is known."""
    UNKNOWN = "unknown"


class Severity(StrEnum):
    NOTE = "note"
    WARN = "warn"
    DANGER = "danger"


@dataclass(frozen=True, slots=True)
class Risk:
    """Something about a checkpoint that an operator should know before building from it."""

    code: str
    severity: Severity
    summary: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class SpeechFacts:
    """What a NeMo speech configuration says (lengths in seconds, frequencies in Hz)."""

    sample_rate: int
    decoder: str
    """``ctc``, ``rnnt``, ``hybrid``, ``classification``, ``speaker``, ``aed`` or ``unknown``"""
    features: int
    vocabulary_size: int
    tokenizer: str = ""
    """``bpe``, ``wpe``, ``char``, ``agg``, ``multilingual`` or empty"""
    languages: tuple[str, ...] = ()
    streaming: bool = False
    subsampling_factor: int = 1
    window_stride: float = 0.01
    max_seconds: float | None = None
    """Longest audio that the positional table allows:
    pos_emb_max_len × subsampling_factor × window_stride; None when there is no such table."""


@dataclass(frozen=True, slots=True)
class LanguageFacts:
    """A transformer's geometry and how it was saved; 0 and empty where the configuration is silent.

    What memory estimates need: weights = parameters × bytes of the quantised dtype, key/value cache
    = `cache_elements` × bytes of the cache's dtype, a token.
    """

    family: str = ""
    """``llama``, ``gpt``, ``mixtral`` …: Hugging Face's ``model_type``, or the exporter's name for it."""
    layers: int = 0
    hidden_size: int = 0
    intermediate_size: int = 0
    heads: int = 0
    kv_heads: int = 0
    """Key/value heads: `heads` without grouping, 1 with multi-query attention."""
    head_dim: int = 0
    vocabulary_size: int = 0
    max_positions: int = 0
    """Tokens of the longest sequence that the positions allow."""
    experts: int = 0
    """Experts of a mixture, 0 for a dense model."""
    experts_per_token: int = 0
    rope_theta: float = 0.0
    rope_scaling: str = ""
    """``linear``, ``dynamic``, ``yarn``, ``llama3`` … or empty"""
    sliding_window: int = 0
    tied_embeddings: bool = False
    tensor_parallel: int = 1
    """Ranks that each layer was saved in."""
    pipeline_parallel: int = 1
    virtual_pipeline: int = 1
    expert_parallel: int = 1
    context_parallel: int = 1
    parallel_fixed: bool = False
    """The saved sizes must be used as they are (a TensorRT-LLM checkpoint or engine, a ``.qnemo``)."""
    dtype: str = ""
    """Dtype of what is not quantised: ``bf16``, ``fp16``, ``fp32``"""
    quantisation: str = ""
    """``fp8``, ``int4_awq``, ``w8a16``, ``gptq`` … or empty for plain weights"""
    kv_quantisation: str = ""
    """``fp8`` or ``int8`` when the checkpoint carries scales for the key/value cache"""
    tokenizer: str = ""
    """``hugging-face``, ``sentencepiece``, ``tiktoken``, ``megatron`` … or empty when none is there"""
    chat_template: bool = False
    multimodal: str = ""
    """``neva``, ``llava``, ``mllama`` … or empty for text alone"""

    @property
    def cache_elements(self) -> int:
        """Elements of the key/value cache for one token over all layers; 0 when unknown."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    @property
    def world_size(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel * self.context_parallel


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """A built engine or plan; it loads only with this version, on the GPU kind it was built for."""

    version: str
    """Of TensorRT-LLM for an engine folder, of TensorRT for a plan file."""
    tensorrt: str = ""
    """TensorRT's version (``10.3.0.26``) from a plan's header, empty where there is none."""
    ranks: int = 1
    max_batch_size: int = 0
    max_input_len: int = 0
    max_seq_len: int = 0
    max_num_tokens: int = 0
    max_beam_width: int = 0
    paged_kv_cache: bool | None = None


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """Weights that change a base model and serve nothing alone."""

    kind: str
    """``lora``, ``ia3``, ``ptuning`` …"""
    base: str = ""
    """The base model as the adapter names it: a path or hub id."""
    rank: int = 0
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HubRef:
    """A model by its id on a hub: ``hub:owner/name@revision``, ``ngc:org/team/model:version``, ``nemo:name``."""

    hub: str
    """``hugging-face``, ``ngc`` or ``nemo`` (a pretrained name of NeMo's own lists)"""
    name: str
    revision: str = ""
    """Branch, tag or commit; an NGC version. Empty is the hub's default."""


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """An ONNX graph's signature."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    ir_version: int
    producer: str = ""
    external_data: tuple[str, ...] = ()
    """Sidecar file names that the graph refers to, relative to its folder."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint as it was found. Strings are cleaned; nothing was executed or unpacked."""

    path: Path
    format: Format
    title: str
    """What it is in words: ``NeMo speech model · Conformer CTC``."""
    model_class: str = ""
    """Upstream class or architecture: ``EncDecCTCModelBPE``, ``LlamaForCausalLM``."""
    task: str = ""
    """``speech-to-text``, ``text-generation``, ``image`` … or empty when unknown."""
    size: int = 0
    """Bytes on disk."""
    parameters: int | None = None
    dtype: str = ""
    nemo_version: str = ""
    speech: SpeechFacts | None = None
    graph: GraphFacts | None = None
    language: LanguageFacts | None = None
    engine: EngineFacts | None = None
    adapter: AdapterFacts | None = None
    hub: HubRef | None = None
    """The id that it was named by, whether or not its files are here already."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The parsed configuration, as data (YAML by safe_load, JSON)."""
    risks: tuple[Risk, ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    """Label and value pairs for the detail pane, in order."""
    modified: float = 0.0
    """mtime, seconds since the epoch."""
