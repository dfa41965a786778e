"""What a NeMo speech configuration says about audio, decoder and vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from console.checkpoints.data import items, number, section, text, whole
from console.checkpoints.model import SpeechFacts
from console.text import clean

_DECODER_WORDS = {
    "ctc": "CTC",
    "rnnt": "RNNT",
    "hybrid": "hybrid RNNT/CTC",
    "aed": "attention decoder",
    "classification": "classifier",
    "speaker": "speaker recognition",
}
_TASKS = {"classification": "audio-classification", "speaker": "speaker-recognition"}


def facts(config: Mapping[str, Any], model_class: str) -> SpeechFacts | None:
    """The facts, or None when this is no speech recognition or classification model."""
    target = text(config, "target")
    preprocessor, encoder = section(config, "preprocessor"), section(config, "encoder")
    if ".asr." not in target and not (preprocessor and encoder):
        return None
    if ".asr." not in target and target.startswith("nemo.collections."):
        return None  # text-to-speech has a preprocessor and an encoder too
    stride = number(preprocessor, "window_stride", 0.01)
    factor = whole(encoder, "subsampling_factor", 4 if _has_table(encoder) else _strides(encoder))
    rows = whole(encoder, "pos_emb_max_len", 5000) if _has_table(encoder) else 0
    tokenizer = section(config, "tokenizer")
    return SpeechFacts(
        sample_rate=whole(config, "sample_rate", whole(preprocessor, "sample_rate", 16000)),
        decoder=_decoder(config, model_class),
        features=whole(preprocessor, "features", whole(encoder, "feat_in", 64)),
        vocabulary_size=_vocabulary_size(config),
        tokenizer=clean(text(tokenizer, "type"), cap=40) or ("char" if _labels(config) else ""),
        languages=tuple(clean(str(k), cap=20) for k in list(section(tokenizer, "langs"))[:200]),
        streaming=text(encoder, "att_context_style").startswith("chunked_limited"),
        subsampling_factor=factor,
        window_stride=stride,
        max_seconds=rows * factor * stride if rows else None,
    )


def _has_table(encoder: Mapping[str, Any]) -> bool:
    """Whether positions come from a table of fixed length that an export bakes in."""
    if "pos_emb_max_len" not in encoder and not text(encoder, "_target_").endswith(
        "ConformerEncoder"
    ):
        return False
    return text(encoder, "self_attention_model") not in {"rel_pos_local_attn", "no_pos"}


def _strides(encoder: Mapping[str, Any]) -> int:
    """A convolutional encoder (QuartzNet, Citrinet) shortens time by the strides of its blocks."""
    factor = 1
    for block in items(encoder, "jasper"):
        stride = items(block, "stride") if isinstance(block, Mapping) else []
        factor *= stride[0] if stride and stride[0] in (2, 4) else 1
    return min(factor, 1024)


def _decoder(config: Mapping[str, Any], model_class: str) -> str:
    decoder = text(section(config, "decoder"), "_target_").rpartition(".")[2]
    if "aux_ctc" in config and "joint" in config:
        return "hybrid"
    if "joint" in config:
        return "rnnt"
    if "transf_decoder" in config or "MultiTask" in model_class:
        return "aed"
    if "Speaker" in decoder or "Speaker" in model_class:
        return "speaker"
    if "Classification" in decoder or "Classification" in model_class:
        return "classification"
    if decoder.startswith("ConvASRDecoder") or "CTC" in model_class:
        return "ctc"
    return "unknown"


def _labels(config: Mapping[str, Any]) -> list[Any]:
    places = (
        section(config, "decoder"),
        section(config, "aux_ctc", "decoder"),
        section(config, "joint"),
    )
    for place in places:
        if found := items(place, "vocabulary"):
            return found
    return items(config, "labels")


def _vocabulary_size(config: Mapping[str, Any]) -> int:
    """Labels without the blank; 0 when the configuration does not say."""
    if labels := _labels(config):
        return len(labels)
    decoder = section(config, "decoder")
    places = (
        (section(config, "aux_ctc", "decoder"), "num_classes"),
        (decoder, "num_classes"),
        (decoder, "vocab_size"),
        (section(config, "joint"), "num_classes"),
        (section(config, "head"), "num_classes"),
    )
    return next((n for place, key in places if (n := whole(place, key))), 0)


def task(spoken: SpeechFacts) -> str:
    """``speech-to-text`` unless the model classifies."""
    return _TASKS.get(spoken.decoder, "speech-to-text")


def words(config: Mapping[str, Any], spoken: SpeechFacts) -> str:
    """``Conformer CTC``: encoder and decoder in words."""
    encoder = section(config, "encoder")
    name = text(encoder, "_target_").rpartition(".")[2].removesuffix("Encoder")
    if name == "ConvASR":
        name = "convolutional"
    elif name == "Conformer" and text(encoder, "subsampling") == "dw_striding":
        name = "FastConformer"
    return (
        clean(f"{name} {_DECODER_WORDS.get(spoken.decoder, '')}".strip(), cap=80) or "unknown kind"
    )


def details(spoken: SpeechFacts) -> Iterator[tuple[str, str]]:
    """Label and value pairs for a detail pane."""
    yield "decoder", _DECODER_WORDS.get(spoken.decoder, "unknown")
    yield "sample rate", f"{spoken.sample_rate} Hz"
    yield "features", f"{spoken.features} a frame, every {spoken.window_stride * 1000:g} ms"
    if spoken.vocabulary_size:
        kind = f" ({spoken.tokenizer})" if spoken.tokenizer else ""
        yield "vocabulary", f"{spoken.vocabulary_size}{kind}"
    if spoken.languages:
        yield "languages", ", ".join(spoken.languages)
    yield "subsampling", f"{spoken.subsampling_factor}×"
    if spoken.streaming:
        yield "streaming", "cache-aware"
