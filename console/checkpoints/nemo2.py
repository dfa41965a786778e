"""NeMo 2.0 checkpoints: a folder with `weights/` and `context/`, often itself named `*.nemo`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from console.checkpoints import data
from console.checkpoints.folder import modified, tree_size
from console.checkpoints.model import Checkpoint, Format, Risk, Severity
from console.checkpoints.source import read_whole
from console.facts import UsageError
from console.text import clean, human_bytes

MARKERS = ("weights", "context")


def read(path: Path) -> Checkpoint:
    """Facts from `context/model.yaml`; the graph in `context/io.json` is never resolved, since doing
    so imports every class that it names."""
    config = _config(path / "context" / "model.yaml")
    model_class = clean(data.text(config, "_target_").rpartition(".")[2], cap=120)
    size = tree_size(path)
    return Checkpoint(
        path=path,
        format=Format.NEMO2,
        title="NeMo 2.0 checkpoint" + (f" · {model_class}" if model_class else ""),
        model_class=model_class,
        task="text-generation" if ".llm." in data.text(config, "_target_") else "",
        size=size,
        dtype=_dtype(config),
        config=config,
        risks=(
            Risk(
                "pickle-weights",
                Severity.NOTE,
                "weights and context hold Python pickles and name classes to import",
                "build from it only when you trust who wrote it",
            ),
        ),
        details=tuple(_details(path, config, size)),
        modified=modified(path),
    )


def _config(file: Path) -> Mapping[str, Any]:
    if not file.exists():
        return {}  # checkpoints from before `model.yaml` have only the graph
    try:
        return data.load_yaml(read_whole(file, data.YAML_CAP, "the configuration"))
    except data.BadData as error:
        raise UsageError(f"{clean(str(file))} cannot be read", why=clean(str(error))) from error


def _dtype(config: Mapping[str, Any]) -> str:
    named = data.text(data.section(config, "config", "params_dtype"), "_target_")
    return {"torch.bfloat16": "bf16", "torch.float16": "fp16", "torch.float32": "fp32"}.get(
        named, ""
    )


def _details(path: Path, config: Mapping[str, Any], size: int) -> Iterator[tuple[str, str]]:
    yield (
        "class",
        clean(data.text(config, "_target_"), cap=160) or "unknown (no context/model.yaml)",
    )
    yield "size", human_bytes(size)
    inner = data.section(config, "config")
    for key, label in (
        ("num_layers", "layers"),
        ("hidden_size", "hidden size"),
        ("num_attention_heads", "attention heads"),
        ("seq_length", "sequence length"),
        ("tensor_model_parallel_size", "saved tensor parallel"),
        ("pipeline_model_parallel_size", "saved pipeline parallel"),
    ):
        if value := data.whole(inner, key):
            yield label, str(value)
    if (path / "context" / "io.json").exists():
        yield "graph", "context/io.json (not resolved)"
