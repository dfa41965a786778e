"""Options of the multimodal route: every parameter of ``multimodal/deploy_triton.py``, and what surrounds it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from backends.fields import AbsolutePath, Ranks, extra
from backends.multimodal.kinds import KINDS
from backends.upstream.engine_options import (
    LargestBatch,
    LongestAnswer,
    LongestPrompt,
    LoraPluginOptions,
    ModelVersion,
)
from backends.upstream.place import PlaceOptions

ModelType = Literal["auto", "neva", "video-neva", "lita", "vila", "vita", "mllama", "salm"]


class PartOptions(PlaceOptions):
    """Parts of the model that are merged or fetched before the export, or served beside it."""

    export_with: Literal["auto", "neva_export", "export_mm_to_trtllm"] = Field(
        "auto",
        title="Export script",
        description="What mode = export calls: NeMo's neva_export.py (vision), or "
        "export_mm_to_trtllm.py; auto takes the first that this generation has for the model.",
        json_schema_extra=extra("Place"),
    )
    lora_merge: Literal["auto", "never"] = Field(
        "auto",
        title="Merge the LoRA of SALM",
        description="auto merges the adapter that a SALM checkpoint was trained with into its "
        "language model before the export; never exports the language model alone.",
        json_schema_extra=extra("SALM"),
    )
    lora_file: AbsolutePath = Field(
        "",
        title="LoRA to merge",
        description="A LoRA .nemo that is merged into the language checkpoint before the export.",
        json_schema_extra=extra("SALM"),
    )
    hub_access: bool = Field(
        False,
        title="Fetch the vision encoder",
        description="Lets upstream fetch the encoder that the checkpoint names from Hugging Face; it "
        "runs code that comes with it (trust_remote_code).",
        json_schema_extra=extra("Vision encoder"),
    )
    hf_cache: AbsolutePath = Field(
        "",
        title="Hugging Face cache",
        description="A folder (HF_HOME) that holds the vision encoder already.",
        json_schema_extra=extra("Vision encoder"),
    )
    lora_checkpoint_path: AbsolutePath = Field(
        "",
        title="LoRA adapter",
        description="Checkpoint of an adapter; from 25.07 on a folder.",
        json_schema_extra=extra("LoRA", "--lora_checkpoint_path"),
    )


class MultimodalOptions(LoraPluginOptions, PartOptions):
    """How NeMo builds TensorRT engines of a multimodal model and serves them through PyTriton."""

    model_type: ModelType = Field(
        "auto",
        title="Model type",
        description="auto takes it from the checkpoint.",
        json_schema_extra=extra("Model", "--model_type"),
    )
    modality: Literal["auto", "vision", "audio"] = Field(
        "auto",
        title="Modality",
        description="auto follows the model type: audio for SALM, vision for all others.",
        json_schema_extra=extra("Model", "--modality"),
    )
    llm_model_type: Literal[
        "auto", "gptnext", "gpt", "llama", "falcon", "starcoder", "mixtral", "gemma", "mllama"
    ] = Field(
        "auto",
        title="Language model type",
        description="auto takes it from the checkpoint: llama for Llama 2, Llama 3, Vicuna and "
        "Mistral, gptnext for NVIDIA's GPT.",
        json_schema_extra=extra("Model", "--llm_model_type"),
    )
    model_version: ModelVersion = 1
    num_gpus: Ranks = Field(
        1,
        title="GPUs",
        description="GPUs that share every layer of the language model; the encoder runs on one.",
        json_schema_extra=extra("Parallelism", "--num_gpus"),
    )
    dtype: Literal["bfloat16", "float16"] = Field(
        "bfloat16",
        title="Precision",
        description="What the language model's engine computes in; upstream supports bfloat16 only.",
        json_schema_extra=extra("Model", "--dtype"),
    )
    max_input_len: LongestPrompt = Field(
        4096, description="Tokens of the longest prompt, those of pictures and sound included."
    )
    max_output_len: LongestAnswer = 256
    max_batch_size: LargestBatch = 1
    max_multimodal_len: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        3072,
        title="Longest picture or sound",
        description="Tokens that pictures or sound of one prompt become at most.",
        json_schema_extra=extra("Limits", "--max_multimodal_len", "tokens"),
    )
    vision_max_batch_size: Annotated[int, Field(ge=0, le=100_000)] = Field(
        0,
        title="Pictures at once",
        description="What the vision encoder is built for; 0 is 256 for LITA and VITA, whose videos "
        "are that many frames, and 1 for all others.",
        json_schema_extra=extra("Limits", "--vision_max_batch_size"),
    )

    @model_validator(mode="after")
    def _fitting(self) -> MultimodalOptions:
        if "auto" not in (self.model_type, self.modality):
            wanted = KINDS[self.model_type].modality
            if self.modality != wanted:
                raise ValueError(f"model_type {self.model_type} has the modality {wanted}")
        return self
