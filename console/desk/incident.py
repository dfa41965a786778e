"""Use case: pack what is known of a run or a service into one zip that can be sent to somebody.

Plan, versions, verdicts, journal, logs, actions and the recording. Everything textual is cleaned and
redacted; tokens are no part of it. What is too large is cut to its end, and what was left out is listed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from console import processes, storage
from console.facts import DeckError, UsageError
from console.settings import Settings
from console.telemetry import actions
from console.telemetry.recording import FILE as RECORDING
from console.text import clean, human_bytes, redact

LOG_END = 4 << 20
"""Bytes of a log that are packed: its end."""
RECORDING_LIMIT = 128 << 20
_TEXTS = (
    "deployment.toml", "plan.json", "values.json", "run.json", "end.json", "journal.jsonl",
    "messages.log", "service.json", "identity.json", "exit.json", "health.json", "probes.json",
    "server.log", "telemetry.jsonl",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Incident:
    """The file that was made, what it holds, and what it does not, with the reason."""

    file: Path
    size: int
    names: tuple[str, ...]
    left_out: tuple[str, ...]


def folders_of(settings: Settings, name: str) -> tuple[Path, ...]:
    """The folders of a run or service id, or the newest of both of a deployment."""
    from console.runs.store import RunStore
    from console.services.store import ServiceStore

    runs, services = RunStore(settings).views(""), ServiceStore(settings).views()
    exact = [r.folder for r in runs if r.id == name] + [s.folder for s in services if s.id == name]
    if exact:
        return tuple(exact)
    run = next((r.folder for r in runs if r.deployment == name), None)
    service = next((s.folder for s in services if s.deployment == name), None)
    found = tuple(folder for folder in (run, service) if folder is not None)
    if not found:
        raise UsageError(
            f"there is no run, service or deployment {clean(name)!r}",
            fix="tritondeck runs and tritondeck services list them",
        )
    return found


def recording_of(settings: Settings, words: Path) -> Path:
    """The recording that is meant: a file, or a run, service or deployment by name."""
    if words.is_file():
        return words
    if "/" in str(words) or words.suffix == ".sqlite":
        raise UsageError(f"there is no recording {clean(str(words))}")
    found = [f / RECORDING for f in folders_of(settings, str(words))]
    there = [file for file in found if file.is_file()]
    if not there:
        raise UsageError(
            f"{clean(str(words))} has no recording",
            why="it was made before recordings were, or recording is off in the settings",
        )
    return max(there, key=lambda file: file.stat().st_mtime)


def pack(settings: Settings, name: str, file: Path | None = None) -> Incident:
    """Write the zip (0600, whole or not at all). Raises `DeckError`."""
    folders = folders_of(settings, name)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = (file or Path(f"{name}-incident-{stamp}.zip")).absolute()
    if target.exists():
        raise UsageError(f"{clean(str(target))} exists already", fix="name another with --output")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(part, flags, 0o600), "w+b") as stream:
            packer = _Packer(settings, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED))
            packer.everything(name, folders)
        part.replace(target)
    except OSError as error:
        raise storage.storage_error(error, target) from error
    finally:
        part.unlink(missing_ok=True)
    return Incident(target, target.stat().st_size, tuple(packer.names), tuple(packer.left_out))


class _Packer:
    def __init__(self, settings: Settings, archive: zipfile.ZipFile) -> None:
        self.settings = settings
        self.archive = archive
        self.names: list[str] = []
        self.left_out: list[str] = []

    def everything(self, name: str, folders: tuple[Path, ...]) -> None:
        with self.archive:
            self.text("versions.json", json.dumps(_versions(), indent=2))
            self.verdicts(folders)
            for folder in folders:
                self.folder(folder)
            names = {name, *(folder.name for folder in folders)}
            done, _ = actions.read(self.settings.folders.state)
            mine = [a for a in done if a.target in names or a.target.rpartition("-")[0] in names]
            self.text("actions.txt", "\n".join(_line(action) for action in mine) or "none noted")
            self.text("left-out.txt", "\n".join(self.left_out) or "nothing was left out")

    def text(self, name: str, text: str) -> None:
        self.archive.writestr(name, redact(clean(text, multiline=True)))
        self.names.append(name)

    def verdicts(self, folders: tuple[Path, ...]) -> None:
        """What the checks say now, of the deployment as it ran."""
        from console.desk import check, configure

        file = next(
            (f / "deployment.toml" for f in folders if (f / "deployment.toml").is_file()), None
        )
        if file is None:
            self.left_out.append("verdicts.json: a service alone has no deployment to check")
            return
        try:
            report = check.check(self.settings, configure.open_deployment(self.settings, str(file)))
        except (DeckError, OSError) as error:
            self.left_out.append(f"verdicts.json: {redact(clean(str(error)))}")
            return
        verdicts = [asdict(verdict) for verdict in report.verdicts]
        self.text("verdicts.json", json.dumps(verdicts, indent=2))

    def folder(self, folder: Path) -> None:
        for name in _TEXTS:
            if (folder / name).is_file():
                self.log(folder / name, f"{folder.name}/{name}")
        for log in sorted((folder / "logs").glob("*.log")):
            self.log(log, f"{folder.name}/logs/{log.name}")
        self.recording(folder / RECORDING, f"{folder.name}/{RECORDING}")
        known = {*_TEXTS, RECORDING, "logs", "token"}
        for other in sorted(folder.iterdir()):
            if other.is_file() and other.name not in known and not other.name.startswith("."):
                self.left_out.append(
                    f"{folder.name}/{clean(other.name)}: not needed to understand it"
                )
        if (folder / "token").exists():
            self.left_out.append(f"{folder.name}/token: a secret")

    def log(self, file: Path, name: str) -> None:
        try:
            size = file.stat().st_size
            with file.open("rb") as stream:
                stream.seek(max(0, size - LOG_END))
                text = stream.read(LOG_END).decode(errors="replace")
        except OSError as error:
            self.left_out.append(f"{name}: {error.strerror}")
            return
        if size > LOG_END:
            self.left_out.append(f"{name}: its first {human_bytes(size - LOG_END)}")
        self.text(name, text)

    def recording(self, file: Path, name: str) -> None:
        """A whole copy of a file that may be written to at this moment."""
        if not file.is_file():
            self.left_out.append(f"{name}: there is no recording")
            return
        if file.stat().st_size > RECORDING_LIMIT:
            self.left_out.append(f"{name}: larger than {human_bytes(RECORDING_LIMIT)}")
            return
        try:
            self.archive.writestr(name, b"".join(_copied(file)))
        except (sqlite3.Error, OSError) as error:
            self.left_out.append(f"{name}: {clean(str(error))}")
            return
        self.names.append(name)


def _copied(file: Path) -> Iterator[bytes]:
    source = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
    target = sqlite3.connect(":memory:")
    try:
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")
        yield target.serialize()
    finally:
        source.close()
        target.close()


def _line(action: actions.Action) -> str:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(action.time))
    return f"{when} {action.user}@{action.host} {action.target}: {action.words}"


def _versions() -> dict[str, object]:
    from importlib import metadata

    from console.telemetry.host import host

    have = host()
    return {
        "tritondeck": metadata.version("tritondeck"),
        "python": sys.version,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": processes.hostname(),
        "system": have.system,
        "kernel": have.kernel,
        "glibc": have.glibc,
        "driver": have.driver,
        "cuda": have.cuda,
        "gpus": [gpu.name for gpu in have.gpus],
    }
