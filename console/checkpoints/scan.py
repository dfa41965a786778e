"""Every checkpoint in a tree, as they are found.

A folder is judged by the names in it while it is listed, so that a tree of a hundred thousand files
costs its listing and nothing else; only what looks like a checkpoint is opened, and that through the
cache of `browse`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from console.checkpoints.browse import SUFFIXES, broken, cached
from console.checkpoints.megatron import ITERATION, LATEST
from console.checkpoints.model import Checkpoint
from console.checkpoints.read import looks_like_checkpoint
from console.checkpoints.source import unreadable
from console.facts import CancelCheck, UsageError
from console.text import clean

EVERY = 1000
"""Entries between two words of progress and two questions whether to stop."""
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_MARKERS = frozenset(
    {"config.json", "adapter_config.json", "weights", "context", "rank0.safetensors",
     "rank0.engine", "common.pt", ".metadata", "metadata.json", LATEST}
)  # fmt: skip
_RANKS = ("mp_rank_", "tp_rank_")

Count = Callable[[int], None]


def scan(
    folder: Path, progress: Count | None = None, cancelled: CancelCheck | None = None
) -> Iterator[Checkpoint]:
    """Yield the checkpoints below `folder` (and `folder` itself), parents before children.

    Folders that are checkpoints are not entered, hidden ones neither; links to folders are judged
    but not followed, so that no loop of links is walked. A folder or file that cannot be read is an
    `Format.UNKNOWN` entry with the risk ``unreadable``. `progress` is called with the number of
    entries seen. After `cancelled` says so, nothing more comes. Raises `UsageError` when `folder`
    itself cannot be read.
    """
    walk = _Walk(progress, cancelled)
    try:
        first = walk.listed(folder)
    except OSError as error:
        raise unreadable(folder, error) from error
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"{clean(str(folder))} is not a folder name") from error
    yield from walk.found(folder, first)
    waiting = first.folders
    while waiting and not walk.stopped:
        path = Path(waiting.pop())
        try:
            listing = walk.listed(path)
        except FileNotFoundError:
            continue  # it went while we looked
        except OSError as error:
            yield broken(path, unreadable(path, error))
            continue
        yield from walk.found(path, listing)
        waiting += listing.folders
    walk.say()


class _Listing:
    """The names in one folder that matter; thousands of others are counted and forgotten."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.weights = False
        self.files: list[str] = []
        self.links: list[str] = []
        self.folders: list[str] = []


class _Walk:
    """Counts entries and asks whether to stop."""

    def __init__(self, progress: Count | None, cancelled: CancelCheck | None) -> None:
        self.seen = 0
        self.stopped = False
        self._progress = progress
        self._cancelled = cancelled

    def say(self) -> None:
        if self._progress is not None:
            self._progress(self.seen)

    def _step(self) -> bool:
        """Count an entry; True when the walk should stop."""
        self.seen += 1
        if self.seen % EVERY == 0:
            self.say()
            if self._cancelled is not None and self._cancelled():
                self.stopped = True
        return self.stopped

    def listed(self, folder: Path) -> _Listing:
        """One pass over a folder. Raises `OSError`."""
        if self._cancelled is not None and self._cancelled():
            self.stopped = True
        here = _Listing()
        with os.scandir(folder) as entries:
            for entry in entries:
                if self._step():
                    break
                self._sort(entry, here)
        here.folders.sort(reverse=True)  # taken from the end
        here.files.sort()
        return here

    def _sort(self, entry: os.DirEntry[str], here: _Listing) -> None:
        name = entry.name
        if name in _MARKERS:
            here.names.add(name)
        if name.startswith("."):
            return
        if entry.is_dir(follow_symlinks=False):
            here.folders.append(entry.path)
            if name.startswith(_RANKS) or ITERATION.match(name):
                here.names.add(name)
        elif entry.is_symlink() and _to_folder(entry):
            here.links.append(entry.path)
        elif "." in name:
            lower = name.lower()
            if lower.endswith(SUFFIXES):
                here.files.append(entry.path)
            here.weights = here.weights or lower.endswith(_WEIGHTS)

    def found(self, folder: Path, here: _Listing) -> Iterator[Checkpoint]:
        """What a listed folder holds; a checkpoint's own sub-folders are dropped from the walk."""
        if looks_like_checkpoint(folder, frozenset(here.names), here.weights):
            here.folders.clear()
            yield from _facts(folder)
            return
        for path in here.files:
            if self.stopped:
                return
            yield from _facts(Path(path))
        for link in sorted(here.links):
            if self.stopped:
                return
            try:
                target = self.listed(Path(link))
            except OSError as error:
                yield broken(Path(link), unreadable(Path(link), error))
                continue
            if looks_like_checkpoint(Path(link), frozenset(target.names), target.weights):
                yield from _facts(Path(link))


def _to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or through a folder that is closed to us
        return False


def _facts(path: Path) -> Iterator[Checkpoint]:
    try:
        yield cached(path, path.stat())
    except FileNotFoundError:
        return  # a dangling link, or it went while we looked
    except OSError as error:
        yield broken(path, unreadable(path, error))
