"""Hugging Face folders: `config.json` and the headers of safetensors files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.checkpoints import data
from console.checkpoints.folder import modified, tree_size
from console.checkpoints.model import Checkpoint, Format, Risk, Severity
from console.checkpoints.nemo import human_count
from console.checkpoints.source import opened, read_whole
from console.facts import UsageError
from console.text import clean, human_bytes

MARKERS = ("config.json",)
_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth"})
HEADER_CAP = 16 * 1024 * 1024
MAX_SHARDS = 64
"""Safetensors headers that are read; above it sizes come from the index."""
_DTYPES = {
    "F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "F8_E5M2": "fp8",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensors:
    """What safetensors headers say: elements by dtype."""

    elements: Mapping[str, int]

    @property
    def parameters(self) -> int:
        return sum(self.elements.values())

    @property
    def dtype(self) -> str:
        return max(self.elements, key=lambda d: self.elements[d], default="")


def read(path: Path) -> Checkpoint:
    """Facts of one folder. Raises `UsageError`."""
    config = _json(path / "config.json", data.YAML_CAP)
    names = [clean(n, cap=120) for n in data.items(config, "architectures") if isinstance(n, str)]
    if not names and not data.text(config, "model_type"):
        raise UsageError(
            f"{clean(str(path))} has a config.json, but not a Hugging Face one",
            why="neither architectures nor model_type stands in it",
        )
    files = _weight_files(path)
    tensors = _tensors([f for f in files if f.suffix == ".safetensors"])
    size = tree_size(path)
    model_class = names[0] if names else ""
    return Checkpoint(
        path=path,
        format=Format.HUGGING_FACE,
        title=f"Hugging Face model · {model_class or clean(data.text(config, 'model_type'), cap=60)}",
        model_class=model_class,
        task=_task(config, model_class),
        size=size,
        parameters=tensors.parameters or None,
        dtype=_dtype(config, tensors),
        config=config,
        risks=tuple(_risks(path, config, files)),
        details=tuple(_details(config, size, tensors, files)),
        modified=modified(path),
    )


def has_weights(path: Path) -> bool:
    """Whether any weight file is there: exporters put `config.json` beside a lone ONNX graph."""
    return any(p.suffix in _SUFFIXES for p in path.iterdir())


def tensors_of(path: Path) -> Tensors:
    """The header of one safetensors file: 8 bytes of length, then JSON. Raises `UsageError`."""
    shown = clean(str(path))
    with opened(path) as (file, info):
        length = int.from_bytes(file.read(0, 8), "little")
        if info.st_size < 10 or length > info.st_size - 8:
            raise UsageError(f"{shown} is truncated or not a safetensors file")
        if length > HEADER_CAP:
            raise UsageError(f"{shown} has a header of {length} bytes, too large to be one")
        text = file.read(8, length)
    try:
        header = data.load_json(text)
    except data.BadData as error:
        raise UsageError(f"the header of {shown} cannot be read", why=clean(str(error))) from error
    elements: Counter[str] = Counter()
    end = 0
    for name, tensor in header.items():
        if name == "__metadata__" or not isinstance(tensor, Mapping):
            continue
        shape = data.items(tensor, "shape")
        if all(isinstance(n, int) and 0 <= n < 2**48 for n in shape) and len(shape) <= 16:
            dtype = data.text(tensor, "dtype")
            elements[_DTYPES.get(dtype, clean(dtype, cap=20))] += math.prod(shape)
        offsets = data.items(tensor, "data_offsets")
        if len(offsets) == 2 and isinstance(offsets[1], int):
            end = max(end, offsets[1])
    if 8 + length + end > info.st_size:
        raise UsageError(
            f"{shown} is truncated",
            why=f"its header tells of {8 + length + end} bytes, the file has {info.st_size}",
            fix="download it again",
        )
    return Tensors(elements)


def _tensors(files: list[Path]) -> Tensors:
    total: Counter[str] = Counter()
    for file in files[:MAX_SHARDS]:
        total.update(tensors_of(file).elements)
    return Tensors(total if len(files) <= MAX_SHARDS else {})


def _json(path: Path, cap: int) -> Mapping[str, Any]:
    try:
        return data.load_json(read_whole(path, cap, "the configuration"))
    except data.BadData as error:
        raise UsageError(f"{clean(str(path))} cannot be read", why=clean(str(error))) from error


def _weight_files(path: Path) -> list[Path]:
    """Weight files; those that an index names must be there."""
    index = path / "model.safetensors.index.json"
    if index.is_file():
        named = data.section(_json(index, HEADER_CAP), "weight_map").values()
        names = sorted({n for n in named if isinstance(n, str) and "/" not in n and n != ".."})
        if missing := [n for n in names if not (path / n).exists()]:
            raise UsageError(
                f"{clean(str(path))} is incomplete",
                why=f"{len(missing)} of {len(names)} weight files are missing, {clean(missing[0])} among them",
                fix="download it again",
            )
        return [path / n for n in names]
    found = [p for p in path.iterdir() if p.suffix in _SUFFIXES]
    safe = sorted(p for p in found if p.suffix == ".safetensors")
    return safe or sorted(p for p in found if p.name not in {"training_args.bin"})


def _dtype(config: Mapping[str, Any], tensors: Tensors) -> str:
    method = data.text(data.section(config, "quantization_config"), "quant_method")
    said = data.text(config, "torch_dtype") or data.text(config, "dtype")
    short = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}.get(said, said)
    return clean(method or tensors.dtype or short, cap=40)


def _task(config: Mapping[str, Any], model_class: str) -> str:
    if "vision_config" in config:
        return "image-text"
    for ending, task in (
        ("ForCausalLM", "text-generation"),
        ("ForConditionalGeneration", "text-generation"),
        ("ForCTC", "speech-to-text"),
        ("ForImageClassification", "image"),
        ("ForSequenceClassification", "text-classification"),
    ):
        if model_class.endswith(ending):
            return task
    return ""


def _risks(path: Path, config: Mapping[str, Any], files: list[Path]) -> Iterator[Risk]:
    if "auto_map" in config:
        code = ", ".join(sorted(clean(p.name, cap=60) for p in path.glob("*.py"))[:5])
        yield Risk(
            "remote-code",
            Severity.DANGER,
            f"this model runs its own code{f': {code}' if code else ''} (auto_map in config.json)",
            "read those files first; running them is an option that is off",
        )
    if any(f.suffix != ".safetensors" for f in files):
        yield Risk(
            "pickle-weights",
            Severity.WARN,
            "the weights are Python pickles, which can run code when they are loaded",
            "convert them to safetensors, or take a revision that has them",
        )
    if not files:
        yield Risk("no-weights", Severity.WARN, "there is no weight file in this folder")
    if any(not f.stat().st_mode & 0o044 for f in files):
        yield Risk(
            "private-file",
            Severity.NOTE,
            "only their owner can read some weight files: a server that runs as another user cannot",
            "chmod a+r, or serve as their owner",
        )


def _details(
    config: Mapping[str, Any], size: int, tensors: Tensors, files: list[Path]
) -> Iterator[tuple[str, str]]:
    yield "size", f"{human_bytes(size)} in {len(files)} weight file(s)"
    if tensors.parameters:
        yield "parameters", human_count(tensors.parameters)
    if tensors.dtype:
        yield "tensors", ", ".join(f"{human_count(n)} {d}" for d, n in tensors.elements.items())
    for key, label in (
        ("num_hidden_layers", "layers"),
        ("hidden_size", "hidden size"),
        ("num_attention_heads", "attention heads"),
        ("num_key_value_heads", "key/value heads"),
        ("max_position_embeddings", "longest sequence"),
        ("vocab_size", "vocabulary"),
    ):
        if value := data.whole(config, key):
            yield label, str(value)
    if method := data.text(data.section(config, "quantization_config"), "quant_method"):
        yield "quantisation", clean(method, cap=40)
