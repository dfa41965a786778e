"""Options of the engines that NeMo's scripts build, of text alone or with an encoder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from backends.base import BackendOptions
from backends.fields import extra

Target = Literal[
    "attn_qkv", "attn_q", "attn_k", "attn_v", "attn_dense", "mlp_h_to_4h", "mlp_gate", "mlp_4h_to_h"
]
ModelVersion = Annotated[
    int,
    Field(
        ge=1,
        le=1_000_000,
        title="Model version",
        description="Version under which it is served.",
        json_schema_extra=extra("Model", "--triton_model_version"),
    ),
]
LongestPrompt = Annotated[
    int,
    Field(
        ge=1,
        le=10_000_000,
        title="Longest prompt",
        description="Tokens of the longest prompt; fixed in the engine.",
        json_schema_extra=extra("Limits", "--max_input_len", "tokens"),
    ),
]
LongestAnswer = Annotated[
    int,
    Field(
        ge=1,
        le=10_000_000,
        title="Longest answer",
        description="Tokens of the longest answer; fixed in the engine.",
        json_schema_extra=extra("Limits", "--max_output_len", "tokens"),
    ),
]
LargestBatch = Annotated[
    int,
    Field(
        ge=1,
        le=100_000,
        title="Largest batch",
        description="Requests that are computed at once; fixed in the engine.",
        json_schema_extra=extra("Limits", "--max_batch_size"),
    ),
]


class LoraPluginOptions(BackendOptions):
    """The part of an engine that applies adapters."""

    use_lora_plugin: Literal["", "float16", "float32", "bfloat16"] = Field(
        "",
        title="LoRA plugin",
        description="Precision of the plugin that applies adapters; empty leaves it out.",
        json_schema_extra=extra("LoRA", "--use_lora_plugin"),
    )
    lora_target_modules: tuple[Target, ...] = Field(
        (),
        title="LoRA targets",
        description="Parts of a layer that adapters change; only with the plugin.",
        json_schema_extra=extra("LoRA", "--lora_target_modules"),
    )
    max_lora_rank: Annotated[int, Field(ge=1, le=512)] = Field(
        64,
        title="Largest LoRA rank",
        description="Sizes the plugin's working memory.",
        json_schema_extra=extra("LoRA", "--max_lora_rank"),
    )

    @model_validator(mode="after")
    def _targets(self) -> LoraPluginOptions:
        if self.lora_target_modules and not self.use_lora_plugin:
            raise ValueError("lora_target_modules works only with use_lora_plugin")
        return self
