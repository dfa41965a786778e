"""A container engine through its command line: docker and podman, one small class each.

The command line and not an API: what is shown is what is run, and contexts, ``DOCKER_HOST``,
credential helpers and rootless engines come with it. What is known of a container is read from
``inspect`` alone, whose fields both engines share.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from console.facts import DeckError
from console.runtimes import engine_errors
from console.runtimes.host import child_environment
from console.text import clean

if TYPE_CHECKING:
    from console.planning.containers import EngineName

PASSED = frozenset(
    {"CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINER_SSHKEY", "REGISTRY_AUTH_FILE"}
    | {"SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "XDG_DATA_HOME"}
)
PASSED_PREFIXES = ("DOCKER_", "CONTAINERS_")
"""What tells an engine's command line where its engine is and how to log in."""

_PR_SET_PDEATHSIG = 1
_QUICK = 60.0


def engine_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What an engine's command line gets of `environ`."""
    named = {k: v for k, v in environ.items() if k in PASSED or k.startswith(PASSED_PREFIXES)}
    return child_environment(environ) | named


@dataclass(frozen=True, slots=True)
class Done:
    """How a command of the engine ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the engine says of itself. `memory` in bytes; `host` is where containers run."""

    version: str
    rootless: bool
    cpus: int
    memory: int
    host: str
    runtimes: tuple[str, ...] = ()
    data: str = ""
    """Folder of its images and containers."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """A container now. `status` as the engine says it: created, running, exited …"""

    id: str
    name: str
    status: str
    pid: int
    exit_code: int
    oom_killed: bool
    error: str
    labels: Mapping[str, str]
    memory: int
    """Its memory limit in bytes; 0 without one."""
    ports: Mapping[str, tuple[str, ...]]
    """``8000/tcp`` to the addresses of the host that it is published on; empty unless it runs."""
    started: str = ""
    finished: str = ""

    @property
    def alive(self) -> bool:
        return self.status in ("running", "paused", "restarting", "stopping", "removing")


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """An image that the engine has. `size` in bytes."""

    id: str
    size: int
    user: str
    entrypoint: tuple[str, ...]
    labels: Mapping[str, str]
    digests: tuple[str, ...]
    environment: tuple[str, ...] = ()


class Unreachable(DeckError):
    """The engine does not answer; nothing is known about its containers."""


class Engine(ABC):
    """What tritondeck asks of an engine. Every method may raise `DeckError` in words."""

    name: ClassVar[EngineName]

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.env = engine_environment(environ)

    @property
    def installed(self) -> bool:
        return shutil.which(self.name, path=self.env["PATH"]) is not None

    # -- what differs -------------------------------------------------------------------

    @abstractmethod
    def facts(self) -> EngineFacts:
        """Ask the engine about itself; `Unreachable` when it does not answer."""

    @abstractmethod
    def caller_words(self, facts: EngineFacts) -> tuple[str, ...]:
        """The words that run a container as the caller, so that mounted files are its own."""

    @property
    @abstractmethod
    def log_words(self) -> tuple[str, ...]:
        """A log driver that ``logs`` can read back, with bounds on what it keeps."""

    # -- asking -------------------------------------------------------------------------

    def popen(self, words: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a command of the engine that ends when this process does, in a session of its own."""
        return subprocess.Popen(
            [self.name, *words],
            env=self.env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=partial(_end_with, os.getpid()),
            **options,
        )

    def ask(self, *words: str, timeout: float = _QUICK) -> Done:
        """Run a command to its end; `Unreachable` when program or engine do not answer."""
        try:
            process = self.popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except FileNotFoundError:
            raise Unreachable(
                f"{self.name} is not installed",
                why="there is no such program on the PATH",
                fix=f"install {self.name}, or choose another way to serve",
            ) from None
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Unreachable(
                f"{self.name} does not answer",
                why=f"`{self.name} {clean(words[0])}` gave nothing in {timeout:g} s",
                fix="look at the engine's own log (journalctl -u docker)",
            ) from None
        done = Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
        known = engine_errors.find(done.err) if done.code else None
        if known is not None and known.id in ("daemon-down", "daemon-rights"):
            raise unreachable(done.err)
        return done

    def must(self, doing: str, *words: str, timeout: float = _QUICK) -> str:
        """Like `ask`, but a refusal is raised in our words; its standard output."""
        done = self.ask(*words, timeout=timeout)
        if done.code:
            raise engine_errors.explain(done.err or done.out, doing)
        return done.out

    # -- containers ---------------------------------------------------------------------

    def find(self, label: str, value: str = "") -> list[str]:
        """Ids of containers that carry a label, whatever their state."""
        wanted = f"label={label}={value}" if value else f"label={label}"
        out = self.must("list containers", "ps", "-a", "-q", "--no-trunc", "--filter", wanted)
        return out.split()

    def inspect(self, container: str) -> Inspected | None:
        """A container as it is now; None when there is none (any more)."""
        done = self.ask("inspect", "--type", "container", container)
        if done.code:
            known = engine_errors.find(done.err)
            if known is not None and known.id == "container-gone":
                return None
            raise engine_errors.explain(done.err, "look at the container")
        found = json.loads(done.out)
        return _inspected(found[0]) if found else None

    def run(self, words: Sequence[str]) -> str:
        """``run`` detached; the id. A refusal leaves no container behind (`label` finds it)."""
        done = self.ask("run", "--detach", *words, timeout=600)
        if done.code:
            raise engine_errors.explain(done.err or done.out, "start the container")
        return done.out.split()[-1]

    def remove(self, container: str) -> None:
        """End and remove a container and its anonymous volumes; one that is gone is no error."""
        done = self.ask("rm", "--force", "--volumes", container)
        known = engine_errors.find(done.err)
        if done.code and (known is None or known.id != "container-gone"):
            raise engine_errors.explain(done.err, "remove the container")

    # -- images -------------------------------------------------------------------------

    def image(self, reference: str) -> ImageFacts | None:
        """An image that the engine has; None when it has none of that name."""
        done = self.ask("image", "inspect", reference)
        if done.code:
            return None
        found = json.loads(done.out)[0]
        config = found.get("Config") or {}
        return ImageFacts(
            id=found["Id"],
            size=int(found.get("Size") or 0),
            user=config.get("User") or "",
            entrypoint=_words(config.get("Entrypoint")),
            labels=config.get("Labels") or {},
            digests=tuple(found.get("RepoDigests") or ()),
            environment=tuple(config.get("Env") or ()),
        )


def unreachable(said: str) -> Unreachable:
    """`Unreachable` with what the engine's command line said."""
    told = engine_errors.explain(said, "reach the engine")
    return Unreachable(told.title, why=told.why, fix=told.fix, raw=told.raw)


def _words(value: Any) -> tuple[str, ...]:
    """Docker says a list where podman says one string."""
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(value or ())


def _inspected(raw: Mapping[str, Any]) -> Inspected:
    state, config = raw["State"], raw.get("Config") or {}
    ports = (raw.get("NetworkSettings") or {}).get("Ports") or {}
    return Inspected(
        id=raw["Id"],
        name=str(raw.get("Name", "")).lstrip("/"),
        status=str(state["Status"]),
        pid=int(state.get("Pid") or 0),
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        labels=config.get("Labels") or {},
        memory=int((raw.get("HostConfig") or {}).get("Memory") or 0),
        ports={name: tuple(_addresses(places)) for name, places in ports.items()},
        started=str(state.get("StartedAt", "")),
        finished=str(state.get("FinishedAt", "")),
    )


def _addresses(places: Any) -> Iterator[str]:
    for place in places or ():
        yield f"{place.get('HostIp') or '0.0.0.0'}:{place.get('HostPort')}"


def _end_with(parent: int) -> None:
    """In the new process, before the command: it ends with `parent`, which may have gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
