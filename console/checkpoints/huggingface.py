"""Hugging Face folders: `config.json` and the headers of safetensors files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from console.checkpoints import data, language, pickles
from console.checkpoints.folder import modified, private_files, scan_files, tree_size
from console.checkpoints.model import (
    AdapterFacts,
    Checkpoint,
    Format,
    LanguageFacts,
    Risk,
    Severity,
)
from console.checkpoints.nemo import human_count
from console.checkpoints.source import opened, read_whole
from console.facts import UsageError
from console.text import clean, human_bytes

MARKERS = ("config.json",)
ADAPTER_MARKERS = ("adapter_config.json",)
_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth"})
HEADER_CAP = 16 * 1024 * 1024
MAX_PICKLES = 16
_NO_WEIGHTS = frozenset({"training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"})
MAX_SHARDS = 256
"""Safetensors headers that are read; above it sizes come from the index."""
_DTYPES = {
    "F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "F8_E5M2": "fp8",
    "F8_E8M0": "fp8", "F4": "fp4", "U16": "uint16", "U32": "uint32", "U64": "uint64",
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
    pickled = [f for f in files if f.suffix != ".safetensors"]
    scanned = scan_files(pickled[:MAX_PICKLES])
    size = tree_size(path)
    model_class = names[0] if names else ""
    facts = _language(path, config)
    parameters = tensors.parameters or (scanned.parameters if pickled else None)
    return Checkpoint(
        path=path,
        format=Format.HUGGING_FACE,
        title=f"Hugging Face model · {model_class or clean(data.text(config, 'model_type'), cap=60)}",
        model_class=model_class,
        task=_task(path, config, model_class),
        size=size,
        parameters=None if _packed(facts) else parameters,
        dtype=_dtype(facts, tensors, scanned),
        language=facts,
        config=config,
        risks=(
            *_risks(path, config, files),
            *pickles.risks(scanned),
            *_tokenizer_risk(facts, model_class),
            *private_files(path),
        ),
        details=tuple(_details(size, tensors, files, facts, parameters)),
        modified=modified(path),
    )


def read_adapter(path: Path) -> Checkpoint:
    """A PEFT adapter: `adapter_config.json` and its few weights. Raises `UsageError`."""
    config = _json(path / "adapter_config.json", data.YAML_CAP)
    weights = [p for p in sorted(path.glob("adapter_model.*")) if p.suffix in _SUFFIXES]
    tensors = _tensors([f for f in weights if f.suffix == ".safetensors"])
    scanned = scan_files(f for f in weights if f.suffix != ".safetensors")
    targets = config.get("target_modules")
    named = targets if isinstance(targets, list) else [targets] if targets else []
    facts = AdapterFacts(
        kind=clean(data.text(config, "peft_type"), cap=40).lower() or "adapter",
        base=clean(data.text(config, "base_model_name_or_path"), cap=300),
        rank=data.whole(config, "r"),
        targets=tuple(clean(str(t), cap=60) for t in named[:64]),
    )
    size = tree_size(path)
    rows = (
        ("size", human_bytes(size)),
        ("kind", facts.kind),
        ("base model", facts.base or "not named"),
        ("rank", str(facts.rank or "")),
        ("changes", ", ".join(facts.targets[:8])),
        ("parameters", human_count(tensors.parameters) if tensors.parameters else ""),
    )
    return Checkpoint(
        path=path,
        format=Format.ADAPTER,
        title=f"Adapter · {facts.kind}" + (f" of {facts.base}" if facts.base else ""),
        size=size,
        parameters=tensors.parameters or None,
        dtype=tensors.dtype,
        adapter=facts,
        config=config,
        risks=(*_adapter_risks(weights), *pickles.risks(scanned), *private_files(path)),
        details=tuple((label, value) for label, value in rows if value),
        modified=modified(path),
    )


def _adapter_risks(weights: list[Path]) -> Iterator[Risk]:
    yield Risk(
        "adapter-alone",
        Severity.WARN,
        "an adapter, which serves nothing without its base model",
        "merge it into the base model, or give both to a route that loads adapters",
    )
    if not weights:
        yield Risk("no-weights", Severity.WARN, "there is no weight file in this folder")


def _language(path: Path, config: Mapping[str, Any]) -> LanguageFacts | None:
    """Geometry and tokenizer of whatever holds a transformer; None for what has no layers."""
    facts = language.from_hugging_face(config)
    if not facts.layers:
        return None
    if (path / "hf_quant_config.json").is_file() and not facts.quantisation:  # ModelOpt's own file
        said = data.section(_json(path / "hf_quant_config.json", data.YAML_CAP), "quantization")
        facts = replace(
            facts,
            quantisation=clean(data.text(said, "quant_algo"), cap=40).lower(),
            kv_quantisation=clean(data.text(said, "kv_cache_quant_algo"), cap=40).lower(),
        )
    tokenizer, template = language.tokenizer_of(path)
    return replace(facts, tokenizer=tokenizer, chat_template=template)


def _packed(facts: LanguageFacts | None) -> bool:
    """Whether several parameters lie in one element, so that elements count too few."""
    quantised = facts.quantisation if facts else ""
    return any(word in quantised for word in ("int4", "int3", "int2", "fp4", "awq", "gptq", "w4a"))


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
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (path / name).is_file():
            return _indexed(path, path / name)
    found = [p for p in path.iterdir() if p.suffix in _SUFFIXES]
    safe = sorted(p for p in found if p.suffix == ".safetensors")
    return safe or sorted(p for p in found if p.name not in _NO_WEIGHTS)


def _indexed(path: Path, index: Path) -> list[Path]:
    named = data.section(_json(index, HEADER_CAP), "weight_map").values()
    names = sorted({n for n in named if isinstance(n, str)})
    if foreign := [n for n in names if "/" in n or "\0" in n or n in ("", ".", "..")]:
        raise UsageError(
            f"{clean(str(path))} names weights outside its folder",
            why=f"{clean(index.name)} says {clean(foreign[0], cap=80)}",
            fix="do not load it unless you made it",
        )
    if missing := [n for n in names if not (path / n).exists()]:
        raise UsageError(
            f"{clean(str(path))} is incomplete",
            why=f"{len(missing)} of {len(names)} weight files are missing, {clean(missing[0])} among them",
            fix="download it again",
        )
    return [path / n for n in names]


def _dtype(facts: LanguageFacts | None, tensors: Tensors, scanned: pickles.Scan) -> str:
    said = facts.dtype if facts else ""
    quantised = facts.quantisation if facts else ""
    return quantised or tensors.dtype or scanned.dtype or said


def _task(path: Path, config: Mapping[str, Any], model_class: str) -> str:
    if "vision_config" in config:
        return "image-text"
    if (path / "modules.json").exists() or model_class.endswith("ForTextEncoding"):
        return "embedding"  # sentence-transformers
    for ending, task in (
        ("ForCausalLM", "text-generation"),
        ("LMHeadModel", "text-generation"),
        ("WhisperForConditionalGeneration", "speech-to-text"),
        ("ForConditionalGeneration", "text-generation"),
        ("ForSpeechSeq2Seq", "speech-to-text"),
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


def _tokenizer_risk(facts: LanguageFacts | None, model_class: str) -> Iterator[Risk]:
    if facts and not facts.tokenizer and model_class.endswith(("ForCausalLM", "LMHeadModel")):
        yield Risk(
            "no-tokenizer",
            Severity.WARN,
            "there is no tokenizer in this folder: text can be neither taken nor given",
            "copy the tokenizer files of the same model beside the weights",
        )


def _details(
    size: int,
    tensors: Tensors,
    files: list[Path],
    facts: LanguageFacts | None,
    parameters: int | None,
) -> Iterator[tuple[str, str]]:
    yield "size", f"{human_bytes(size)} in {len(files)} weight file(s)"
    if parameters and not _packed(facts):
        yield "parameters", human_count(parameters)
    if tensors.dtype:
        yield "tensors", ", ".join(f"{human_count(n)} {d}" for d, n in tensors.elements.items())
    if facts:
        yield from language.details(facts)
