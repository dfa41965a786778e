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
    ONNX = "onnx"
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
    config: Mapping[str, Any] = field(default_factory=dict)
    """The parsed configuration, as data (YAML by safe_load, JSON)."""
    risks: tuple[Risk, ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    """Label and value pairs for the detail pane, in order."""
    modified: float = 0.0
    """mtime, seconds since the epoch."""
