"""Options of the two TensorRT-LLM routes: the engine that is built, and the LLM API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from backends.fields import (
    AbsolutePath,
    CachePrecision,
    LongestSequence,
    PipelineParallel,
    TensorParallel,
    Tokens,
    TrustRemoteCode,
    extra,
)
from backends.language.common import LayoutOptions

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Processes = Annotated[int, Field(ge=1, le=1024)]
Id = Annotated[int, Field(ge=-1, le=100_000_000)]
Known = Annotated[str, Field(pattern=r"^(\d+(\.\w+)*)?$")]
Word = Annotated[str, Field(pattern=r"^[\w./:-]{0,200}$")]
Quantisation = Literal[
    "none", "int8", "int4", "smoothquant", "fp8", "int4_awq", "w4a8_awq", "nvfp4"
]
WEIGHT_ONLY = frozenset({"int8", "int4"})
CALIBRATED = frozenset({"fp8", "int4_awq", "w4a8_awq", "nvfp4"})
"""Made by `quantize.py`, which runs the model over samples."""


class TrtllmOptions(LayoutOptions):
    """What both routes have."""

    tensor_parallel_size: TensorParallel = Field(
        1, json_schema_extra=extra("Parallelism", "--tp_size")
    )
    pipeline_parallel_size: PipelineParallel = Field(
        1, json_schema_extra=extra("Parallelism", "--pp_size")
    )
    moe_tp_size: Annotated[int, Field(ge=0, le=1024)] = Field(
        0,
        title="Experts: tensor parallel",
        description="Of a mixture of experts: GPUs that share each expert; 0 leaves it to "
        "TensorRT-LLM. Both expert sizes together make the tensor parallel size.",
        json_schema_extra=extra("Parallelism", "--moe_tp_size"),
    )
    moe_ep_size: Annotated[int, Field(ge=0, le=1024)] = Field(
        0,
        title="Experts: expert parallel",
        description="Of a mixture of experts: groups that the experts are dealt out to; 0 leaves it "
        "to TensorRT-LLM.",
        json_schema_extra=extra("Parallelism", "--moe_ep_size"),
    )
    tensorrt_llm: Known = Field(
        "",
        title="TensorRT-LLM version",
        description="Empty takes what the image's tag tells. Needed for a local installation and for "
        "images of your own.",
        json_schema_extra=extra("Server"),
    )
    max_batch_size: Annotated[int, Field(ge=1, le=65536)] = Field(
        8,
        title="Largest batch",
        description="Requests at once. Decoder buffers grow with it: TensorRT-LLM's own default of "
        "2048 takes gigabytes.",
        json_schema_extra=extra("Limits", "--max_batch_size"),
    )
    max_seq_len: LongestSequence = Field(
        0, json_schema_extra=extra("Limits", "--max_seq_len", "tokens")
    )
    max_num_tokens: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        8192,
        title="Tokens of a step",
        description="Most tokens of one step over all requests, padding aside.",
        json_schema_extra=extra("Limits", "--max_num_tokens", "tokens"),
    )
    kv_cache_fraction: Fraction = Field(
        0.9,
        title="Cache fraction",
        description="Part of the GPU memory that is left after the weights, for the key/value cache.",
        json_schema_extra=extra("Memory", "kv_cache_free_gpu_mem_fraction"),
    )
    kv_cache_reuse: bool = Field(
        True,
        title="Reuse the cache",
        description="Requests with a common beginning share its cache.",
        json_schema_extra=extra("Memory", "enable_kv_cache_reuse"),
    )
    chunked_context: bool = Field(
        False,
        title="Chunked context",
        description="Long prompts are taken in pieces, between the steps of other requests.",
        json_schema_extra=extra("Speed", "enable_chunked_context"),
    )
    streaming: bool = Field(
        True,
        title="Streaming",
        description="Answers come token by token (a decoupled model); /infer is then refused, "
        "/generate and /generate_stream work.",
        json_schema_extra=extra("Serving", "decoupled_mode"),
    )

    @property
    def world(self) -> int:
        """Ranks of one server: one GPU each."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @model_validator(mode="after")
    def _experts(self) -> TrtllmOptions:
        given = (self.moe_tp_size, self.moe_ep_size)
        if any(given) and self.moe_tp_size * self.moe_ep_size != self.tensor_parallel_size:
            raise ValueError("moe_tp_size × moe_ep_size must be tensor_parallel_size")
        return self


class EngineOptions(TrtllmOptions):
    """How TensorRT-LLM's engine is converted, built and served."""

    family: Literal["auto", "gpt", "llama", "gemma", "falcon"] = Field(
        "auto",
        title="Family",
        description="Whose conversion script; auto takes it from the checkpoint. Mistral and Mixtral "
        "are of llama's.",
        json_schema_extra=extra("Model"),
    )
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = Field(
        "auto",
        title="Precision",
        description="auto takes the checkpoint's, 32-bit ones as float16.",
        json_schema_extra=extra("Model", "--dtype"),
    )
    quantization: Quantisation = Field(
        "none",
        title="Quantisation",
        description="int8 and int4 are weights alone. fp8, int4_awq, w4a8_awq and nvfp4 are calibrated "
        "with samples by quantize.py.",
        json_schema_extra=extra("Model", "--qformat"),
    )
    kv_cache_dtype: Literal["auto", "int8", "fp8"] = Field(
        "auto",
        title="Cache precision",
        description="int8 with the conversion script, fp8 with calibrated quantisation.",
        json_schema_extra=extra("Memory", "--kv_cache_dtype"),
    )
    smoothquant: Fraction = Field(
        0.5,
        title="SmoothQuant strength",
        description="How much of the activations' range moves into the weights.",
        json_schema_extra=extra("Model", "--smoothquant"),
    )
    calib_dataset: Word = Field(
        "",
        title="Calibration data",
        description="Folder or name of the samples; empty takes the script's own, which it fetches.",
        json_schema_extra=extra("Model", "--calib_dataset"),
    )
    calib_size: Annotated[int, Field(ge=1, le=100_000)] = Field(
        512,
        title="Calibration samples",
        description="How many samples quantize.py runs.",
        json_schema_extra=extra("Model", "--calib_size"),
    )
    use_parallel_embedding: bool = Field(
        False,
        title="Split the embedding",
        description="Over the tensor parallel GPUs instead of a copy on each.",
        json_schema_extra=extra("Parallelism", "--use_parallel_embedding"),
    )
    load_model_on_cpu: bool = Field(
        False,
        title="Convert on the CPU",
        description="Loads the weights into host memory to convert them.",
        json_schema_extra=extra("Build", "--load_model_on_cpu"),
    )
    workers: Processes = Field(
        1,
        title="Workers",
        description="Ranks that are converted and built at once, one GPU each.",
        json_schema_extra=extra("Build", "--workers"),
    )
    max_input_len: Tokens = Field(
        1024,
        title="Longest prompt",
        description="Tokens of one prompt.",
        json_schema_extra=extra("Limits", "--max_input_len", "tokens"),
    )
    max_beam_width: Annotated[int, Field(ge=1, le=128)] = Field(
        1,
        title="Beams",
        description="Widest beam search that a request may ask for.",
        json_schema_extra=extra("Limits", "--max_beam_width"),
    )
    gemm_plugin: Literal["default", "auto", "float16", "bfloat16", "float32", "fp8", "disable"] = (
        Field(
            "auto",
            title="GEMM plugin",
            description="auto takes the model's precision; default leaves it to the version.",
            json_schema_extra=extra("Build", "--gemm_plugin"),
        )
    )
    context_fmha: bool = Field(
        True,
        title="Fused attention",
        description="Fused attention over the prompt.",
        json_schema_extra=extra("Build", "--context_fmha"),
    )
    fast_build: bool = Field(
        False,
        title="Fast build",
        description="Skips profiling: built sooner, answers slower.",
        json_schema_extra=extra("Build", "--fast_build"),
    )
    tokens_per_block: Annotated[int, Field(ge=0, le=1024)] = Field(
        0,
        title="Tokens of a cache block",
        description="A power of two; 0 is the version's default.",
        json_schema_extra=extra("Memory", "--tokens_per_block", "tokens"),
    )
    examples: AbsolutePath = Field(
        "",
        title="Examples folder",
        description="TensorRT-LLM's examples of the very same version, on this machine. Empty takes "
        "/app/examples of the image (25.10 and later).",
        json_schema_extra=extra("Build"),
    )
    max_cache_tokens: Tokens = Field(
        0,
        title="Cache tokens",
        description="Most tokens of the cache; 0: the fraction alone limits it.",
        json_schema_extra=extra("Memory", "max_tokens_in_paged_kv_cache", "tokens"),
    )
    kv_cache_host_memory: Annotated[int, Field(ge=0, le=4096)] = Field(
        0,
        title="Cache on the host",
        description="Host memory that takes blocks of the cache which are not in use; 0 takes none.",
        json_schema_extra=extra("Memory", "kv_cache_host_memory_bytes", "GiB"),
    )
    max_attention_window: Tokens = Field(
        0,
        title="Attention window",
        description="Tokens that attention looks back to; 0 is the whole sequence.",
        json_schema_extra=extra("Memory", "max_attention_window_size", "tokens"),
    )
    decoding_mode: Literal["auto", "top_k", "top_p", "top_k_top_p", "beam_search"] = Field(
        "auto",
        title="Decoding",
        description="auto samples with one beam and searches with several; top_k_top_p takes more "
        "memory than either alone.",
        json_schema_extra=extra("Speed", "decoding_mode"),
    )
    multi_block_mode: bool = Field(
        True,
        title="Split attention",
        description="Attention over long sequences is split among more of the GPU.",
        json_schema_extra=extra("Speed", "multi_block_mode"),
    )
    cuda_graph_mode: bool = Field(
        False,
        title="CUDA graphs",
        description="Each step of generation is started as one graph; takes memory.",
        json_schema_extra=extra("Speed", "cuda_graph_mode"),
    )
    scheduler: Literal["guaranteed_no_evict", "max_utilization"] = Field(
        "guaranteed_no_evict",
        title="Scheduler",
        description="max_utilization fills the GPU more and may have to begin requests again.",
        json_schema_extra=extra("Serving", "batch_scheduler_policy"),
    )
    draft_tokens: Annotated[int, Field(ge=1, le=64)] = Field(
        5,
        title="Draft tokens",
        description="Tokens that the draft model proposes in one round; only with a draft model.",
        json_schema_extra=extra("Draft model", "--max_draft_len", "tokens"),
    )
    draft_cache_fraction: Fraction = Field(
        0.2,
        title="Draft cache fraction",
        description="Part of the free GPU memory for the draft model's own key/value cache.",
        json_schema_extra=extra("Draft model", "kv_cache_free_gpu_mem_fraction"),
    )
    draft_instances: Processes = Field(
        4,
        title="Texts at once",
        description="Texts that are answered at once with a draft model, one process each.",
        json_schema_extra=extra("Draft model", "bls_instance_count"),
    )
    tokenizer: AbsolutePath = Field(
        "",
        title="Tokenizer folder",
        description="A folder with tokenizer.json or what transformers reads; empty takes the "
        "checkpoint's own.",
        json_schema_extra=extra("Text"),
    )
    add_special_tokens: bool = Field(
        True,
        title="Special tokens in",
        description="The tokenizer puts its special tokens around the prompt.",
        json_schema_extra=extra("Text", "add_special_tokens"),
    )
    skip_special_tokens: bool = Field(
        True,
        title="No special tokens out",
        description="Special tokens are left out of the answer.",
        json_schema_extra=extra("Text", "skip_special_tokens"),
    )
    text_instances: Processes = Field(
        1,
        title="Tokenizer processes",
        description="Processes of each of the two stages around the engine.",
        json_schema_extra=extra("Text", "preprocessing_instance_count"),
    )
    end_id: Id = Field(
        -1,
        title="End token",
        description="Id that ends an answer; -1 takes the checkpoint's.",
        json_schema_extra=extra("Text"),
    )
    trust_remote_code: TrustRemoteCode = Field(
        False,
        description="Upstream's scripts run Python code that lies in a Hugging Face folder, unasked. Set "
        "this when you have read that code; a folder without code needs it not.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> EngineOptions:
        if self.family == "gemma" and self.pipeline_parallel_size > 1:
            raise ValueError("gemma's script has no pipeline parallelism")
        if self.kv_cache_dtype == "fp8" and self.quantization not in CALIBRATED:
            raise ValueError("an fp8 cache needs a calibrated quantization (fp8, int4_awq …)")
        if self.kv_cache_dtype == "int8" and self.quantization in CALIBRATED:
            raise ValueError("calibrated quantization takes an fp8 cache, not int8")
        if self.max_seq_len and self.max_seq_len <= self.max_input_len:
            raise ValueError("max_seq_len counts prompt and answer: it must be over max_input_len")
        if self.decoding_mode == "beam_search" and self.max_beam_width == 1:
            raise ValueError("beam_search needs a max_beam_width over 1")
        if self.tokens_per_block & (self.tokens_per_block - 1):
            raise ValueError("tokens_per_block must be a power of two")
        return self


class LlmapiOptions(TrtllmOptions):
    """How TensorRT-LLM's LLM API serves a Hugging Face folder, without a build step."""

    dtype: Literal["auto", "float16", "bfloat16"] = Field(
        "auto",
        title="Precision",
        description="auto takes the checkpoint's.",
        json_schema_extra=extra("Model", "dtype"),
    )
    kv_cache_dtype: CachePrecision = Field(
        "auto", json_schema_extra=extra("Memory", "kv_cache_config.dtype")
    )
    load_format: Literal["auto", "dummy"] = Field(
        "auto",
        title="Weights",
        description="dummy takes random ones, to learn whether a model's shape fits.",
        json_schema_extra=extra("Model", "load_format"),
    )
    python_model: AbsolutePath = Field(
        "",
        title="Python model's folder",
        description="TensorRT-LLM's own model.py and helpers.py for Triton, of the version that is "
        "installed. Empty takes the image's (/app/all_models/llmapi).",
        json_schema_extra=extra("Serving"),
    )
    trust_remote_code: TrustRemoteCode = Field(
        False, json_schema_extra=extra("Safety", "trust_remote_code")
    )
