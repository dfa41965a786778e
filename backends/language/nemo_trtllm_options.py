"""Options of the NeMo TensorRT-LLM route: every parameter of ``deploy_triton.py``, and where it runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from backends.fields import PipelineParallel, TensorParallel, Tokens, extra
from backends.language.common import LayoutOptions
from backends.upstream.engine_options import (
    LargestBatch,
    LongestAnswer,
    LongestPrompt,
    LoraPluginOptions,
    ModelVersion,
)
from backends.upstream.place import PlaceOptions

File = Annotated[str, Field(pattern=r"^/[^\x00-\x1f]+$")]
Word = Annotated[str, Field(pattern=r"^[^-\s][^\r\n]*$", max_length=200)]
Plugin = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,20}$")]
Override = Literal["auto", "true", "false"]


class PromptTableOptions(PlaceOptions, LayoutOptions):
    """Learned prompts and adapters."""

    ptuning_nemo_checkpoint: tuple[File, ...] = Field(
        (),
        title="Prompt tables",
        description="Files (.nemo) with learned virtual tokens.",
        json_schema_extra=extra("Prompt tables", "--ptuning_nemo_checkpoint"),
    )
    task_ids: tuple[Word, ...] = Field(
        (),
        title="Task names",
        description="One for each prompt table, in the same order; empty numbers them from 0.",
        json_schema_extra=extra("Prompt tables", "--task_ids"),
    )
    max_prompt_embedding_table_size: Tokens = Field(
        0,
        title="Largest prompt table",
        description="Virtual tokens of all tables together; 0 where there is no table.",
        json_schema_extra=extra("Prompt tables", "--max_prompt_embedding_table_size", "tokens"),
    )
    lora_ckpt: tuple[File, ...] = Field(
        (),
        title="LoRA adapters",
        description="Checkpoints of adapters; Export-Deploy wants folders, unpacked.",
        json_schema_extra=extra("LoRA", "--lora_ckpt"),
    )

    @model_validator(mode="after")
    def _tables_together(self) -> PromptTableOptions:
        tables, size = self.ptuning_nemo_checkpoint, self.max_prompt_embedding_table_size
        if self.task_ids and len(self.task_ids) != len(tables):
            raise ValueError(f"{len(self.task_ids)} task_ids for {len(tables)} prompt tables")
        if len(set(self.task_ids)) != len(self.task_ids):
            raise ValueError("two prompt tables have the same task id")
        if tables and not size:
            raise ValueError(
                "prompt tables need max_prompt_embedding_table_size: the virtual tokens of all of "
                "them together"
            )
        return self


class NemoTrtllmOptions(LoraPluginOptions, PromptTableOptions):
    """How NeMo builds a TensorRT-LLM engine and serves it through PyTriton."""

    tensor_parallel_size: TensorParallel = Field(
        1,
        description="GPUs that share every layer. A .qnemo and an engine fix it.",
        json_schema_extra=extra("Parallelism", "--tensor_parallelism_size"),
    )
    pipeline_parallel_size: PipelineParallel = Field(
        1,
        description="Stages that the layers are cut into. A .qnemo and an engine fix it.",
        json_schema_extra=extra("Parallelism", "--pipeline_parallelism_size"),
    )
    model_type: Literal[
        "auto", "gptnext", "gpt", "llama", "falcon", "starcoder", "mixtral", "gemma"
    ] = Field(
        "auto",
        title="Model type",
        description="auto takes it from the checkpoint: Nemotron is gpt, Mistral is llama, StarCoder "
        "1 and 2 are starcoder.",
        json_schema_extra=extra("Model", "--model_type"),
    )
    model_version: ModelVersion = 1
    dtype: Literal["bfloat16", "float16", "fp8", "int8"] = Field(
        "bfloat16",
        title="Precision",
        description="What the engine computes in. The export script takes only the first two from "
        "25.04 on.",
        json_schema_extra=extra("Model", "--dtype"),
    )
    export_fp8_quantized: Override = Field(
        "auto",
        title="FP8 weights",
        description="auto takes what the checkpoint was trained with.",
        json_schema_extra=extra("Model", "--export_fp8_quantized"),
    )
    use_fp8_kv_cache: Override = Field(
        "auto",
        title="FP8 cache",
        description="auto takes what the checkpoint says.",
        json_schema_extra=extra("Model", "--use_fp8_kv_cache"),
    )
    max_input_len: LongestPrompt = 256
    max_output_len: LongestAnswer = 256
    max_seq_len: Tokens = Field(
        0,
        title="Longest sequence",
        description="Tokens of prompt and answer together; 0 leaves it to upstream.",
        json_schema_extra=extra("Limits", "--max_seq_len", "tokens"),
    )
    max_batch_size: LargestBatch = 8
    max_num_tokens: Tokens = Field(
        0,
        title="Tokens of a step",
        description="Most tokens of one step; 0 leaves it to upstream.",
        json_schema_extra=extra("Limits", "--max_num_tokens", "tokens"),
    )
    opt_num_tokens: Tokens = Field(
        0,
        title="Usual tokens of a step",
        description="Tokens that kernels are tuned for; 0 leaves it to upstream.",
        json_schema_extra=extra("Limits", "--opt_num_tokens", "tokens"),
    )
    no_paged_kv_cache: bool = Field(
        False,
        title="No paged cache",
        description="Reserves the whole cache for each request.",
        json_schema_extra=extra("Engine", "--no_paged_kv_cache"),
    )
    disable_remove_input_padding: bool = Field(
        False,
        title="Keep padding",
        description="Computes padding as if it were text; slower.",
        json_schema_extra=extra("Engine", "--disable_remove_input_padding"),
    )
    use_parallel_embedding: bool = Field(
        False,
        title="Split embeddings",
        description="Divides the embedding table among the tensor parallel GPUs.",
        json_schema_extra=extra("Engine", "--use_parallel_embedding"),
    )
    multi_block_mode: bool = Field(
        False,
        title="Long sequences in blocks",
        description="Splits the cache of a long sequence, for small batches.",
        json_schema_extra=extra("Engine", "--multi_block_mode"),
    )
    multiple_profiles: bool = Field(
        False,
        title="Several profiles",
        description="Tunes kernels for several sizes; building takes longer.",
        json_schema_extra=extra("Engine", "--multiple_profiles"),
    )
    gpt_attention_plugin: Plugin = Field(
        "auto",
        title="Attention plugin",
        description="Precision of the plugin, auto or disable.",
        json_schema_extra=extra("Engine", "--gpt_attention_plugin"),
    )
    gemm_plugin: Plugin = Field(
        "auto",
        title="Matrix plugin",
        description="Precision of the plugin, auto or disable.",
        json_schema_extra=extra("Engine", "--gemm_plugin"),
    )
    use_cpp_runtime: bool = Field(
        False,
        title="C++ runtime",
        description="Runs the engine in TensorRT-LLM's C++ runtime instead of the Python one.",
        json_schema_extra=extra("Engine", "--use_cpp_runtime"),
    )
    request_timeout: Annotated[int, Field(ge=1, le=86_400)] = Field(
        60,
        title="Request timeout",
        description="How long upstream's REST front waits for an answer.",
        json_schema_extra=extra("Server", "--triton_request_timeout", "s"),
    )
    debug_mode: bool = Field(
        False,
        title="Verbose log",
        description="Logs what upstream does.",
        json_schema_extra=extra("Server", "--debug_mode"),
    )

    @property
    def sequence(self) -> int:
        """Tokens of the longest sequence."""
        return self.max_seq_len or self.max_input_len + self.max_output_len
