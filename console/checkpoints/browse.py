"""What is in a folder: one entry a checkpoint or sub-folder, each by a small look."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from threading import Lock

from console.checkpoints.model import Checkpoint, Format, Risk, Severity
from console.checkpoints.read import folder_reader, glance
from console.checkpoints.source import unreadable
from console.facts import CancelCheck, UsageError
from console.text import clean

SUFFIXES = (".nemo", ".qnemo", ".onnx", ".plan", ".engine", ".trt")
CACHE_ENTRIES = 4096
FOLDER = "folder"
_CONFIGURATIONS = (
    "config.json",
    "context/model.yaml",
    "adapter_config.json",
    "run_config.yaml",
    "latest_checkpointed_iteration.txt",
)

Key = tuple[str, int, int, int]
_cache: dict[Key, Checkpoint] = {}
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
                found.append(cached(Path(entry.path), entry.stat()))
        except FileNotFoundError:
            continue  # it went while we looked
        except OSError as error:
            path = Path(entry.path)
            found.append(broken(path, UsageError(clean(entry.name), why=error.strerror or "")))
    return tuple(found)


def _folder(entry: os.DirEntry[str]) -> Checkpoint:
    path = Path(entry.path)
    info = entry.stat()
    if folder_reader(path) is None:
        return Checkpoint(path, Format.UNKNOWN, "folder", task=FOLDER, modified=info.st_mtime)
    return cached(path, info)


def identity(path: Path) -> Key | None:
    """What a checkpoint is known by while nobody changes it; None for what is not there."""
    try:
        return _key(path, path.stat())
    except (OSError, ValueError):  # the latter for a NUL in the name
        return None


def _key(path: Path, info: os.stat_result) -> Key:
    # Writing into a file of a folder leaves the folder's own time as it was.
    inner = _times(path) if stat.S_ISDIR(info.st_mode) else 0
    return str(path), info.st_ino, info.st_mtime_ns + inner, info.st_size


def _times(path: Path) -> int:
    """Changes when the configuration in a checkpoint folder does."""
    total = 0
    for name in _CONFIGURATIONS:
        try:
            total += (path / name).stat().st_mtime_ns
        except OSError:
            continue  # not every format has it, and reading it says why it cannot be read
    return total


def cached(path: Path, info: os.stat_result) -> Checkpoint:
    """The facts of one checkpoint for a line of a list, from memory while it is unchanged. What
    cannot be read is a `Format.UNKNOWN` entry with the risk ``unreadable``."""
    key = _key(path, info)
    with _lock:
        if key in _cache:
            return _cache[key]
    try:
        reader = folder_reader(path) if stat.S_ISDIR(info.st_mode) else glance
        checkpoint = (reader or glance)(path)
    except UsageError as error:
        checkpoint = broken(path, error)
    except OSError as error:
        checkpoint = broken(path, unreadable(path, error))
    with _lock:
        while len(_cache) >= CACHE_ENTRIES:
            _cache.pop(next(iter(_cache)))
        _cache[key] = checkpoint
    return checkpoint


def broken(path: Path, error: UsageError) -> Checkpoint:
    """An entry for what cannot be read."""
    name = clean(path.name)
    # The sentence names the whole path, which a line of a list does not need.
    title = error.title.removeprefix(clean(str(path))).strip() or f"{name} cannot be read"
    return Checkpoint(
        path,
        Format.UNKNOWN,
        title,
        risks=(Risk("unreadable", Severity.DANGER, str(error), error.fix),),
    )
