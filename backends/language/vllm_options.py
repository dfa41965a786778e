"""Options of the vLLM route."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from backends.fields import (
    CachePrecision,
    Count,
    GenerationName,
    Image,
    LongestSequence,
    Port,
    Tokens,
    TrustRemoteCode,
    VariableName,
    extra,
)
from backends.language.common import LayoutOptions

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
Adapter = Annotated[str, Field(pattern=r"^[\w.-]+=/.+$")]


class VllmOptions(LayoutOptions):
    """How vLLM serves a Hugging Face folder."""

    serve_as: Literal["openai", "triton", "nemo", "proxy"] = Field(
        "openai",
        title="Served as",
        description="openai: vLLM's own server. triton: a model of Triton's vLLM backend, in the "
        "server of the launcher. nemo: NeMo's script, in its container, through PyTriton. proxy: "
        "vLLM's own server behind a model of the launcher's Triton.",
        json_schema_extra=extra("Server"),
    )
    place: Literal["environment", "container"] = Field(
        "environment",
        title="Runs in",
        description="vLLM's own server. environment: a Python environment of this machine, managed "
        "or yours. container: an image that has vLLM.",
        json_schema_extra=extra("Server"),
    )
    device: Literal["cuda", "cpu"] = Field(
        "cuda",
        title="Device",
        description="cpu takes vLLM's build for CPUs, for trying small models without a GPU.",
        json_schema_extra=extra("Server"),
    )
    image: Image = Field(
        "",
        title="Image",
        description="Image with vLLM, for the containers. Empty takes the newest that is known here: "
        "Triton's with vLLM, or NeMo's for its script.",
        json_schema_extra=extra("Server"),
    )
    generation: GenerationName = Field(
        "",
        title="Generation",
        description="NeMo's script: which generation of NeMo or Export-Deploy the image has "
        "(nemo-25.04, ed-0.3, …). Empty: by the image's tag, the newer one where a tag has two.",
        json_schema_extra=extra("Server"),
    )
    vllm_port: Port = Field(
        0,
        title="vLLM's port",
        description="Proxy: port of vLLM's own server on loopback; 0 takes a free one. The server's "
        "HTTP port is Triton's.",
        json_schema_extra=extra("Server", "--port"),
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        title="Precision",
        description="auto takes the checkpoint's, 32-bit ones as bfloat16.",
        json_schema_extra=extra("Model", "--dtype"),
    )
    quantization: Annotated[str, Field(pattern=r"^[a-z0-9_-]{0,40}$")] = Field(
        "",
        title="Quantisation",
        description="Empty takes what the checkpoint says of itself.",
        json_schema_extra=extra("Model", "--quantization"),
    )
    max_model_len: LongestSequence = 0
    max_num_seqs: Count = Field(
        0,
        title="Sequences at once",
        description="Most sequences of one step; 0 is vLLM's default.",
        json_schema_extra=extra("Limits", "--max-num-seqs"),
    )
    max_num_batched_tokens: Tokens = Field(
        0,
        title="Tokens of a step",
        description="Most tokens of one step; 0 is vLLM's default.",
        json_schema_extra=extra("Limits", "--max-num-batched-tokens", "tokens"),
    )
    gpu_memory_utilization: Fraction = Field(
        0.9,
        title="GPU memory fraction",
        description="Part of each GPU's memory that vLLM takes for weights and cache together.",
        json_schema_extra=extra("Memory", "--gpu-memory-utilization"),
    )
    kv_cache_dtype: CachePrecision = "auto"
    cpu_offload_gb: Annotated[float, Field(ge=0.0, le=10_000.0)] = Field(
        0.0,
        title="Offload to the host",
        description="Weights kept in host memory, for each GPU. Every step moves them.",
        json_schema_extra=extra("Memory", "--cpu-offload-gb", "GiB"),
    )
    cpu_kvcache_space: Annotated[int, Field(ge=0, le=10_000)] = Field(
        1,
        title="Cache on the CPU",
        description="Key/value cache with device = cpu.",
        json_schema_extra=extra("Memory", "VLLM_CPU_KVCACHE_SPACE", "GiB"),
    )
    enforce_eager: bool = Field(
        False,
        title="No CUDA graphs",
        description="Starts sooner and answers slower.",
        json_schema_extra=extra("Speed", "--enforce-eager"),
    )
    moe_backend: Annotated[str, Field(pattern=r"^[a-z0-9_]{0,40}$")] = Field(
        "",
        title="Kernels of experts",
        description="Mixtures of experts: auto or empty lets vLLM choose, which may compile "
        "FlashInfer's for minutes at the first start. triton's start at once.",
        json_schema_extra=extra("Speed", "--moe-backend"),
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(
        0,
        title="Seed",
        description="Of sampling without a seed of its own.",
        json_schema_extra=extra("Model", "--seed"),
    )
    load_format: Literal["auto", "safetensors", "dummy"] = Field(
        "auto",
        title="Weights",
        description="dummy takes random ones: a folder with config.json is enough to learn whether a "
        "model's shape fits.",
        json_schema_extra=extra("Model", "--load-format"),
    )
    enable_lora: bool = Field(
        False,
        title="LoRA adapters",
        description="Lets requests name adapters by `lora_modules`.",
        json_schema_extra=extra("LoRA", "--enable-lora"),
    )
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = Field(
        16,
        title="Largest LoRA rank",
        description="Adapters of a higher rank are refused.",
        json_schema_extra=extra("LoRA", "--max-lora-rank"),
    )
    lora_modules: tuple[Adapter, ...] = Field(
        (),
        title="LoRA modules",
        description="NAME=FOLDER of each adapter.",
        json_schema_extra=extra("LoRA", "--lora-modules"),
    )
    trust_remote_code: TrustRemoteCode = Field(
        False, json_schema_extra=extra("Safety", "--trust-remote-code")
    )
    api_key_env: Annotated[str, Field(pattern=r"^(VLLM_API_KEY)?$")] = Field(
        "",
        title="API key variable",
        description="VLLM_API_KEY: requests to vLLM's own server must carry what this environment "
        "variable holds. Empty: none is asked for, on loopback.",
        json_schema_extra=extra("Safety", "VLLM_API_KEY"),
    )
    hf_token: VariableName = Field(
        "",
        title="Hugging Face token",
        description="Name of the environment variable that holds it, such as HF_TOKEN, for models "
        "that look something up. Empty: nothing is looked up outside.",
        json_schema_extra=extra("Safety", "HF_TOKEN"),
    )

    @model_validator(mode="after")
    def _consistent(self) -> VllmOptions:
        if self.lora_modules and not self.enable_lora:
            raise ValueError("lora_modules need enable_lora = true")
        if self.device == "cpu" and (self.place == "container" or not self.own):
            raise ValueError(
                "the images are for GPUs: device = cpu needs place = environment and vLLM's own "
                "server (serve_as = openai or proxy)"
            )
        if self.api_key_env and not self.own:
            raise ValueError("only vLLM's own server asks for a key (serve_as = openai or proxy)")
        return self

    @property
    def own(self) -> bool:
        """Whether vLLM's own server is started, for people or behind Triton."""
        return self.serve_as in ("openai", "proxy")
