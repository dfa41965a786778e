"""What is in a folder: one entry a checkpoint or sub-folder, each by a small look."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock

from console.checkpoints.model import Checkpoint, Format, Risk, Severity
from console.checkpoints.read import folder_reader, glance
from console.checkpoints.source import unreadable
from console.facts import CancelCheck, UsageError
from console.text import clean

SUFFIXES = (".nemo", ".qnemo", ".onnx")
CACHE_ENTRIES = 4096
FOLDER = "folder"

_Key = tuple[str, int, int, int]
_cache: dict[_Key, Checkpoint] = {}
_lock = Lock()


def browse(folder: Path, cancelled: CancelCheck | None = None) -> tuple[Checkpoint, ...]:
    """The checkpoints directly in `folder` and its sub-folders, sorted by name.

    A folder that is no checkpoint is an `Format.UNKNOWN` entry with task ``folder``; a file that
    looks like a checkpoint but cannot be read is one with the reason as its risk ``unreadable``.
    Hidden names are skipped. After `cancelled` says so, what was found until then is returned.
    Raises `UsageError` when the folder itself cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            shown = [e for e in entries if not e.name.startswith(".")]
    except OSError as error:
        raise unreadable(folder, error) from error
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"{clean(str(folder))} is not a folder name") from error
    found: list[Checkpoint] = []
    for entry in sorted(shown, key=lambda e: e.name.casefold()):
        if cancelled is not None and cancelled():
            break
        try:
            if entry.is_dir():
                found.append(_folder(entry))
            elif entry.name.lower().endswith(SUFFIXES):
                found.append(_file(entry))
        except FileNotFoundError:
            continue  # it went while we looked
        except OSError as error:
            found.append(_broken(entry, UsageError(clean(entry.name), why=error.strerror or "")))
    return tuple(found)


def _folder(entry: os.DirEntry[str]) -> Checkpoint:
    path = Path(entry.path)
    info = entry.stat()
    if folder_reader(path) is None:
        return Checkpoint(path, Format.UNKNOWN, "folder", task=FOLDER, modified=info.st_mtime)
    # Writing into a file of a folder leaves the folder's own time as it was.
    return _cached(entry, info, _times(path))


def _times(path: Path) -> int:
    """Changes when the configuration in a checkpoint folder does."""
    total = 0
    for name in ("config.json", "context/model.yaml"):
        try:
            total += (path / name).stat().st_mtime_ns
        except OSError:
            continue  # not every format has it, and reading it says why it cannot be read
    return total


def _file(entry: os.DirEntry[str]) -> Checkpoint:
    return _cached(entry, entry.stat())


def _cached(entry: os.DirEntry[str], info: os.stat_result, inner: int = 0) -> Checkpoint:
    key = (entry.path, info.st_ino, info.st_mtime_ns + inner, info.st_size)
    with _lock:
        if key in _cache:
            return _cache[key]
    path = Path(entry.path)
    try:
        reader = folder_reader(path) if entry.is_dir() else glance
        checkpoint = (reader or glance)(path)
    except UsageError as error:
        checkpoint = _broken(entry, error)
    except OSError as error:
        checkpoint = _broken(entry, unreadable(path, error))
    with _lock:
        while len(_cache) >= CACHE_ENTRIES:
            _cache.pop(next(iter(_cache)))
        _cache[key] = checkpoint
    return checkpoint


def _broken(entry: os.DirEntry[str], error: UsageError) -> Checkpoint:
    name = clean(entry.name)
    # The sentence names the whole path, which a line of a list does not need.
    title = error.title.removeprefix(clean(entry.path)).strip() or f"{name} cannot be read"
    return Checkpoint(
        Path(entry.path),
        Format.UNKNOWN,
        title,
        risks=(Risk("unreadable", Severity.DANGER, str(error), error.fix),),
    )
