"""Files of ours: private, whole or not there at all, never through a planted link, errors in words.
And files that an operator names: there, or not."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from console.facts import DeckError, Refused
from console.text import clean, human_bytes
from console.waiting import looks


def write_private(path: Path, data: bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Write a whole file or nothing: a new file beside it, flushed, then renamed over it."""
    # Of this thread alone: an answer that comes late is written while the next one is.
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(part, flags, mode)
        try:
            _write_all(handle, data)
            os.fchmod(handle, mode)
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        part.replace(path)
    except OSError as error:
        error.filename = str(path)  # so that whoever tells it names the right disk
        part.unlink(missing_ok=True)
        raise


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_private(path, json_bytes(value))


def json_bytes(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none (missing, torn, foreign)."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def named(typed: str) -> Path:
    """The absolute path that an operator typed; ``~`` is their home, and a user that there is not is
    part of a name, as in a shell."""
    path = Path(typed)
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        return path.absolute()


def is_file(path: Path) -> bool:
    """Whether a file is there for us: in a folder that we may not enter, and under a name that is too
    long, there is none (`Path.is_file` raises)."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder is there for us, in the same sense."""
    try:
        return path.is_dir()
    except OSError:
        return False


def discard(folder: Path, manifest: str) -> None:
    """Remove a folder of ours: only one that holds `manifest`, and out of sight at once."""
    if not (folder / manifest).is_file():
        raise Refused(f"{clean(str(folder))} holds no {manifest}: it is not ours to remove")
    trash = folder.with_name(f".trash-{folder.name}-{secrets.token_hex(4)}")
    folder.rename(trash)
    shutil.rmtree(trash)


def open_log(path: Path) -> int:
    """A descriptor that appends to a log of ours; never through a planted symlink."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


class StatusFile:
    """A small JSON file whose room on the disk is taken before it is needed.

    Writing it later allocates nothing: the bytes go into blocks that are ours, and a rename within
    one folder makes them visible at once.
    """

    def __init__(self, path: Path, size: int = 4096) -> None:
        self.path = path
        self.size = size
        self._spare = path.with_name(f".{path.name}.reserved")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self._spare, flags, 0o600)
        try:
            _write_all(handle, b" " * size)
            os.fsync(handle)
        except OSError:
            self._spare.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)

    def write(self, value: Mapping[str, Any]) -> None:
        data = json.dumps(value).encode().ljust(self.size)
        handle = os.open(self._spare, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _write_all(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        self._spare.replace(self.path)

    def write_patiently(self, value: Mapping[str, Any]) -> None:
        """Like `write`, again and again while the disk refuses; gives up when the folder is gone."""
        while True:
            try:
                return self.write(value)
            except OSError as error:
                if not self.path.parent.is_dir():
                    return None
                print(f"cannot write {self.path.name} yet: {error.strerror}", file=sys.stderr)
                time.sleep(1)


def open_lock(path: Path) -> int:
    """A descriptor of a lock file, made private where there is none; never through a link."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def take_lock(handle: int) -> bool:
    """Lock an open lock file (flock) for as long as a process has it open; False when it is taken."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock(path: Path, held: str, patience: float = 0.0) -> int:
    """Hold `path` (flock) for the life of this process; `Refused` with `held` when somebody does
    for `patience` seconds."""
    handle = open_lock(path)
    for _ in looks(patience):
        if take_lock(handle):
            return handle
    os.close(handle)
    raise Refused(held, fix="wait until it has ended, or cancel it")


def storage_error(error: OSError, path: Path) -> DeckError:
    """An `OSError` of a file of ours, in words an operator can act on."""
    folder = next(place for place in (path, *path.parents) if place.is_dir())
    shown = clean(str(folder))
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        try:
            usage = shutil.disk_usage(folder)
            why = f"{human_bytes(usage.free)} free of {human_bytes(usage.total)}"
        except OSError:
            why = reason
        return DeckError(
            f"the disk of {shown} is full", why=why, fix="free some space there, then retry"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DeckError(
            f"{clean(str(path))} may not be used",
            why=reason,
            fix="give this user the right to it; TRITONDECK_HOME moves our own folders",
        )
    if error.errno == errno.ELOOP:
        return DeckError(
            f"{clean(str(path))} is a symbolic link; it is not followed",
            fix="remove the link: somebody put it where a file of ours belongs",
        )
    return DeckError(f"cannot use {clean(str(error.filename or path))}", why=reason)
