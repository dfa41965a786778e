"""Options of the in-framework route, each with the flag of upstream's scripts that carries it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from backends.fields import (
    ContextParallel,
    Count,
    GenerationName,
    Image,
    LegacyCheckpoint,
    PipelineParallel,
    Port,
    Ranks,
    TensorParallel,
    Tokens,
    TorchPrecision,
    TrustRemoteCode,
    extra,
)
from backends.language.common import LayoutOptions


class InFrameworkOptions(LayoutOptions):
    """How a model is served by PyTorch itself, through PyTriton."""

    tensor_parallel_size: TensorParallel = Field(1, json_schema_extra=extra("Parallelism", "-tps"))
    pipeline_parallel_size: PipelineParallel = Field(
        1, json_schema_extra=extra("Parallelism", "-pps")
    )
    form: Literal["worker", "script"] = Field(
        "worker",
        title="Form",
        description="worker: tritondeck's own worker over Export-Deploy's classes, in a managed "
        "environment, on a GPU or the CPU, Hugging Face folders only. script: upstream's own script "
        "in a NeMo container.",
        json_schema_extra=extra("Server"),
    )
    device: Literal["cuda", "cpu"] = Field(
        "cuda",
        title="Device",
        description="Worker: cpu is for trying small models without a GPU.",
        json_schema_extra=extra("Server"),
    )
    triton_port: Port = Field(
        0,
        title="Triton's port",
        description="Worker: port of Triton's HTTP tensors; the server's HTTP port is the "
        "OpenAI-compatible front's. Script: port of the OpenAI-compatible front, where the "
        "generation has one. 0 takes a free one.",
        json_schema_extra=extra("Server"),
    )
    image: Image = Field(
        "nvcr.io/nvidia/nemo:26.02",
        title="Image",
        description="Script: the NeMo container.",
        json_schema_extra=extra("Server"),
    )
    generation: GenerationName = Field(
        "",
        title="Generation",
        description="Script: which generation of NeMo or Export-Deploy the image has (nemo-25.04, "
        "ed-0.3, …). Empty: by the image's tag, the newer one where a tag has two.",
        json_schema_extra=extra("Server"),
    )
    dtype: TorchPrecision = "auto"
    device_map: Literal["", "auto", "balanced", "balanced_low_0", "sequential"] = Field(
        "auto",
        title="Device map",
        description="Hugging Face models: how Accelerate spreads layers over GPUs. Generations "
        "before 0.3 leave the model on the CPU without one.",
        json_schema_extra=extra("Parallelism", "--device_map"),
    )
    tp_plan: Literal["", "auto"] = Field(
        "",
        title="Tensor parallel plan",
        description="Hugging Face models in a script: auto splits layers as the model's own plan "
        "says, one process a GPU. Not together with a device map.",
        json_schema_extra=extra("Parallelism", "--tp_plan"),
    )
    max_batch_size: Annotated[int, Field(ge=1, le=4096)] = Field(
        8,
        title="Largest batch",
        description="Requests that Triton puts together.",
        json_schema_extra=extra("Limits", "--max_batch_size"),
    )
    inference_max_seq_length: Tokens = Field(
        0,
        title="Longest sequence",
        description="NeMo and Megatron: tokens of prompt and answer together; 0 is upstream's "
        "default of 4096.",
        json_schema_extra=extra("Limits", "--inference_max_seq_length", "tokens"),
    )
    micro_batch_size: Count = Field(
        0,
        title="Micro batch size",
        description="Megatron checkpoints: sequences of one pipeline step; 0 leaves it to upstream.",
        json_schema_extra=extra("Limits", "--micro_batch_size"),
    )
    num_nodes: Annotated[int, Field(ge=1, le=1024)] = Field(
        1,
        title="Nodes",
        description="NeMo and Megatron: machines that share the model, each with the same number of "
        "GPUs. The first one serves; the others run the plan's script, or Slurm starts all of them.",
        json_schema_extra=extra("Parallelism", "torchrun --nnodes"),
    )
    master_address: Annotated[str, Field(pattern=r"^[\w.:-]*$", max_length=253)] = Field(
        "",
        title="First node",
        description="Several nodes: name or address of the first one, as the others reach it. Slurm "
        "puts its own in.",
        json_schema_extra=extra("Parallelism", "torchrun --master-addr"),
    )
    master_port: Annotated[int, Field(ge=1, le=65535)] = Field(
        29500,
        title="Rendezvous port",
        description="Several nodes: where the processes meet, on the first node.",
        json_schema_extra=extra("Parallelism", "torchrun --master-port"),
    )
    context_parallel_size: ContextParallel = 1
    expert_model_parallel_size: Ranks = Field(
        1,
        title="Expert parallel size",
        description="GPUs that share the experts of a mixture. Export-Deploy parses it and never "
        "uses it.",
        json_schema_extra=extra("Parallelism", "--expert_model_parallel_size"),
    )
    expert_tensor_parallel_size: Ranks = Field(
        1,
        title="Expert tensor parallelism",
        description="GPUs that share one expert; from 0.5 on.",
        json_schema_extra=extra("Parallelism", "--expert_tensor_parallel_size"),
    )
    sequence_parallel: bool = Field(
        False,
        title="Sequence parallel",
        description="Splits activations along the sequence; from 0.5 on.",
        json_schema_extra=extra("Parallelism", "--sequence_parallel"),
    )
    num_layers_in_first_pipeline_stage: Count = Field(
        0,
        title="Layers of the first stage",
        description="0: the same as the others.",
        json_schema_extra=extra("Parallelism", "--num_layers_in_first_pipeline_stage"),
    )
    num_layers_in_last_pipeline_stage: Count = Field(
        0,
        title="Layers of the last stage",
        description="0: the same as the others.",
        json_schema_extra=extra("Parallelism", "--num_layers_in_last_pipeline_stage"),
    )
    account_for_embedding_in_pipeline_split: bool = Field(
        False,
        title="Count the embedding",
        description="As a layer, when layers are divided over pipeline stages.",
        json_schema_extra=extra("Parallelism", "--account_for_embedding_in_pipeline_split"),
    )
    account_for_loss_in_pipeline_split: bool = Field(
        False,
        title="Count the loss",
        description="As a layer, when layers are divided over pipeline stages.",
        json_schema_extra=extra("Parallelism", "--account_for_loss_in_pipeline_split"),
    )
    enable_flash_decode: bool = Field(
        False,
        title="Flash decoding",
        description="NeMo and Megatron: faster attention while generating; from 25.07 on.",
        json_schema_extra=extra("Speed", "--enable_flash_decode"),
    )
    enable_cuda_graphs: bool = Field(
        False,
        title="CUDA graphs",
        description="NeMo and Megatron: records a step's kernels once; they are off unless asked "
        "for. From Export-Deploy 0.1 on.",
        json_schema_extra=extra("Speed", "--enable_cuda_graphs"),
    )
    model_type: Literal["", "gpt", "mamba"] = Field(
        "",
        title="Megatron model type",
        description="Megatron checkpoints; empty is gpt.",
        json_schema_extra=extra("Model", "--model_type"),
    )
    legacy_ckpt: LegacyCheckpoint = False
    legacy_model_format: bool = Field(
        False,
        title="Legacy model format",
        description="Megatron checkpoints without the newer description of their model; from 0.5 on.",
        json_schema_extra=extra("Model", "--legacy_model_format"),
    )
    debug_mode: bool = Field(
        False,
        title="Verbose log",
        description="The script's or Triton's own verbose log. nemo_eval's log_level never existed.",
        json_schema_extra=extra("Server", "--debug_mode"),
    )
    trust_remote_code: TrustRemoteCode = Field(
        False, json_schema_extra=extra("Safety", "--trust_remote_code")
    )

    @property
    def ranks(self) -> int:
        """Processes of a Megatron model: one a GPU."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.context_parallel_size

    @model_validator(mode="after")
    def _consistent(self) -> InFrameworkOptions:
        if self.tp_plan and self.device_map:
            raise ValueError('tp_plan and device_map exclude each other: set device_map = ""')
        if self.form == "script" and self.device == "cpu":
            raise ValueError("the scripts need CUDA: device = cpu needs form = worker")
        if self.num_nodes > 1 and self.form == "worker":
            raise ValueError("the worker is one process: several nodes need form = script")
        if self.num_nodes > 1 and not self.master_address:
            raise ValueError("several nodes need master_address: the first node as others reach it")
        if self.ranks % self.num_nodes:
            raise ValueError(
                f"{self.ranks} ranks cannot be shared evenly by {self.num_nodes} nodes"
            )
        if self.form == "worker" and self.tp_plan:
            raise ValueError("the worker is one process: tp_plan needs form = script")
        return self
