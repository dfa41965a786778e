"""A command in an image as something that a keeper can keep: prepared, found again, ended.

The keeper's child is a follower (`console.runtimes.follow`), a small process that starts the
container or finds it by its label, follows its log and ends as the container ends. The container
outlives its follower; the folder and the label bring the next one back to it:

``container.json``  what is run: engine, key, argv after the engine's name (no value of the environment)
``container.env``   the environment, mode 0600, gone once the container has been made
``follower.json``   the container's id and whether the engine answers, while it is followed
``ended.json``      how the container ended, and why it could not start where it did not
``followed``        how far its log has been copied

A container carries these labels: ``tritondeck.key`` (one launch), ``.folder``, ``.boot``, ``.host``
and those of its owner (``.deployment``, ``.run``, ``.step``, ``.service``).
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from console import processes, storage
from console.facts import DeckError, UsageError
from console.runtimes import engine_errors, engines
from console.runtimes.engine import Engine, Inspected, engine_environment
from console.runtimes.host import Launch
from console.text import clean

if TYPE_CHECKING:
    from console.planning.plan import Command, Container

RECORD, ENVIRONMENT = "container.json", "container.env"
FOLLOWER, ENDED, FOLLOWED = "follower.json", "ended.json", "followed"
KEY = "tritondeck.key"
FOLDER = "tritondeck.folder"
VERSION = 1

_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose container it is; what is empty is left out of name and labels."""

    deployment: str
    run: str = ""
    step: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """What is run; written before anything is."""

    engine: str
    key: str
    name: str
    words: tuple[str, ...]
    """Everything after ``docker run --detach``."""
    stop_seconds: int
    boot: str
    host: str


@dataclass(frozen=True, slots=True)
class Following:
    """What the follower knows while it follows."""

    id: str = ""
    """Empty until the container has been started."""
    pid: int = 0
    """The container's first process on this host; 0 where the engine is elsewhere."""
    unreachable: str = ""
    """Why the engine does not answer, in words; the container may live on."""
    oom_kills: int = 0
    """Processes in it that the kernel ended for want of memory; the container itself may live."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container ended. `problem` is set where the code alone does not say it."""

    code: int
    oom: bool = False
    asked: bool = False
    started: bool = True
    """False when the engine refused to start it."""
    problem: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """What a folder says about its container."""

    record: Record
    following: Following
    ended: Ended | None


def prepare(
    command: Command,
    values: Mapping[str, str],
    folder: Path,
    owner: Owner,
    stop_seconds: int = 10,
    environ: Mapping[str, str] = os.environ,
) -> Launch:
    """Write what is to be run into `folder` and return the follower that runs it.

    `values` hold the plan's variables, ``engine`` and ``image_<name>`` among them. Raises
    `UsageError` for an environment that cannot be passed, `DeckError` when no engine answers.
    """
    from console.planning.containers import filled, run_words
    from console.planning.variables import expand

    engine = engines.engine(values.get("engine", "auto"), environ)
    if command.container is not None:
        _make_folders(command.container, values)
    env = {name: expand(value, values) for name, value in command.env.items()}
    env |= {name: environ[name] for name in command.secrets if name in environ}
    env_file = folder / ENVIRONMENT
    storage.write_private(env_file, env_lines(env).encode())
    caller = engine.caller_words(engine.facts())
    key = secrets.token_hex(8)
    named = "-".join(filter(None, ("tritondeck", owner.deployment, owner.step or owner.service)))
    record = Record(
        engine=engine.name,
        key=key,
        name=f"{named}-{key[:6]}",
        words=(
            *("--name", f"{named}-{key[:6]}", "--stop-timeout", str(stop_seconds)),
            *_labels(owner, key, folder),
            *engine.log_words,
            *filled(run_words(command), engine.name, values, caller, str(env_file)),
        ),
        stop_seconds=stop_seconds,
        boot=processes.boot_id(),
        host=processes.hostname(),
    )
    for name in (FOLLOWER, ENDED, FOLLOWED):
        (folder / name).unlink(missing_ok=True)
    storage.write_json(folder / RECORD, {"version": VERSION, **asdict(record)})
    return follower(folder, record, environ)


def follower(folder: Path, record: Record, environ: Mapping[str, str] = os.environ) -> Launch:
    """The process that runs, or goes on following, what `folder` says."""
    # -P: a folder called `console` where this happens to start must not be taken for ours.
    argv = (sys.executable, "-P", "-m", "console.runtimes.follow", str(folder))
    env = engine_environment(environ)
    if path := environ.get("PYTHONPATH"):
        env["PYTHONPATH"] = path  # the follower is of this very console
    return Launch(argv, env, Path("/"), float(record.stop_seconds), contained=True)


def _make_folders(container: Container, values: Mapping[str, str]) -> None:
    from console.planning.variables import expand

    for mount in container.mounts:
        if mount.create:
            Path(expand(mount.source, values)).mkdir(mode=0o700, parents=True, exist_ok=True)


def _labels(owner: Owner, key: str, folder: Path) -> Sequence[str]:
    labels = {KEY: key, FOLDER: str(folder), "tritondeck.boot": processes.boot_id()}
    labels["tritondeck.host"] = processes.hostname()
    labels |= {f"tritondeck.{name}": value for name, value in asdict(owner).items() if value}
    return [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]


def env_lines(env: Mapping[str, str]) -> str:
    """``NAME=value`` lines of an env-file, which is no shell file: nothing is quoted in it."""
    for name, value in env.items():
        if not _NAME.match(name):
            raise UsageError(f"{clean(name)!r} is no name of an environment variable")
        if "\n" in value or "\r" in value or "\0" in value:
            raise UsageError(
                f"the value of {clean(name)} has a line break in it",
                why="a container gets its environment as lines of a file",
                fix="put the value into a file, and the file's path into the variable",
            )
    return "".join(f"{name}={value}\n" for name, value in env.items())


# ---------------------------------------------------------------------------- looking


def look(folder: Path) -> View | None:
    """What `folder` says about its container; None where it has none. Asks no engine."""
    record = _read(folder / RECORD, Record)
    if record is None:
        return None
    following = _read(folder / FOLLOWER, Following) or Following()
    return View(record, following, _read(folder / ENDED, Ended))


def _read(path: Path, kind: type[T]) -> T | None:
    raw = storage.read_json(path)
    if raw is None or raw.get("version") != VERSION:
        return None
    try:
        values = {f.name: raw[f.name] for f in fields(kind)}  # type: ignore[arg-type]
    except KeyError:
        return None
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def write(path: Path, value: Any) -> None:
    """Write one of the folder's small files."""
    storage.write_private(path, storage.json_bytes({"version": VERSION, **asdict(value)}))


def problem(folder: Path) -> DeckError | None:
    """Why the container did not start, or what ended it; None when its exit code says all."""
    view = look(folder)
    if view is None or view.ended is None or not view.ended.problem:
        return None
    told = view.ended.problem
    return DeckError(told["title"], why=told["why"], fix=told["fix"], raw=told["raw"])


def unfollowed(folder: Path) -> bool:
    """Whether `folder` has a container that nobody has seen the end of: follow it (`follower`)."""
    view = look(folder)
    return view is not None and view.ended is None


def engine_of(record: Record, environ: Mapping[str, str] = os.environ) -> Engine:
    return engines.engine(record.engine, environ)


# ---------------------------------------------------------------------------- acting


def remove(folder: Path, environ: Mapping[str, str] = os.environ) -> bool:
    """End and remove the folder's container, where one is left; whether there was one.

    For a follower that could not do it: it was killed, or did not end in time.
    """
    view = look(folder)
    if view is None:
        return False
    engine = engine_of(view.record, environ)
    found = engine.find(KEY, view.record.key)
    for container in found:
        engine.remove(container)
    (folder / ENVIRONMENT).unlink(missing_ok=True)
    return bool(found)


def shell_argv(folder: Path, argv: Sequence[str] = ()) -> tuple[str, ...]:
    """The command that opens a shell in the folder's container, or runs `argv` there.

    The shell needs a terminal; `argv` has standard input alone.
    """
    view = look(folder)
    if view is None or view.ended is not None or not view.following.id:
        raise UsageError("there is no container to open a shell in", why="it does not run")
    if argv:
        return (view.record.engine, "exec", "-i", view.following.id, *argv)
    # With the redirection inside, a bash that is there keeps its standard error.
    inside = "command -v bash >/dev/null && exec bash; exec sh"
    return (view.record.engine, "exec", "-it", view.following.id, "sh", "-c", inside)


def leftovers(engine: Engine) -> Iterator[Inspected]:
    """Containers of ours on this host that nobody follows or will follow.

    An engine leaves some that were created and never ran, when it refuses what it has created
    already (a port taken, no GPU) and when its command line is killed in between; others are left
    when a state folder was removed by hand.
    """
    for container in engine.find(KEY):
        found = engine.inspect(container)
        if found is None or found.labels.get("tritondeck.host") != processes.hostname():
            continue
        view = look(Path(found.labels.get(FOLDER, "/")))
        if view is None or view.ended is not None or view.record.key != found.labels.get(KEY):
            yield found


def in_words(error: DeckError) -> dict[str, str]:
    return {"title": error.title, "why": error.why, "fix": error.fix, "raw": error.raw[:4000]}


def refusal(code: int, said: str) -> DeckError:
    """What an engine's refusal (exit code 125, 126 or 127) means."""
    error = engine_errors.explain(said, "start the container")
    return error if error.why else DeckError(error.title, why=f"exit code {code}", raw=error.raw)
