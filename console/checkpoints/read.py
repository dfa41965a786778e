"""`read(path)`: the facts of one checkpoint, file or folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from console.checkpoints import (
    hub,
    huggingface,
    megatron,
    multimodal,
    nemo,
    nemo2,
    onnxfile,
    qnemo,
    trtllm,
)
from console.checkpoints.model import Checkpoint, HubRef
from console.checkpoints.sniff import HEAD, PROBLEMS, TRAINING, Kind, sniff
from console.checkpoints.source import opened, unreadable
from console.facts import UsageError
from console.text import clean


def read(path: Path) -> Checkpoint:
    """Facts of the checkpoint at `path`; blocks for some milliseconds.

    Nothing is executed, unpacked or written. Raises `UsageError` with one sentence for whatever is
    missing, broken, truncated, hostile or no checkpoint. A hub id (`hub.parse`) stands for what the
    hub's cache on this machine holds of it.
    """
    if ref := hub.parse(str(path)):
        return _hub(ref)
    try:
        if path.is_dir():
            return _folder(path)
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"{clean(str(path))} is not a file name") from error
    return _file(path)


def _file(path: Path, *, glance: bool = False) -> Checkpoint:
    with opened(path) as (file, info):
        kind = sniff(file.read(0, HEAD), path.suffix.lower())
        if kind in {Kind.TAR, Kind.GZIP}:
            compressed = kind is Kind.GZIP
            if path.suffix.lower() == ".qnemo":
                return qnemo.read_file(path, file, info, compressed)
            reader = nemo.glance if glance else nemo.read
            return reader(path, file, info, compressed)
        if kind is Kind.ONNX:
            return onnxfile.read(path, file, info)
        if kind is Kind.PLAN:
            return trtllm.read_plan(path, file, info)
    if kind is Kind.SAFETENSORS or path.name == "config.json":
        return _folder(path.parent)  # one file of a folder was picked
    what, fix = TRAINING if path.suffix.lower() == ".ckpt" and kind is Kind.ZIP else PROBLEMS[kind]
    raise UsageError(f"{clean(str(path))} {what}", fix=fix)


def _hub(ref: HubRef) -> Checkpoint:
    """What was fetched of a hub id, or its name alone."""
    folder = hub.cached(ref)
    if folder is not None:
        try:
            found = fetched(ref, folder)
        except UsageError:
            return hub.unfetched(ref)  # an interrupted download; the fetch step completes it
        if not any(r.code == "no-weights" for r in found.risks):
            return found
    return hub.unfetched(ref)


def fetched(ref: HubRef, place: Path) -> Checkpoint:
    """The facts of what was fetched to the file or folder `place`; raises like `read`."""
    if place.is_dir():
        inside = [*place.glob("*.nemo"), *place.glob("*.qnemo")]
        if len(inside) == 1 and folder_reader(place) is None:
            place = inside[0]
    return replace(read(place), hub=ref)


def _folder(path: Path) -> Checkpoint:
    reader = folder_reader(path)
    graphs = sorted(path.glob("*.onnx"))
    exported = graphs and reader is huggingface.read and not huggingface.has_weights(path)
    if reader is not None and not exported:
        return reader(path)
    if len(graphs) > 1:
        graphs = [g for g in graphs if g.name == "model.onnx"] or graphs
    if len(graphs) == 1:
        return onnxfile.read_folder(path, graphs[0])
    shown = clean(str(path))
    if graphs:
        names = ", ".join(clean(g.name, cap=60) for g in graphs[:4])
        raise UsageError(
            f"{shown} holds {len(graphs)} ONNX files", why=names, fix="name one of them"
        )
    raise UsageError(
        f"{shown} is a folder, but not a checkpoint",
        fix="known are NeMo 2.0 (weights/ and context/), Megatron (iter_*), TensorRT-LLM and "
        "Hugging Face (config.json) folders",
    )


Reader = Callable[[Path], Checkpoint]


def folder_reader(path: Path) -> Reader | None:
    """The format that reads this folder, by the names in it; None when it is an ordinary one."""
    try:
        names = frozenset(p.name for p in path.iterdir())
    except OSError as error:
        raise unreadable(path, error) from error
    return reader_of(path, names)


def reader_of(path: Path, names: frozenset[str]) -> Reader | None:
    """Like `folder_reader`, of a folder whose names are known already."""
    for markers, reader in _FOLDERS:
        if names.issuperset(markers):
            return _configured(path) if reader is huggingface.read else reader
    if megatron.is_run(names):
        return megatron.read_run
    if megatron.is_iteration(path.name, names):
        return megatron.read
    return None


def looks_like_checkpoint(path: Path, names: frozenset[str], weights: bool) -> bool:
    """Whether a folder counts in a scan of many, by the names in it alone. Any tool may write a
    `config.json`, so weights must lie beside it (`weights`)."""
    special = [markers for markers, reader in _FOLDERS if reader is not huggingface.read]
    return (
        any(names.issuperset(markers) for markers in special)
        or (weights and names.issuperset(huggingface.MARKERS))
        or megatron.is_run(names)
        or megatron.is_iteration(path.name, names)
    )


def _configured(path: Path) -> Reader:
    """Whose `config.json` it is, where no file beside it tells: an engine or checkpoint without its
    first rank is an incomplete one, not one of Hugging Face."""
    try:
        config = trtllm.config_of(path)
    except UsageError:
        return huggingface.read  # which says what is wrong with it
    if "pretrained_config" in config or "builder_config" in config:
        return trtllm.read_engine
    if isinstance(config.get("architecture"), str) and "mapping" in config:
        return trtllm.read_folder
    return huggingface.read


_FOLDERS: tuple[tuple[tuple[str, ...], Reader], ...] = (
    (nemo2.MARKERS, nemo2.read),
    *((markers, multimodal.read_engines) for markers in multimodal.ENGINE_MARKERS),
    (multimodal.PERCEPTION_MARKERS, multimodal.read_perception),
    (trtllm.ENGINE_MARKERS, trtllm.read_engine),
    (trtllm.CHECKPOINT_MARKERS, trtllm.read_folder),
    (huggingface.ADAPTER_MARKERS, huggingface.read_adapter),
    (huggingface.MARKERS, huggingface.read),
)


def glance(path: Path) -> Checkpoint:
    """Like `read`, for one line of a list: a NeMo configuration is searched, not parsed."""
    return _file(path, glance=True)
