"""What options of several routes have in common: types of values, and whole fields.

A whole field has title, help and group; a route declares it by its default alone
(``threads: Threads = 0``). Where upstream calls it otherwise, or a route says more of it, a `Field` of
the route's own goes over it: ``Field(False, json_schema_extra=extra("Safety", "--trust-remote-code"))``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field


def extra(group: str, flag: str = "", unit: str = "") -> dict[str, Any]:
    """What a field of `Options` says of itself beside title and description."""
    return {k: v for k, v in (("group", group), ("flag", flag), ("unit", unit)) if v}


# ---------------------------------------------------------------------------- values

Ranks = Annotated[int, Field(ge=1, le=1024)]
Count = Annotated[int, Field(ge=0, le=100_000)]
Tokens = Annotated[int, Field(ge=0, le=100_000_000)]
Port = Annotated[int, Field(ge=0, le=65535)]
Image = Annotated[str, Field(pattern=r"^([\w][\w./:@-]*)?$")]
AbsolutePath = Annotated[str, Field(pattern=r"^(/[^\x00-\x1f]*)?$")]
"""Of a file or folder; or empty."""
VariableName = Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]{0,99})?$")]
"""Of an environment variable that holds a secret, as shells can name it; or empty."""
GenerationName = Annotated[str, Field(pattern=r"^[a-z0-9.-]{0,20}$")]

# ---------------------------------------------------------------------------- how Triton runs a graph

DynamicBatching = Annotated[
    bool,
    Field(
        title="Dynamic batching",
        description="Collect requests that arrive together into one batch.",
        json_schema_extra=extra("Serving", "dynamic_batching"),
    ),
]
QueueDelay = Annotated[
    int,
    Field(
        ge=0,
        le=10_000_000,
        title="Longest wait for a batch",
        description="How long a request may wait for others. 0: batch only what is there already.",
        json_schema_extra=extra("Serving", "dynamic_batching.max_queue_delay_microseconds", "µs"),
    ),
]
Instances = Annotated[
    int,
    Field(
        ge=1,
        le=64,
        title="Instances",
        description="How many copies of the model run side by side; each needs its own memory.",
        json_schema_extra=extra("Serving", "instance_group.count"),
    ),
]
Threads = Annotated[
    int,
    Field(
        ge=0,
        le=256,
        title="Threads of one instance",
        description="Threads of ONNX Runtime for one operator. 0: one for each core.",
        json_schema_extra=extra("Serving", "intra_op_num_threads"),
    ),
]

# ---------------------------------------------------------------------------- language models

TensorParallel = Annotated[
    Ranks,
    Field(
        title="Tensor parallel size",
        description="GPUs that share every layer. The attention heads must be divisible by it.",
        json_schema_extra=extra("Parallelism", "--tensor-parallel-size"),
    ),
]
PipelineParallel = Annotated[
    Ranks,
    Field(
        title="Pipeline parallel size",
        description="Stages that the layers are cut into, one after the other.",
        json_schema_extra=extra("Parallelism", "--pipeline-parallel-size"),
    ),
]
ContextParallel = Annotated[
    Ranks,
    Field(
        title="Context parallel size",
        description="GPUs that share a sequence.",
        json_schema_extra=extra("Parallelism", "--context_parallel_size"),
    ),
]
TorchPrecision = Annotated[
    Literal["auto", "bfloat16", "float16", "float32"],
    Field(
        title="Precision",
        description="Hugging Face models: auto takes the checkpoint's.",
        json_schema_extra=extra("Model", "--torch_dtype"),
    ),
]
CachePrecision = Annotated[
    Literal["auto", "fp8"],
    Field(
        title="Cache precision",
        description="fp8 halves the key/value cache, on GPUs that have it.",
        json_schema_extra=extra("Memory", "--kv-cache-dtype"),
    ),
]
LongestSequence = Annotated[
    Tokens,
    Field(
        title="Longest sequence",
        description="Tokens of prompt and answer together; 0 takes the model's own limit.",
        json_schema_extra=extra("Limits", "--max-model-len", "tokens"),
    ),
]
LegacyCheckpoint = Annotated[
    bool,
    Field(
        title="Legacy checkpoint",
        description="Loads checkpoints that older Megatron versions wrote.",
        json_schema_extra=extra("Model", "--legacy_ckpt"),
    ),
]
TrustRemoteCode = Annotated[
    bool,
    Field(
        title="Trust its code",
        description="Runs Python code that lies in the checkpoint's folder. Only for checkpoints whose "
        "code you have read.",
        json_schema_extra=extra("Safety"),
    ),
]
