"""Options of the Ray Serve route, each with the flag of upstream's scripts that carries it."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from backends.fields import (
    ContextParallel,
    Count,
    GenerationName,
    LegacyCheckpoint,
    PipelineParallel,
    Port,
    Ranks,
    TensorParallel,
    Tokens,
    TorchPrecision,
    TrustRemoteCode,
    VariableName,
    extra,
)
from backends.language.common import LayoutOptions


def _address(value: str) -> str:
    """Raises `ValueError` for a bracket that is not closed and for a port that there is not."""
    if not urlsplit(value).hostname or urlsplit(value).port == 0:
        raise ValueError("http://HOST:PORT of the head's dashboard")
    return value


Url = Annotated[
    str, AfterValidator(_address), Field(pattern=r"^https?://[\w.:\[\]-]+$", max_length=300)
]
Place = Annotated[str, Field(pattern=r"^([\w.\[\]-]+:\d+)?$", max_length=300)]
Address = Annotated[str, Field(pattern=r"^[0-9A-Fa-f.:]*$", max_length=64)]
Share = Annotated[float, Field(ge=0.0, le=1024.0)]
Program = Annotated[str, Field(pattern=r"^[\w./-]+$", max_length=300)]


class RayOptions(LayoutOptions):
    """How a model is served by Ray Serve, on one machine or many."""

    tensor_parallel_size: TensorParallel = Field(
        1, json_schema_extra=extra("Parallelism", "--tensor_model_parallel_size")
    )
    pipeline_parallel_size: PipelineParallel = Field(
        1, json_schema_extra=extra("Parallelism", "--pipeline_model_parallel_size")
    )
    form: Literal["application", "script"] = Field(
        "application",
        title="Form",
        description="application: tritondeck's own job over Export-Deploy's Ray class, Hugging Face "
        "folders only; it can be scaled while it serves. script: upstream's own script, which every "
        "node must have.",
        json_schema_extra=extra("Server"),
    )
    engine: Literal["pytorch", "vllm", "tensorrt-llm"] = Field(
        "pytorch",
        title="Engine",
        description="What generates. vllm and tensorrt-llm are for Hugging Face folders; the nodes "
        "must have it.",
        json_schema_extra=extra("Model", "--use_vllm_backend"),
    )
    device: Literal["cuda", "cpu"] = Field(
        "cuda",
        title="Device",
        description="Application: cpu is for trying small models without a GPU.",
        json_schema_extra=extra("Server"),
    )
    cluster: Literal["existing", "head", "join"] = Field(
        "existing",
        title="Cluster",
        description="existing: a Ray cluster that runs already. head: one that starts and ends with "
        "this server, here. join: this machine becomes a node of a cluster, and nothing is submitted. "
        "head and join listen on every interface and need server.expose.",
        json_schema_extra=extra("Cluster"),
    )
    head: Url = Field(
        "http://127.0.0.1:8265",
        title="Head",
        description="Existing: address of the head's dashboard, where jobs are submitted.",
        json_schema_extra=extra("Cluster"),
    )
    gcs: Place = Field(
        "",
        title="Cluster to join",
        description="Join: HOST:PORT of the head itself, such as 10.0.0.1:6379.",
        json_schema_extra=extra("Cluster", "ray start --address"),
    )
    token_env: VariableName = Field(
        "",
        title="Token variable",
        description="Name of the environment variable that holds Ray's token.",
        json_schema_extra=extra("Cluster", "RAY_AUTH_TOKEN"),
    )
    token_file: str = Field(
        "",
        title="Token file",
        description="File that holds Ray's token. A head without one makes its own, in the work "
        "folder, for the nodes that join.",
        json_schema_extra=extra("Cluster", "RAY_AUTH_TOKEN_PATH"),
        max_length=4096,
    )
    gcs_port: Port = Field(
        6379,
        title="Head's port",
        description="Head: where nodes join. 0 takes a free one.",
        json_schema_extra=extra("Cluster", "ray start --port"),
    )
    dashboard_port: Port = Field(
        8265,
        title="Dashboard's port",
        description="Head: on loopback. 0 takes a free one.",
        json_schema_extra=extra("Cluster", "ray start --dashboard-port"),
    )
    node_address: Address = Field(
        "",
        title="This node's address",
        description="Head and join: address that the other nodes reach this machine at. Empty leaves "
        "it to Ray.",
        json_schema_extra=extra("Cluster", "ray start --node-ip-address"),
    )
    node_cpus: Count = Field(
        0,
        title="CPUs of this node",
        description="Head and join: CPUs that this machine gives to the cluster; 0 for all.",
        json_schema_extra=extra("Cluster", "ray start --num-cpus"),
    )
    node_gpus: Annotated[int, Field(ge=-1, le=1024)] = Field(
        -1,
        title="GPUs of this node",
        description="Head and join: GPUs that this machine gives to the cluster; -1 for all.",
        json_schema_extra=extra("Cluster", "ray start --num-gpus"),
    )
    num_nodes: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1,
        title="Nodes",
        description="How many nodes the cluster must have before anything is submitted.",
        json_schema_extra=extra("Cluster", "--num_nodes"),
    )
    num_replicas: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1,
        title="Replicas",
        description="Copies of the model that share the requests. `tritondeck scale` changes them "
        "while the application serves.",
        json_schema_extra=extra("Replicas", "--num_replicas"),
    )
    num_gpus_per_replica: Share = Field(
        1.0,
        title="GPUs of a replica",
        description="Hugging Face folders: whole GPUs, or a part of one below 1. NeMo and Megatron "
        "take the product of their parallel sizes.",
        json_schema_extra=extra("Replicas", "--num_gpus_per_replica"),
    )
    num_cpus_per_replica: Share = Field(
        1.0,
        title="CPUs of a replica",
        description="Upstream's default of 8 leaves replicas waiting for ever on small machines.",
        json_schema_extra=extra("Replicas", "--num_cpus_per_replica"),
    )
    max_ongoing_requests: Annotated[int, Field(ge=1, le=100_000)] = Field(
        10,
        title="Requests of a replica",
        description="Requests that one replica takes at a time; more wait.",
        json_schema_extra=extra("Replicas", "--max_ongoing_requests"),
    )
    generation: GenerationName = Field(
        "ed-0.4",
        title="Generation",
        description="Script: which generation of Export-Deploy the nodes have (ed-0.1 … ed-main).",
        json_schema_extra=extra("Server"),
    )
    python: Program = Field(
        "python",
        title="Python",
        description="Python of the nodes that runs the job, as their PATH finds it.",
        json_schema_extra=extra("Server"),
    )
    dtype: TorchPrecision = "auto"
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] = Field(
        "auto",
        title="Device map",
        description="Hugging Face models: how Accelerate spreads layers over a replica's GPUs.",
        json_schema_extra=extra("Parallelism", "--device_map"),
    )
    cuda_visible_devices: Annotated[str, Field(pattern=r"^(\d+(,\d+)*)?$")] = Field(
        "",
        title="GPUs that replicas see",
        description="Script: indices with commas between. The Hugging Face script sets "
        "CUDA_VISIBLE_DEVICES=0 for every replica unless they are named.",
        json_schema_extra=extra("Replicas", "--cuda_visible_devices"),
    )
    context_parallel_size: ContextParallel = 1
    expert_model_parallel_size: Ranks = Field(
        1,
        title="Expert parallel size",
        description="GPUs that share the experts of a mixture.",
        json_schema_extra=extra("Parallelism", "--expert_model_parallel_size"),
    )
    max_batch_size: Count = Field(
        0,
        title="Largest batch",
        description="NeMo, Megatron and TensorRT-LLM: requests of one batch; 0 is upstream's default.",
        json_schema_extra=extra("Limits", "--max_batch_size"),
    )
    inference_max_seq_length: Tokens = Field(
        0,
        title="Longest sequence",
        description="NeMo and Megatron: tokens of prompt and answer together; 0 is upstream's "
        "default of 4096. From 0.4 on.",
        json_schema_extra=extra("Limits", "--inference_max_seq_length", "tokens"),
    )
    max_input_len: Tokens = Field(
        0,
        title="Longest prompt",
        description="TensorRT-LLM: 0 is upstream's default of 2048.",
        json_schema_extra=extra("Limits", "--max_input_len", "tokens"),
    )
    max_output_len: Tokens = Field(
        0,
        title="Longest answer",
        description="TensorRT-LLM: 0 is upstream's default of 1024.",
        json_schema_extra=extra("Limits", "--max_output_len", "tokens"),
    )
    enable_flash_decode: bool = Field(
        False,
        title="Flash decoding",
        description="NeMo and Megatron: faster attention while generating.",
        json_schema_extra=extra("Speed", "--enable_flash_decode"),
    )
    enable_cuda_graphs: bool = Field(
        False,
        title="CUDA graphs",
        description="NeMo and Megatron: records a step's kernels once.",
        json_schema_extra=extra("Speed", "--enable_cuda_graphs"),
    )
    legacy_ckpt: LegacyCheckpoint = False
    trust_remote_code: TrustRemoteCode = Field(
        False,
        description="Runs Python code that lies in the checkpoint's folder, on every node. Only for "
        "checkpoints whose code you have read.",
        json_schema_extra=extra("Safety", "--trust_remote_code"),
    )

    @property
    def ranks(self) -> int:
        """GPUs of one replica of a NeMo or Megatron model: one process each."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.context_parallel_size

    @model_validator(mode="after")
    def _consistent(self) -> RayOptions:
        if self.token_env and self.token_file:
            raise ValueError("give token_env or token_file, not both")
        if self.cluster == "join" and not self.gcs:
            raise ValueError("cluster = join needs gcs = HOST:PORT of the head")
        if self.form == "script" and self.device == "cpu":
            raise ValueError("the scripts need CUDA: device = cpu needs form = application")
        if self.form == "application" and self.engine == "tensorrt-llm":
            raise ValueError("engine = tensorrt-llm needs form = script")
        if self.device == "cpu" and self.engine != "pytorch":
            raise ValueError("device = cpu needs engine = pytorch")
        return self
