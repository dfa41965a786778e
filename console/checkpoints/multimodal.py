"""Folders of NeMo's multimodal models: exported engines, and the sound part of a SALM model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from console.checkpoints import data, pickles, trtllm
from console.checkpoints.folder import modified, private_files, scan_files, tree_size
from console.checkpoints.model import Checkpoint, Format, LanguageFacts, Risk, Severity
from console.checkpoints.source import read_whole
from console.facts import UsageError
from console.text import clean, human_bytes

LANGUAGE = "llm_engine"
ENCODERS = {
    "visual_engine": "visual_encoder.engine",
    "perception_engine": "perception_encoder.engine",
}
"""Folder of an encoder's engine to the file in it."""
ENGINE_MARKERS = tuple((LANGUAGE, encoder) for encoder in ENCODERS)
PERCEPTION_MARKERS = ("model_config.yaml", "model_weights.ckpt")
PERCEPTION = "AudioPerceptionModule"


def read_engines(path: Path) -> Checkpoint:
    """What NeMo's multimodal exporter built: an engine of the language model, and one of an encoder.

    Raises `UsageError` where one of them is missing.
    """
    encoder = next(name for name in ENCODERS if (path / name).is_dir())
    inner = path / LANGUAGE / "trtllm_engine"
    inner = inner if inner.is_dir() else path / LANGUAGE
    if not (inner / "config.json").is_file() or not (path / encoder / ENCODERS[encoder]).is_file():
        raise UsageError(
            f"{clean(str(path))} is an unfinished export",
            why=f"{LANGUAGE}/ and {encoder}/ must both hold an engine",
            fix="export it again",
        )
    found = trtllm.read_engine(inner)
    kind, precision = _encoder(path / encoder / "config.json")
    kind = kind or ("salm" if encoder == "perception_engine" else "yes")
    size = tree_size(path)
    encoded = human_bytes((path / encoder / ENCODERS[encoder]).stat().st_size)
    return replace(
        found,
        path=path,
        title=f"Multimodal TensorRT engines · {kind}",
        task="sound-text" if kind == "salm" else "image-text",
        size=size,
        language=replace(found.language or LanguageFacts(), multimodal=kind),
        details=(
            ("model type", kind),
            ("size", human_bytes(size)),
            ("encoder", f"{encoded}{f', {precision}' if precision else ''}"),
            *(row for row in found.details if row[0] != "size"),
        ),
        modified=modified(path),
    )


def _encoder(config: Path) -> tuple[str, str]:
    """Model type and precision that the encoder's configuration names; empty where it does not."""
    if not config.is_file():
        return "", ""
    built = data.section(trtllm.config_of(config.parent), "builder_config")
    return clean(data.text(built, "model_type"), cap=40), clean(
        data.text(built, "precision"), cap=40
    )


def read_perception(path: Path) -> Checkpoint:
    """The sound encoder that NeMo's ``extract_salm_weights.py`` wrote. Raises `UsageError` for another
    unpacked ``.nemo``."""
    try:
        config = data.load_yaml(
            read_whole(path / PERCEPTION_MARKERS[0], data.YAML_CAP, "the configuration")
        )
    except data.BadData as error:
        raise UsageError(
            f"the model_config.yaml of {clean(str(path))} cannot be read", why=clean(str(error))
        ) from error
    if not data.section(config, "modality_adapter") or not data.section(config, "encoder"):
        raise UsageError(
            f"{clean(str(path))} is an unpacked NeMo checkpoint",
            why="only the sound part of a SALM model is taken unpacked",
            fix="pack it again: tar -cf NAME.nemo -C FOLDER .",
        )
    size = tree_size(path)
    scanned = scan_files([path / PERCEPTION_MARKERS[1]])
    rate = data.whole(data.section(config, "preprocessor"), "sample_rate")
    return Checkpoint(
        path=path,
        format=Format.NEMO,
        title="NeMo perception model · sound for SALM",
        model_class=PERCEPTION,
        task="sound-text",
        size=size,
        config=config,
        risks=(*_pickled(), *pickles.risks(scanned), *private_files(path)),
        details=(("size", human_bytes(size)), *((("sampled at", f"{rate} Hz"),) if rate else ())),
        modified=modified(path),
    )


def _pickled() -> Iterator[Risk]:
    yield Risk(
        "pickle-weights",
        Severity.NOTE,
        "the weights are a Python pickle: NeMo runs the code in it while it builds",
        "build only what you trust",
    )
