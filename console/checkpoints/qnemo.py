"""`.qnemo`: a TensorRT-LLM checkpoint (`config.json` and `rank0.safetensors`), folder or tar."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from console.checkpoints import archive as archives
from console.checkpoints import data
from console.checkpoints.folder import modified, tree_size
from console.checkpoints.model import Checkpoint, Format, Risk
from console.checkpoints.source import FileSource, read_whole
from console.facts import UsageError
from console.text import clean, human_bytes

MARKERS = ("config.json", "rank0.safetensors")


def read_folder(path: Path) -> Checkpoint:
    text = read_whole(path / "config.json", data.YAML_CAP, "the configuration")
    return _checkpoint(path, text, tree_size(path), modified(path), ())


def read_file(path: Path, file: FileSource, info: os.stat_result, compressed: bool) -> Checkpoint:
    archive = archives.look(path, file, compressed, ("config.json",), data.YAML_CAP, whole=True)
    if archive.config is None:
        raise UsageError(f"{clean(str(path))} is an archive without a config.json, so not a .qnemo")
    return _checkpoint(path, archive.config, info.st_size, info.st_mtime, archives.risks(archive))


def _checkpoint(
    path: Path, text: bytes, size: int, changed: float, risks: tuple[Risk, ...]
) -> Checkpoint:
    try:
        config = data.load_json(text)
    except data.BadData as error:
        raise UsageError(
            f"the config.json of {clean(str(path))} cannot be read", why=clean(str(error))
        ) from error
    model_class = clean(data.text(config, "architecture"), cap=120)
    quantised = data.text(data.section(config, "quantization"), "quant_algo")
    dtype = clean(quantised or data.text(config, "dtype"), cap=40)
    return Checkpoint(
        path=path,
        format=Format.QNEMO,
        title="TensorRT-LLM checkpoint (.qnemo)" + (f" · {model_class}" if model_class else ""),
        model_class=model_class,
        task="text-generation",
        size=size,
        dtype=dtype,
        config=config,
        risks=risks,
        details=tuple(_details(config, size)),
        modified=changed,
    )


def _details(config: Mapping[str, Any], size: int) -> Iterator[tuple[str, str]]:
    yield "size", human_bytes(size)
    mapping = data.section(config, "mapping")
    for place, key, label in (
        (config, "num_hidden_layers", "layers"),
        (config, "hidden_size", "hidden size"),
        (config, "vocab_size", "vocabulary"),
        (mapping, "tp_size", "fixed tensor parallel"),
        (mapping, "pp_size", "fixed pipeline parallel"),
    ):
        if value := data.whole(place, key):
            yield label, str(value)
