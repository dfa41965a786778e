"""Checkpoints of every kind, as facts: what a backend is asked about without anything on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from console.checkpoints.model import (
    Checkpoint,
    EngineFacts,
    Format,
    GraphFacts,
    LanguageFacts,
    SpeechFacts,
)
from console.facts import Gpu, Host, TensorSpec

HOST = Host(
    hostname="box",
    system="Debian GNU/Linux 12",
    kernel="6.1",
    machine="x86_64",
    glibc=(2, 36),
    cpus=2,
    memory_total=16 << 30,
    memory_available=8 << 30,
    shm_total=1 << 30,
    shm_free=1 << 30,
    python="3.11.7",
    gpu_note="no NVIDIA driver on this host",
)
GPU_HOST = Host(
    **{
        **{name: getattr(HOST, name) for name in HOST.__slots__},
        "gpus": (Gpu(0, "GPU-1", "H200", 140 << 30, 0, compute_capability=(9, 0)),),
        "gpu_note": "",
    }
)
HOSTILE = 'it\'s a $(touch pwned) `id` ${HOME} "model"'


def speech(decoder: str = "ctc", tokenizer: str = "bpe", **changes: object) -> Checkpoint:
    facts = {
        "sample_rate": 16000,
        "decoder": decoder,
        "features": 80,
        "vocabulary_size": 128,
        "tokenizer": tokenizer,
        "subsampling_factor": 4,
        "max_seconds": 200.0,
    }
    return Checkpoint(
        path=Path("/models") / f"{HOSTILE}.nemo",
        format=Format.NEMO,
        title="NeMo speech model · Conformer CTC",
        model_class="EncDecCTCModelBPE",
        task="speech-to-text",
        size=2_000_000,
        speech=SpeechFacts(**(facts | changes)),  # type: ignore[arg-type]
        config={"target": "nemo.collections.asr.models.EncDecCTCModelBPE"},
    )


def fork() -> Checkpoint:
    """A hybrid of AI4Bharat's fork: several languages, keys that NeMo does not know."""
    found = speech("hybrid", "multilingual", languages=("hi", "ta"))
    config = {**found.config, "decoder": {"multisoftmax": True}}
    return dataclasses.replace(found, config=config)


def graph(*shape: int, dtype: str = "FP32", external: tuple[str, ...] = ()) -> Checkpoint:
    facts = GraphFacts(
        inputs=(TensorSpec("x", dtype, shape or (-1, 4)),),
        outputs=(TensorSpec("y", dtype, shape or (-1, 4)),),
        opset=17,
        ir_version=8,
        external_data=external,
    )
    return Checkpoint(
        path=Path("/models") / f"{HOSTILE}.onnx",
        format=Format.ONNX,
        title="ONNX model",
        size=1000,
        graph=facts,
    )


def language() -> Checkpoint:
    return Checkpoint(
        path=Path("/models") / HOSTILE,
        format=Format.HUGGING_FACE,
        title="Hugging Face model · Llama",
        model_class="LlamaForCausalLM",
        task="text-generation",
        size=1 << 30,
        language=LanguageFacts(
            family="llama",
            layers=4,
            hidden_size=256,
            intermediate_size=512,
            heads=4,
            kv_heads=2,
            head_dim=64,
            vocabulary_size=512,
            max_positions=256,
            dtype="bf16",
            tokenizer="hugging-face",
            chat_template=True,
        ),
    )


def nemo_language(**changes: object) -> Checkpoint:
    """The same model as NeMo saves it."""
    given = {"format": Format.NEMO, "title": "NeMo language model · Llama", "dtype": "bf16"}
    return dataclasses.replace(language(), **(given | changes))


def quantised() -> Checkpoint:
    """A .qnemo: its ranks cannot be changed."""
    facts = language().language
    assert facts is not None
    fixed = dataclasses.replace(facts, parallel_fixed=True, quantisation="fp8")
    return nemo_language(format=Format.QNEMO, language=fixed)


def multimodal(kind: str = "neva", **config: object) -> Checkpoint:
    """The same model with an encoder, as NeMo 1 saves it."""
    facts = language().language
    assert facts is not None
    settings = {"mm_cfg": {"llm": {"model_type": "llama_2"}}}
    return nemo_language(
        title="NeMo 1 multimodal model · MegatronNevaModel",
        model_class="MegatronNevaModel",
        task="image-text",
        language=dataclasses.replace(facts, multimodal=kind),
        config=settings | config,
    )


def salm() -> Checkpoint:
    """A whole SALM model, trained with a LoRA."""
    return dataclasses.replace(
        multimodal("salm", mm_cfg={}, peft={"peft_scheme": "lora"}, normalization="rmsnorm",
                   activation="fast-swiglu"),
        model_class="ModularAudioGPTModel",
    )  # fmt: skip


def perception() -> Checkpoint:
    """Its sound part alone, which needs a language model beside it."""
    return nemo_language(model_class="AudioPerceptionModule", task="sound-text", language=None)


def multimodal_engines(kind: str = "neva") -> Checkpoint:
    return dataclasses.replace(
        multimodal(kind, mm_cfg={}), format=Format.TRTLLM_ENGINE, engine=EngineFacts("0.18")
    )


def towers(family: str = "clip") -> Checkpoint:
    """A vision and a text tower with one space, as its configuration tells."""
    return Checkpoint(
        path=Path("/models") / HOSTILE,
        format=Format.HUGGING_FACE,
        title="Hugging Face model · two towers",
        model_class="CLIPModel",
        task="image-text",
        size=600_000_000,
        language=dataclasses.replace(_facts(), family=family, multimodal=family),
        config={
            "model_type": family,
            "vision_config": {"image_size": 224, "hidden_size": 768},
            "text_config": {"max_position_embeddings": 64, "hidden_size": 768},
        },
    )


def _facts() -> LanguageFacts:
    facts = language().language
    assert facts is not None
    return facts


ALL = {
    "clip": towers(),
    "siglip": towers("siglip"),
    "ctc-bpe": speech(),
    "ctc-char": speech(tokenizer="char"),
    "hybrid": speech("hybrid"),
    "transducer": speech("rnnt"),
    "aggregate": speech("hybrid", "agg", languages=("hi", "ta")),
    "fork": fork(),
    "commands": speech("classification", "", max_seconds=None),
    "speaker": speech("speaker", "", max_seconds=None),
    "canary": speech("aed", "agg"),
    "graph": graph(),
    "fixed-graph": graph(1, 3, 8, 8),
    "split-graph": graph(external=("model.onnx.data",)),
    "language": language(),
    "nemo-language": nemo_language(),
    "quantised": quantised(),
    "neva": multimodal(),
    "vita": multimodal("vita"),
    "salm": salm(),
    "multimodal-engines": multimodal_engines(),
}
