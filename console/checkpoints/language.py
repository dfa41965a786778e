"""What the configurations of language models say, from four families of names for the same things."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from console.checkpoints.data import items, number, section, text, whole
from console.checkpoints.model import LanguageFacts
from console.text import clean

DTYPES = {
    "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32",
    "bf16": "bf16", "bf16-mixed": "bf16", "bf16-true": "bf16", "fp16": "fp16", "16": "fp16",
    "16-mixed": "fp16", "16-true": "fp16", "32": "fp32", "32-true": "fp32", "fp32": "fp32",
    "int8": "int8", "fp8": "fp8", "float8_e4m3fn": "fp8",
}  # fmt: skip
"""Names that tools give to dtypes and precisions, and ours."""
BYTES = {"fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1, "uint8": 1}

_INNER = ("text_config", "llm_config", "language_config")
"""Where a Hugging Face multimodal configuration keeps its language model."""


class _Names(NamedTuple):
    """The keys that one family of configurations uses for one fact, the most usual first."""

    layers: tuple[str, ...]
    hidden: tuple[str, ...]
    intermediate: tuple[str, ...]
    heads: tuple[str, ...]
    kv_heads: tuple[str, ...]
    head_dim: tuple[str, ...]
    positions: tuple[str, ...]
    experts: tuple[str, ...]
    active: tuple[str, ...]


_HUGGING_FACE = _Names(
    layers=("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    hidden=("hidden_size", "n_embd", "d_model"),
    intermediate=("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff"),
    heads=("num_attention_heads", "n_head", "n_heads", "num_heads"),
    kv_heads=("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"),
    head_dim=("head_dim", "d_kv"),
    positions=("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx"),
    experts=("num_local_experts", "n_routed_experts", "num_experts"),
    active=("num_experts_per_tok", "num_experts_per_token"),
)
_MEGATRON = _Names(
    layers=("num_layers",),
    hidden=("hidden_size",),
    intermediate=("ffn_hidden_size",),
    heads=("num_attention_heads",),
    kv_heads=("num_query_groups",),
    head_dim=("kv_channels",),
    positions=("max_position_embeddings", "seq_length", "encoder_seq_length"),
    experts=("num_moe_experts",),
    active=("moe_router_topk",),
)
_TENSORRT_LLM = _HUGGING_FACE._replace(head_dim=("head_size", "head_dim"))

_NEMO2_FAMILIES = {
    "GPT": "gpt", "Nemotron": "gpt", "Starcoder2": "gpt", "Starcoder": "gpt", "Llama": "llama",
    "MLlama": "mllama", "Mistral": "llama", "Mixtral": "llama", "CodeGemma": "gemma",
    "Gemma2": "gemma2", "Gemma3": "gemma3", "Gemma": "gemma", "Phi3": "phi3", "Qwen2": "qwen",
    "Qwen3": "qwen3", "Baichuan": "baichuan", "ChatGLM": "chatglm", "DeepSeek": "deepseek",
    "Hyena": "hyena", "Mamba": "mamba", "T5": "t5", "Bert": "bert", "Neva": "neva",
    "Llava": "llava",
}  # fmt: skip
"""Beginnings of NeMo 2.0 model classes, to the ``model_type`` that its exporters are given."""


def from_hugging_face(config: Mapping[str, Any]) -> LanguageFacts:
    """A `config.json` of transformers; a multimodal one keeps its text model in a section."""
    inner = next((s for key in _INNER if (s := section(config, key))), config)
    rope = section(inner, "rope_parameters") or section(inner, "rope_scaling")
    quantisation, kv = _quantised(config)
    facts = _geometry(inner, _HUGGING_FACE)
    if facts["kv_heads"] == facts["heads"] and (
        inner.get("multi_query") is True and not inner.get("new_decoder_architecture")
    ):
        facts["kv_heads"] = 1
    return LanguageFacts(
        **facts,
        family=clean(text(config, "model_type") or text(inner, "model_type"), cap=60),
        rope_theta=number(inner, "rope_theta", number(rope, "rope_theta", 0.0)),
        rope_scaling=_rope_kind(rope),
        sliding_window=whole(inner, "sliding_window")
        if inner.get("use_sliding_window", True)
        else 0,
        tied_embeddings=config.get("tie_word_embeddings", inner.get("tie_word_embeddings")) is True,
        dtype=dtype(config) or dtype(inner),
        quantisation=quantisation,
        kv_quantisation=kv,
        multimodal=clean(text(config, "model_type"), cap=60) if is_multimodal(config) else "",
    )


def from_nemo1(config: Mapping[str, Any], target: str) -> LanguageFacts:
    """The flat `model_config.yaml` of a Megatron model of NeMo 1."""
    tokenizer = section(config, "tokenizer")
    rope = config.get("position_embedding_type") == "rope"
    quantisation = text(section(config, "quantization"), "algorithm")
    fp8 = config.get("fp8") is True
    return LanguageFacts(
        **_geometry(config, _MEGATRON),
        **_parallel(config),
        family=_nemo1_family(target),
        rope_theta=number(config, "rotary_base", 10_000.0) if rope else 0.0,
        rope_scaling="linear" if number(config, "seq_len_interpolation_factor", 0) > 1 else "",
        sliding_window=_first(items(config, "window_size")),
        tied_embeddings=config.get("share_embeddings_and_output_weights") is True,
        dtype=DTYPES.get(str(config.get("precision", "")), ""),
        quantisation=clean(quantisation, cap=40).lower() or ("fp8" if fp8 else ""),
        tokenizer=_megatron_tokenizer(tokenizer),
        multimodal=_multimodal_kind(config, target),
    )


def from_nemo2(config: Mapping[str, Any]) -> LanguageFacts:
    """`context/model.yaml` of NeMo 2.0: a Megatron configuration under ``config``."""
    inner = section(config, "config")
    language = section(inner, "language_transformer_config")  # multimodal models hold two
    geometry = language or inner
    target = text(config, "_target_")
    model_class = target.rpartition(".")[2]
    family = next((f for n, f in _NEMO2_FAMILIES.items() if model_class.startswith(n)), "")
    params = section(inner, "params_dtype") or section(geometry, "params_dtype")
    fp8 = inner.get("fp8") or geometry.get("fp8")
    return LanguageFacts(
        **_geometry(geometry, _MEGATRON),
        **_parallel({**geometry, **{k: v for k, v in inner.items() if "parallel" in k}}),
        family=family,
        rope_theta=number(geometry, "rotary_base", 0.0),
        rope_scaling="llama3" if model_class.startswith(("Llama31", "Llama32")) else "",
        sliding_window=_first(items(geometry, "window_size")),
        tied_embeddings=geometry.get("share_embeddings_and_output_weights") is True,
        dtype=DTYPES.get(text(params, "_target_").rpartition(".")[2], ""),
        quantisation="fp8" if fp8 else "",
        tokenizer=_nemo2_tokenizer(section(config, "tokenizer")),
        multimodal=(family or "yes") if language or ".vlm." in target else "",
    )


def from_megatron_bridge(config: Mapping[str, Any]) -> LanguageFacts:
    """`run_config.yaml` that Megatron Bridge saves: the model's provider under ``model``."""
    model = section(config, "model")
    provider = text(model, "_target_").rpartition(".")[2]
    family = next((f for n, f in _NEMO2_FAMILIES.items() if provider.startswith(n)), "")
    return LanguageFacts(
        **_geometry(model, _MEGATRON),
        **_parallel(model),
        family=family,
        rope_theta=number(model, "rotary_base", 0.0),
        tied_embeddings=model.get("share_embeddings_and_output_weights") is True,
        dtype=_bridge_dtype(model),
        quantisation="fp8" if model.get("fp8") else "",
        tokenizer=_megatron_tokenizer(
            {"library": text(section(config, "tokenizer"), "tokenizer_type")}
        ),
    )


def from_tensorrt_llm(config: Mapping[str, Any]) -> LanguageFacts:
    """A TensorRT-LLM checkpoint's configuration, or an engine's ``pretrained_config``."""
    mapping, quantisation = section(config, "mapping"), section(config, "quantization")
    tensor = whole(mapping, "tp_size", whole(config, "tensor_parallel", 1))
    pipeline = whole(mapping, "pp_size", whole(config, "pipeline_parallel", 1))
    return LanguageFacts(
        **_geometry(config, _TENSORRT_LLM),
        family=_architecture_family(text(config, "architecture")),
        experts_per_token=whole(section(config, "moe"), "top_k"),
        rope_theta=number(config, "rotary_base", 0.0),
        rope_scaling=_rope_kind(section(config, "rotary_scaling")),
        tied_embeddings=config.get("share_embedding_table") is True,
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        context_parallel=whole(mapping, "cp_size", 1),
        parallel_fixed=True,
        dtype=dtype(config),
        quantisation=clean(text(quantisation, "quant_algo"), cap=40).lower(),
        kv_quantisation=clean(text(quantisation, "kv_cache_quant_algo"), cap=40).lower(),
    )


# ------------------------------------------------------------------------------------ parts


def dtype(config: Mapping[str, Any]) -> str:
    """``torch_dtype`` or, since transformers 5, ``dtype`` in our short names."""
    said = text(config, "torch_dtype") or text(config, "dtype")
    said = said.removeprefix("torch.")
    return DTYPES.get(said, clean(said, cap=40))


def is_multimodal(config: Mapping[str, Any]) -> bool:
    """Whether a transformers configuration holds an image or sound tower."""
    return any(key in config for key in ("vision_config", "audio_config", "mm_vision_tower"))


def tokenizer_of(folder: Path) -> tuple[str, bool]:
    """Kind of the tokenizer whose files lie in `folder`, and whether a chat template does."""
    kinds = (
        ("tokenizer.json", "hugging-face"),
        ("tokenizer.model", "sentencepiece"),
        ("tokenizer.model.v3", "sentencepiece"),
        ("spiece.model", "sentencepiece"),
        ("tekken.json", "tiktoken"),
        ("tiktoken.model", "tiktoken"),
        ("merges.txt", "bpe"),
        ("vocab.txt", "wordpiece"),
    )
    kind = next((kind for name, kind in kinds if (folder / name).exists()), "")
    return kind, (folder / "chat_template.jinja").exists()


def missing_ranks(wanted: int, found: Iterable[int]) -> tuple[int, ...]:
    """Ranks from 0 below `wanted` (at most 4096 are told) that are not in `found`."""
    have = set(found)
    return tuple(rank for rank in range(min(wanted, 4096)) if rank not in have)


def _geometry(config: Mapping[str, Any], names: _Names) -> dict[str, Any]:
    def first(keys: tuple[str, ...]) -> int:
        return next((n for key in keys if (n := whole(config, key))), 0)

    heads, hidden = first(names.heads), first(names.hidden)
    head_dim = first(names.head_dim) or (hidden // heads if heads else 0)
    return {
        "layers": first(names.layers),
        "hidden_size": hidden,
        "intermediate_size": first(names.intermediate),
        "heads": heads,
        "kv_heads": first(names.kv_heads) or heads,
        "head_dim": head_dim,
        "vocabulary_size": first(("vocab_size", "padded_vocab_size", "override_vocab_size")),
        "max_positions": first(names.positions),
        "experts": first(names.experts) or whole(section(config, "moe"), "num_experts"),
        **({"experts_per_token": first(names.active)} if names is not _TENSORRT_LLM else {}),
    }


def _parallel(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tensor_parallel": whole(config, "tensor_model_parallel_size", 1),
        "pipeline_parallel": whole(config, "pipeline_model_parallel_size", 1),
        "virtual_pipeline": whole(config, "virtual_pipeline_model_parallel_size", 1),
        "expert_parallel": whole(config, "expert_model_parallel_size", 1),
        "context_parallel": whole(config, "context_parallel_size", 1),
    }


def _quantised(config: Mapping[str, Any]) -> tuple[str, str]:
    """Weights and key/value cache of a ``quantization_config``, as serving tools call them."""
    said = section(config, "quantization_config") or section(config, "compression_config")
    method = text(said, "quant_method").lower()
    kv_scheme = section(said, "kv_cache_scheme")
    kv = text(said, "kv_cache_quant_algo").lower() or (_scheme(kv_scheme) if kv_scheme else "")
    bits = whole(said, "bits", whole(said, "w_bit"))
    if algorithm := text(said, "quant_algo"):  # ModelOpt
        return clean(algorithm, cap=40).lower(), clean(kv, cap=40)
    if method == "compressed-tensors":
        groups = section(said, "config_groups")
        first = next((g for g in groups.values() if isinstance(g, Mapping)), {})
        weights = section(first, "weights")
        method = f"{method} {_scheme(weights)}".strip() if weights else method
    elif method == "bitsandbytes":
        method += " int4" if said.get("load_in_4bit") or said.get("_load_in_4bit") else " int8"
    elif bits:
        method = f"{method} int{bits}"
    return clean(method, cap=60), clean(kv, cap=40)


def _scheme(scheme: Mapping[str, Any]) -> str:
    bits, kind = whole(scheme, "num_bits"), text(scheme, "type")
    return f"{'fp' if kind == 'float' else 'int'}{bits}" if bits else ""


def _rope_kind(rope: Mapping[str, Any]) -> str:
    kind = clean(text(rope, "rope_type") or text(rope, "type"), cap=40)
    return "" if kind == "default" else kind


def _first(values: list[Any]) -> int:
    value = values[0] if values else 0
    return value if isinstance(value, int) and 0 < value < 2**31 else 0


def _nemo1_family(target: str) -> str:
    name = target.rpartition(".")[2].lower()
    known = ("neva", "t5", "bert", "retro", "mamba", "falcon", "griffin", "gpt")
    return next((k for k in known if k in name), "")


def _multimodal_kind(config: Mapping[str, Any], target: str) -> str:
    """NeMo 1 saves NeVA, Video NeVA, LITA, VILA and VITA as one class; which of them it is stands in
    ``mm_cfg`` and ``data`` (NeMo's own configurations of each are the source)."""
    parts = target.lower().split(".")
    if "multimodal" not in parts:
        return ""
    if "speech_llm" in parts:
        return "salm"
    known = ("neva", "clip", "kosmos", "stablediffusion", "imagen")
    kind = next((k for k in known if k in parts[-1]), "yes")
    if kind != "neva":
        return kind
    parts_of = section(config, "mm_cfg")
    downsampled = text(parts_of, "mm_mlp_adapter_type") == "mlp_downsample"
    if parts_of.get("use_lita") is True:
        trained = text(section(parts_of, "llm"), "model_type")
        return "vita" if downsampled or trained == "vita" else "lita"
    if downsampled:
        return "vila"
    return "video-neva" if text(section(config, "data"), "media_type") == "video" else kind


def _megatron_tokenizer(tokenizer: Mapping[str, Any]) -> str:
    library = (text(tokenizer, "library") or text(tokenizer, "type")).lower()
    known = {"huggingface": "hugging-face", "huggingfacetokenizer": "hugging-face"}
    return known.get(library, clean(library, cap=40))


def _nemo2_tokenizer(tokenizer: Mapping[str, Any]) -> str:
    name = text(tokenizer, "_target_").rpartition(".")[2].lower()
    for part, kind in (
        ("autotokenizer", "hugging-face"),
        ("sentencepiece", "sentencepiece"),
        ("tiktoken", "tiktoken"),
    ):
        if part in name:
            return kind
    return clean(name, cap=40)


def _bridge_dtype(model: Mapping[str, Any]) -> str:
    for key, short in (("bf16", "bf16"), ("fp16", "fp16")):
        if model.get(key) is True:
            return short
    params = section(model, "params_dtype")
    said = text(params, "_target_") or ".".join(str(a) for a in items(params, "_args_")[:1])
    return DTYPES.get((said or text(model, "params_dtype")).rpartition(".")[2], "")


def _architecture_family(architecture: str) -> str:
    return clean(architecture.removesuffix("ForCausalLM").lower(), cap=40)


# ------------------------------------------------------------------------------------ details


def details(facts: LanguageFacts) -> Iterator[tuple[str, str]]:
    """Label and value pairs for a detail pane; what is unknown is left out."""
    fixed = "fixed" if facts.parallel_fixed else "saved"
    kv = "" if facts.kv_heads in (0, facts.heads) else f", {facts.kv_heads} key/value heads"
    experts = f"{facts.experts}, {facts.experts_per_token} a token" if facts.experts else ""
    virtual = f" ({facts.virtual_pipeline} virtual stages)" if facts.virtual_pipeline > 1 else ""
    rope = f"rotary, base {facts.rope_theta:g}" if facts.rope_theta else ""
    rows: tuple[tuple[str, object], ...] = (
        ("family", facts.family),
        ("layers", facts.layers),
        ("hidden size", facts.hidden_size),
        ("attention heads", f"{facts.heads}{kv}" if facts.heads else ""),
        ("experts", experts),
        ("vocabulary", facts.vocabulary_size),
        ("longest sequence", facts.max_positions),
        ("positions", " ".join(filter(None, (rope, facts.rope_scaling)))),
        ("sliding window", facts.sliding_window),
        ("quantisation", facts.quantisation),
        ("key/value cache", facts.kv_quantisation),
        ("tokenizer", facts.tokenizer),
        ("multimodal", facts.multimodal),
        (f"{fixed} tensor parallel", facts.tensor_parallel),
        (f"{fixed} pipeline parallel", f"{facts.pipeline_parallel}{virtual}"),
        ("saved expert parallel", facts.expert_parallel if facts.expert_parallel > 1 else ""),
    )
    parallel = facts.parallel_fixed or facts.world_size > 1
    for label, value in rows:
        if value and (parallel or "parallel" not in label):
            yield label, str(value)
