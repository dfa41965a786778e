"""What is saved of a service, and what its folder says about it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from console import keeper, processes, storage
from console.facts import Endpoint
from console.planning.plan import ServiceSpec
from console.planning.variables import expand, names
from console.runtimes import containers
from console.services import restarts
from console.services.model import ServiceState, ServiceView
from console.text import clean, human_seconds

VERSION = 1
MANIFEST = "service.json"
_SMALL = 1 << 20
OUT_OF_MEMORY = "for want of memory (OOM)"
"""How the end of a server is told whose killer was the kernel."""


@dataclass(frozen=True, slots=True)
class Record:
    """`service.json`: which server was started with which values (no secret among them)."""

    id: str
    deployment: str
    number: int
    spec: ServiceSpec
    values: Mapping[str, str]
    """Values as used, ports included."""
    tools: str
    """Digest over the small files that the command names (the launcher worker)."""
    created: float
    host: str

    def save(self, folder: Path) -> None:
        value = {
            "version": VERSION,
            "id": self.id,
            "deployment": self.deployment,
            "number": self.number,
            "spec": self.spec.model_dump(mode="json"),
            "values": dict(self.values),
            "tools": self.tools,
            "created": self.created,
            "host": self.host,
        }
        storage.write_json(folder / MANIFEST, value)

    @property
    def attached(self) -> bool:
        """Whether the server is somebody else's."""
        return self.spec.command is None

    @property
    def endpoint(self) -> Endpoint:
        spec = self.spec

        def place(template: str) -> Path | None:
            text = expand(template, self.values)
            return Path(text) if text else None

        return Endpoint(
            url=expand(spec.http_url, self.values),
            kind=spec.kind,
            grpc_url=expand(spec.grpc_url, self.values),
            metrics_url=expand(spec.metrics_url, self.values),
            token_file=place(spec.token_file),
            token_env=spec.token_env,
            token_header=spec.token_header,
            ca_file=place(spec.ca_file),
            ours=not self.attached,
            manage=spec.manage,
        )

    @property
    def shm_prefix(self) -> str:
        return expand(self.spec.shm_prefix, self.values)


class Unreadable(Exception):
    """A service folder of another version, or a damaged one; the message says which."""


def load(folder: Path) -> Record:
    """Read `service.json`; raises `Unreadable` in words."""
    raw = storage.read_json(folder / MANIFEST)
    if raw is None:
        raise Unreadable(f"{MANIFEST} is missing or damaged")
    if raw.get("version") != VERSION:
        raise Unreadable(
            f"written by another version of tritondeck (format {clean(str(raw.get('version')))}, "
            f"this one reads {VERSION})"
        )
    try:
        return Record(
            id=raw["id"],
            deployment=raw["deployment"],
            number=raw["number"],
            spec=ServiceSpec.model_validate(raw["spec"]),
            values=raw["values"],
            tools=raw["tools"],
            created=raw["created"],
            host=raw["host"],
        )
    except (KeyError, ValidationError) as error:
        raise Unreadable(f"{MANIFEST} is damaged: {clean(str(error))[:200]}") from error


def tools_digest(spec: ServiceSpec, values: Mapping[str, str]) -> str:
    """Digest over the small files among the command's words: a changed launcher is a new server."""
    digest = hashlib.sha256()
    for word in spec.command.argv if spec.command else ():
        path = Path(expand(word, values))
        if path.is_absolute() and path.is_file() and path.stat().st_size <= _SMALL:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def asked(spec: ServiceSpec, values: Mapping[str, str]) -> dict[str, str]:
    """The values that this spec uses, the ones that each launch makes anew left out."""
    used = names(spec.model_dump_json()) - {"token_file"}
    if spec.command is not None:
        used |= spec.command.variables - {"token_file"}
    return {name: values[name] for name in sorted(used)}


def view(folder: Path) -> ServiceView:
    """The service as its folder tells it now; starts and asks nothing."""
    try:
        record = load(folder)
    except Unreadable as problem:
        return _unreadable(folder, str(problem))
    kept = keeper.look(folder)
    state, reason = _state(record, kept, folder)
    if state is ServiceState.FAILED and (now := keeper.look(folder)).mark != kept.mark:
        kept = now  # it has been started again since
        state, reason = _state(record, kept, folder)
    alive = kept.exit is None and state in (
        ServiceState.STARTING,
        ServiceState.RUNNING,
        ServiceState.STOPPING,
    )
    return ServiceView(
        id=record.id,
        deployment=record.deployment,
        launcher=record.spec.launcher,
        state=state,
        folder=folder,
        log=folder / "server.log",
        endpoint=record.endpoint,
        repository=Path(expand(record.spec.repository, record.values)),
        models=record.spec.models,
        pid=_pid(kept, folder) if alive else None,
        started=kept.started or record.created,
        uptime=time.monotonic() - kept.monotonic if alive and kept.keeper else None,
        exit_status=_status(kept),
        reason=reason,
    )


def _pid(kept: keeper.Kept, folder: Path) -> int | None:
    """The server's process; in a container the first one, as this host numbers it."""
    contained = containers.look(folder)
    if contained is not None and contained.following.pid:
        return contained.following.pid
    return kept.child.pid if kept.child else None


def _lives_on(folder: Path) -> bool:
    """Whether a container still runs whose follower and supervisor are gone."""
    contained = containers.look(folder)
    if contained is None or contained.ended or contained.record.boot != processes.boot_id():
        return False
    return bool(contained.following.pid) and Path(f"/proc/{contained.following.pid}").exists()


def _status(kept: keeper.Kept) -> int | None:
    if kept.exit is None:
        return None
    return kept.exit.code if kept.exit.code is not None else -(kept.exit.signal or 0)


def _state(record: Record, kept: keeper.Kept, folder: Path) -> tuple[ServiceState, str]:
    if record.host != processes.hostname() or kept.foreign:
        return ServiceState.FOREIGN, f"started on host {clean(record.host)}: view only"
    stopping = (folder / "stopping").exists()
    if record.attached:
        if stopping:
            return ServiceState.STOPPED, "no longer attached; the server was left as it is"
        ready = (folder / "ready").exists()
        return (ServiceState.RUNNING if ready else ServiceState.STARTING), ""
    if kept.exit is not None:
        if kept.keeper is not None and kept.keeper.alive and (due := restarts.read(folder)).next:
            if stopping:
                return ServiceState.STOPPING, "it was waiting to be started again"
            wait = max(0.0, due.next - time.time())
            times = f"restart {due.recent(time.time())} of {record.spec.restart_limit}"
            _, why = _ended(kept.exit, folder)
            return ServiceState.RESTARTING, f"{times} in {human_seconds(wait)}: {why}"
        return _ended(kept.exit, folder)
    if kept.watched or kept.child_alive:
        note = "" if kept.watched else "its supervisor is gone: how it ends will not be known"
        if stopping:
            return ServiceState.STOPPING, note
        ready = (folder / "ready").exists()
        return (ServiceState.RUNNING if ready else ServiceState.STARTING), note
    if kept.keeper is None:
        return ServiceState.FAILED, "it was never started"
    if _lives_on(folder):
        ready = (folder / "ready").exists()
        note = "its supervisor is gone: how it ends will not be known"
        return (ServiceState.RUNNING if ready else ServiceState.STARTING), note
    if stopping:
        return ServiceState.STOPPED, "stopped after its supervisor had been lost"
    return ServiceState.LOST, "its supervisor and the server are gone (reboot, or both were killed)"


def _ended(exit_: keeper.Exit, folder: Path) -> tuple[ServiceState, str]:
    words = exit_.words
    if OUT_OF_MEMORY in exit_.note:
        words += f", {OUT_OF_MEMORY}"
    if exit_.asked:
        late = ", killed because it did not end in time" if exit_.killed else ""
        return ServiceState.STOPPED, f"stopped ({words}{late})"
    if exit_.code == 0:
        return ServiceState.STOPPED, "ended by itself (exit code 0)"
    if (folder / "stopping").exists():
        return ServiceState.STOPPED, f"stopped after it had crashed ({words})"
    if refused := containers.problem(folder):
        return ServiceState.FAILED, ": ".join(filter(None, (refused.title, refused.why)))
    return ServiceState.FAILED, f"{words}: {last_line(folder / 'server.log')}".rstrip(": ")


def last_line(log: Path) -> str:
    """The last line of a log that says something, cleaned, without Triton's frame around it."""
    from console.triton.logs import parse

    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 16384))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [parse(line) for line in reversed(text.split("\n")) if line.strip("+-|= \r")]
    return next((clean(line.message)[:300] for line in lines if not line.harmless), "")


def _unreadable(folder: Path, problem: str) -> ServiceView:
    return ServiceView(
        id=clean(folder.name),
        deployment="",
        launcher="",
        state=ServiceState.FOREIGN,
        folder=folder,
        log=folder / "server.log",
        endpoint=Endpoint(url=""),
        repository=folder,
        models=(),
        reason=problem,
    )
