"""What operators did: one line an action, only ever appended to, for marks on curves and for incidents."""

from __future__ import annotations

import getpass
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from console import processes, storage
from console.text import clean, redact

FILE = "actions.jsonl"
_KEPT = 8 << 20
"""Bytes after which the file is set aside once (``actions.jsonl.1``)."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action with its outcome; times are seconds since the epoch."""

    time: float
    what: str
    """``deploy``, ``stop``, ``load``, ``unload``, ``rollback``, ``cancel``, ``retry`` …"""
    target: str
    """Id of the run or service, name of the deployment, or URL of the server."""
    model: str = ""
    outcome: str = "done"
    """``done``, or why it did not work."""
    user: str = ""
    host: str = ""

    @property
    def words(self) -> str:
        model = f" {self.model}" if self.model else ""
        return f"{self.what}{model}" + ("" if self.outcome == "done" else f": {self.outcome}")


def note(state: Path, what: str, target: str, model: str = "", outcome: str = "done") -> None:
    """Append one action. A disk that takes no more must not keep an operator from acting: it is
    said on standard error."""
    told = redact(clean(outcome))[:300]
    action = Action(
        time.time(), what, redact(clean(target)), clean(model), told, _user(), processes.hostname()
    )
    path = state / FILE
    try:
        if path.exists() and path.stat().st_size > _KEPT:
            path.replace(path.with_name(FILE + ".1"))
        handle = storage.open_log(path)
        try:
            os.write(handle, json.dumps(asdict(action)).encode() + b"\n")
        finally:
            os.close(handle)
    except OSError as error:
        print(f"the action was not noted in {FILE}: {error.strerror}", file=sys.stderr)


def _user() -> str:
    try:
        return clean(getpass.getuser())
    except (OSError, KeyError):  # a user id without a name
        return str(os.geteuid())


def read(state: Path, position: int = 0) -> tuple[tuple[Action, ...], int]:
    """Whole actions from a byte `position` on, and the position after them."""
    try:
        with (state / FILE).open("rb") as stream:
            if stream.seek(0, os.SEEK_END) < position:
                position = 0  # set aside meanwhile
            stream.seek(position)
            data = stream.read()
    except OSError:
        return (), 0
    whole = data[: data.rfind(b"\n") + 1]
    return tuple(_parsed(whole)), position + len(whole)


def _parsed(data: bytes) -> Iterator[Action]:
    names = [field.name for field in fields(Action)]
    for line in data.splitlines():
        try:
            raw = json.loads(line)
            yield Action(**{name: raw[name] for name in names if name in raw})
        except (ValueError, TypeError, KeyError):
            continue  # torn by a crash
