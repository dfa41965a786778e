"""`read(path)`: the facts of one checkpoint, file or folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from console.checkpoints import huggingface, nemo, nemo2, onnxfile, qnemo
from console.checkpoints.model import Checkpoint
from console.checkpoints.sniff import HEAD, PROBLEMS, Kind, sniff
from console.checkpoints.source import opened, unreadable
from console.facts import UsageError
from console.text import clean


def read(path: Path) -> Checkpoint:
    """Facts of the checkpoint at `path`; blocks for some milliseconds.

    Nothing is executed, unpacked or written. Raises `UsageError` with one sentence for whatever is
    missing, broken, truncated, hostile or no checkpoint.
    """
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
    if kind is Kind.SAFETENSORS or path.name == "config.json":
        return _folder(path.parent)  # one file of a folder was picked
    what, fix = PROBLEMS[kind]
    raise UsageError(f"{clean(str(path))} {what}", fix=fix)


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
        fix="known are NeMo 2.0 (weights/ and context/), .qnemo and Hugging Face (config.json) folders",
    )


def folder_reader(path: Path) -> Callable[[Path], Checkpoint] | None:
    """The format that reads this folder, by the names in it; None when it is an ordinary one."""
    for markers, reader in _FOLDERS:
        if all((path / marker).exists() for marker in markers):
            return reader
    return None


_FOLDERS: tuple[tuple[tuple[str, ...], Callable[[Path], Checkpoint]], ...] = (
    (nemo2.MARKERS, nemo2.read),
    (qnemo.MARKERS, qnemo.read_folder),
    (huggingface.MARKERS, huggingface.read),
)


def glance(path: Path) -> Checkpoint:
    """Like `read`, for one line of a list: a NeMo configuration is searched, not parsed."""
    return _file(path, glance=True)
