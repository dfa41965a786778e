"""NeMo 2.0 checkpoints: a folder with `weights/` and `context/`, often itself named `*.nemo`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from console.checkpoints.source import read_whole
from console.facts import UsageError
from console.text import clean, human_bytes

MARKERS = ("weights", "context")
METADATA_CAP = 256 * 1024
_KNOWN = ("nemo.collections.", "megatron.bridge.", "megatron.core.", "nemo.lightning.")


def read(path: Path) -> Checkpoint:
    """Facts from `context/model.yaml`; the graph in `context/io.json` is never resolved, since doing
    so imports every class that it names."""
    config = _yaml(path / "context" / "model.yaml")
    target = data.text(config, "_target_") or _target_of_graph(path / "context" / "io.json")
    model_class = clean(target.rpartition(".")[2], cap=120)
    facts = language.from_nemo2({**config, "_target_": target}) if _is_language(target) else None
    adapter = _adapter(path)
    size = tree_size(path)
    scanned = scan_files(_pickles(path))
    word = "NeMo 2.0 adapter" if adapter else "NeMo 2.0 checkpoint"
    return Checkpoint(
        path=path,
        format=Format.NEMO2,
        title=word + (f" · {model_class}" if model_class else ""),
        model_class=model_class,
        task=_task(target),
        size=size,
        dtype=facts.dtype if facts else "",
        language=facts,
        adapter=adapter,
        config=config,
        risks=(
            *_risks(path, config, target, adapter),
            *pickles.risks(scanned),
            *private_files(path / "weights"),
            *private_files(path / "context"),
        ),
        details=tuple(_details(path, target, facts, adapter, size)),
        modified=modified(path),
    )


def _is_language(target: str) -> bool:
    return not target or ".llm." in target or ".vlm." in target


def _task(target: str) -> str:
    return "text-generation" if ".llm." in target else "image-text" if ".vlm." in target else ""


def _yaml(file: Path) -> Mapping[str, Any]:
    if not file.exists():
        return {}  # checkpoints from before `model.yaml` have only the graph
    try:
        return data.load_yaml(read_whole(file, data.YAML_CAP, "the configuration"))
    except data.BadData as error:
        raise UsageError(f"{clean(str(file))} cannot be read", why=clean(str(error))) from error


def _target_of_graph(file: Path) -> str:
    """The model's class from fiddle's graph as data: the root's ``model`` names an object, that
    object its module and class. Empty where the graph is missing or of another form."""
    if not file.exists():
        return ""
    try:
        graph = data.load_json(read_whole(file, data.YAML_CAP, "the graph"))
    except data.BadData as error:
        raise UsageError(f"{clean(str(file))} cannot be read", why=clean(str(error))) from error
    objects = data.section(graph, "objects")
    root = data.section(objects, data.text(data.section(graph, "root"), "key"))
    for entry in data.items(root, "items"):
        # [["Attr('model')" …], {"type": "ref", "key": …}]
        if isinstance(entry, list) and len(entry) == 2 and "'model'" in str(entry[0])[:200]:
            key = entry[1].get("key") if isinstance(entry[1], Mapping) else None
            kind = data.section(objects, key, "type") if isinstance(key, str) else {}
            if name := data.text(kind, "name"):
                return f"{data.text(kind, 'module')}.{name}".lstrip(".")
    return ""


def _adapter(path: Path) -> AdapterFacts | None:
    """Weights of an adapter alone carry ``adapter_metadata.json`` beside them."""
    for file in (path / "weights" / "adapter_metadata.json", path / "adapter_metadata.json"):
        if file.is_file():
            try:
                said = data.load_json(read_whole(file, METADATA_CAP, "the adapter's metadata"))
            except data.BadData as error:
                raise UsageError(
                    f"{clean(str(file))} cannot be read", why=clean(str(error))
                ) from error
            kind = data.text(data.section(said, "peft"), "_target_") or data.text(said, "peft_type")
            return AdapterFacts(
                kind=clean(kind.rpartition(".")[2], cap=40).lower() or "adapter",
                base=clean(data.text(said, "model_ckpt_path"), cap=300),
                rank=data.whole(said, "dim"),
            )
    return None


def _pickles(path: Path) -> list[Path]:
    weights = path / "weights"
    return [p for name in ("common.pt", ".metadata") if (p := weights / name).is_file()]


def _risks(
    path: Path, config: Mapping[str, Any], target: str, adapter: AdapterFacts | None
) -> Iterator[Risk]:
    yield Risk(
        "pickle-weights",
        Severity.NOTE,
        "weights and context hold Python pickles and name classes to import",
        "build from it only when you trust who wrote it",
    )
    if config and not target.startswith(_KNOWN):
        yield Risk(
            "foreign-target",
            Severity.DANGER,
            f"_target_ is {clean(target, cap=80) or 'missing'}: NeMo imports whatever is named there",
            "build from it only when you know who wrote it; NeMo's own start with nemo.collections.",
        )
    if not any((path / "weights").iterdir()):
        yield Risk("no-weights", Severity.WARN, "the weights folder is empty")
    if adapter:
        yield Risk(
            "adapter-alone",
            Severity.WARN,
            "an adapter, which serves nothing without its base model",
            "merge it into its base model with NeMo's merge_lora, and take the result",
        )


def _details(
    path: Path, target: str, facts: LanguageFacts | None, adapter: AdapterFacts | None, size: int
) -> Iterator[tuple[str, str]]:
    context, weights = path / "context", path / "weights"
    yield "class", clean(target, cap=160) or "unknown (no context/model.yaml)"
    yield "size", human_bytes(size)
    if (weights / "metadata.json").is_file():
        try:
            text = read_whole(weights / "metadata.json", METADATA_CAP, "the metadata")
            backend = data.text(data.load_json(text), "sharded_backend")
        except data.BadData:
            backend = ""
        yield "weights", f"sharded{', ' if backend else ''}{clean(backend, cap=40)}"
    if facts:
        yield from language.details(facts)
    if adapter:
        yield "adapter", f"{adapter.kind}{f' of {adapter.base}' if adapter.base else ''}"
    for place, words in (
        (context / "io.json", "context/io.json (never resolved)"),
        (weights / "modelopt_state", "quantised by ModelOpt (modelopt_state)"),
        (path / "modelopt_state", "quantised by ModelOpt (modelopt_state)"),
        (path / "hf_weights", "Hugging Face weights beside them (hf_weights)"),
    ):
        if place.exists():
            yield ("graph" if place.suffix else "holds"), words
