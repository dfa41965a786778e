"""Options of the ONNX route."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from backends.base import BackendOptions
from backends.fields import DynamicBatching, Instances, QueueDelay, Threads, extra

BatchSize = Annotated[int, Field(ge=1, le=1024)]
Language = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,20}$")]


class BatchingOptions(BackendOptions):
    """How Triton runs a graph: batches and instances."""

    max_batch_size: int = Field(
        8,
        ge=0,
        le=1024,
        title="Largest batch",
        description="How many inputs the server may run at once. 0: no batch dimension at all.",
        json_schema_extra=extra("Serving", flag="max_batch_size"),
    )
    dynamic_batching: DynamicBatching = True
    max_queue_delay_us: QueueDelay = 0
    preferred_batch_sizes: tuple[BatchSize, ...] = Field(
        (),
        max_length=16,
        title="Preferred batch sizes",
        description="Sizes that are run at once instead of waiting for more. Empty: any size.",
        json_schema_extra=extra("Serving", flag="dynamic_batching.preferred_batch_size"),
    )
    instance_count: Instances = 1

    @model_validator(mode="after")
    def _preferred_fit(self) -> BatchingOptions:
        past = [size for size in self.preferred_batch_sizes if size > self.max_batch_size]
        if past:
            raise ValueError(
                f"preferred_batch_sizes: {past[0]} is past max_batch_size {self.max_batch_size}"
            )
        return self


class _GraphOptions(BackendOptions):
    """How a checkpoint becomes an ONNX graph."""

    device: Literal["cpu", "cuda"] = Field(
        "cpu",
        title="Device",
        description="Where the graph is exported and where it runs. cuda needs a GPU here and "
        "onnxruntime-gpu in the serving environment.",
        json_schema_extra=extra("Export", flag="--device"),
    )
    decoder: Literal["auto", "ctc", "rnnt"] = Field(
        "auto",
        title="Decoder",
        description="Which head of a speech checkpoint is served. auto: CTC where there is one, else "
        "the transducer. rnnt: the transducer, often better and several times slower.",
        json_schema_extra=extra("Export", flag="--decoder"),
    )
    opset: int = Field(
        17,
        ge=13,
        le=21,
        title="ONNX opset",
        description="Version of the operator set that a checkpoint is exported with. 17 is the one "
        "that most runtimes take; a graph that is already ONNX keeps its own.",
        json_schema_extra=extra("Export", flag="--opset"),
    )
    max_symbols: int = Field(
        0,
        ge=0,
        le=1000,
        title="Symbols at one step",
        description="Most symbols that a transducer's greedy search says at one step of the encoder, "
        "after which it goes on. 0: as the checkpoint says, else 10.",
        json_schema_extra=extra("Export", flag="decoding.greedy.max_symbols"),
    )
    tolerance: float = Field(
        1e-4,
        gt=0,
        le=1,
        title="Tolerance",
        description="Largest difference between ONNX Runtime and PyTorch on the same input "
        "(log probabilities). Past it, nothing is served.",
        json_schema_extra=extra("Export", flag="--tolerance"),
    )
    form: Literal["auto", "onnxruntime", "python"] = Field(
        "auto",
        title="Serving form",
        description="onnxruntime: the graph runs in Triton's onnxruntime backend. python: our python "
        "model runs ONNX Runtime, with the same inputs, outputs and answers. auto: what the server has.",
        json_schema_extra=extra("Serving"),
    )


class OnnxOptions(BatchingOptions, _GraphOptions):
    """How a checkpoint becomes an ONNX graph, and how Triton runs it."""

    instance_kind: Literal["auto", "cpu", "gpu"] = Field(
        "auto",
        title="Instances run on",
        description="auto follows the device.",
        json_schema_extra=extra("Serving", flag="instance_group.kind"),
    )
    threads: Threads = 0
    word_times: bool = Field(
        False,
        title="Word times by default",
        description="Answer with start, end and confidence of each word when a request does not say. "
        "Speech models only.",
        json_schema_extra=extra("Speech"),
    )
    language: Language = Field(
        "",
        title="Language by default",
        description="For a checkpoint of several languages: what a request without LANG is in, as the "
        "checkpoint names it (hi). Empty: a request says it, or any language is heard.",
        json_schema_extra=extra("Speech"),
    )
    unit_embedding: bool = Field(
        True,
        title="Embeddings of length 1",
        description="A speaker model answers with embeddings divided by their norm, so that their "
        "product is the cosine of two voices.",
        json_schema_extra=extra("Speech"),
    )
    long_audio: Literal["refuse", "chunk"] = Field(
        "refuse",
        title="Audio past the longest",
        description="refuse: answer with an error that names the limit. chunk: cut at quiet places, "
        "recognise each part, join the texts.",
        json_schema_extra=extra("Speech"),
    )
    chunk_seconds: float = Field(
        20.0,
        ge=2,
        le=600,
        title="Longest chunk",
        description="Length of the parts that a long recording is cut into.",
        json_schema_extra=extra("Speech", unit="s"),
    )
    verbose: bool = Field(
        False,
        title="Verbose log",
        description="Log each batch with its time, and the exporter's own remarks.",
        json_schema_extra=extra("Serving"),
    )
