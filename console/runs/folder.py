"""A run's folder: where each thing lies, and the manifest that says which run it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console import storage
from console.text import clean

if TYPE_CHECKING:
    from console.planning.plan import Plan

VERSION = 1
MANIFEST = "run.json"


class Unreadable(Exception):
    """A run of another version of tritondeck, or a damaged one; the message says which."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What a step list shows before anything has run."""

    id: str
    title: str
    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`run.json`: written once, last of the files that make a run."""

    id: str
    deployment: str
    number: int
    created: float
    host: str
    steps: tuple[Outline, ...]
    from_step: str = ""
    force: bool = False

    def save(self, folder: RunFolder) -> None:
        storage.write_json(folder.manifest, {"version": VERSION, **asdict(self)})


def outlines(plan: Plan) -> tuple[Outline, ...]:
    return tuple(Outline(s.id, s.title, s.kind, s.why) for s in plan.steps)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths only; nothing is opened here."""

    path: Path

    @property
    def manifest(self) -> Path:
        return self.path / MANIFEST

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def values(self) -> Path:
        return self.path / "values.json"

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def end(self) -> Path:
        """How the last attempt ended, in room that was taken at its start."""
        return self.path / "end.json"

    @property
    def progress(self) -> Path:
        return self.path / "progress.json"

    @property
    def telemetry(self) -> Path:
        return self.path / "telemetry.sqlite"

    @property
    def starter(self) -> Path:
        """Who is starting a runner, while they do."""
        return self.path / "starter.json"

    @property
    def cancel(self) -> Path:
        """Exists when somebody asked the runner to cancel."""
        return self.path / "cancel"

    @property
    def messages(self) -> Path:
        """What the runner itself had to complain about."""
        return self.path / "messages.log"

    def log(self, step: str) -> Path:
        return self.path / "logs" / f"{step}.log"

    def kept(self, name: str) -> Path:
        """The folder of one step's keeper."""
        return self.path / "keepers" / name


def load(folder: RunFolder) -> Manifest:
    """Read the manifest; raises `Unreadable` in words."""
    raw: dict[str, Any] | None = storage.read_json(folder.manifest)
    if raw is None:
        raise Unreadable(f"{MANIFEST} is missing or damaged")
    if raw.get("version") != VERSION:
        raise Unreadable(
            "written by another version of tritondeck "
            f"(format {clean(str(raw.get('version')))}, this one reads {VERSION})"
        )
    try:
        return Manifest(
            id=raw["id"],
            deployment=raw["deployment"],
            number=raw["number"],
            created=raw["created"],
            host=raw["host"],
            steps=tuple(Outline(**outline) for outline in raw["steps"]),
            from_step=raw["from_step"],
            force=raw["force"],
        )
    except (KeyError, TypeError) as error:
        raise Unreadable(f"{MANIFEST} is damaged: {clean(str(error))}") from error
