"""The work of each kind of step, and whether it can be skipped."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from console import storage
from console.facts import DeckError, Endpoint
from console.keeper import Exit
from console.planning.plan import (
    CommandStep,
    EnvironmentStep,
    FileSpec,
    LoadStep,
    ServiceStep,
    UrlReady,
    VerifyStep,
    WriteStep,
)
from console.runs import kept, keys, probes, reasons
from console.runs.context import Cancelled, Context
from console.runs.failure import cause, last_lines
from console.runs.keys import Key
from console.services.model import ServiceState, ServiceView
from console.services.store import ServiceStore
from console.text import clean, human_bytes, human_seconds

_SERVER_START = 60.0
_DYING = 2.0
_FULL = 1 << 16
"""Bytes of free room below which a disk counts as full when a command has failed."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to run a step, and the reason either way. `key` is None where nothing is kept."""

    run: bool
    reason: str
    key: Key | None = None


def decide(context: Context, asked_for: bool) -> Decision:
    """What to do with a step. `asked_for`: the operator wants it run even when unchanged."""
    step = context.step
    if isinstance(step, EnvironmentStep):
        why = context.environments.why_not(context.environment_spec(step.environment))
        return Decision(bool(why), why or "the environment is ready")
    if isinstance(step, WriteStep):
        changed = [f for f in step.files if _differs(context, f)]
        names = ", ".join(Path(context.expand(f.path)).name for f in changed[:3])
        reason = f"to write: {names}" if changed else "its files are unchanged"
        return Decision(bool(changed), reason)
    if not isinstance(step, CommandStep):
        return Decision(True, "")
    key = keys.key_of(step, context.run.plan, context.run.values)
    if asked_for:
        return Decision(True, "asked for", key)
    why = keys.why_run(step, context.run.values, key)
    return Decision(bool(why), why or "unchanged: same options, tools and inputs", key)


def perform(context: Context, key: Key | None, adopted: Path | None) -> None:
    """Do the step's work and judge it; raises `DeckError` with what went wrong.

    `adopted` is the keeper's folder of a command that an earlier runner started.
    """
    step = context.step
    if isinstance(step, EnvironmentStep):
        _environment(context, step, adopted)
    elif isinstance(step, WriteStep):
        _write(context, step)
    elif isinstance(step, CommandStep):
        _command(context, step, key, adopted)
    elif isinstance(step, ServiceStep):
        _service(context, step)
    elif isinstance(step, LoadStep):
        _load(context, step)
    else:
        _verify(context, step)


# ---------------------------------------------------------------------------- files and commands


def _differs(context: Context, file: FileSpec) -> bool:
    path = context.path(file.path)
    try:
        return path.read_bytes() != _text(context, file).encode()
    except OSError:
        return True


def _text(context: Context, file: FileSpec) -> str:
    return context.expand(file.text) if file.template else file.text


def _write(context: Context, step: WriteStep) -> None:
    """Write what differs; a file that is right keeps its time of change, so later steps can skip."""
    for file in step.files:
        if not _differs(context, file):
            continue
        path = context.path(file.path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.name == "__pycache__" and path.is_dir():
            shutil.rmtree(path)  # bytecode of a server that ran before this file was planned
        data = _text(context, file).encode()
        storage.write_private(path, data, file.mode)
        context.say(f"wrote {path} ({human_bytes(len(data))})")
    _judge(context, None, None)


def _environment(context: Context, step: EnvironmentStep, adopted: Path | None) -> None:
    environments = context.environments
    spec = context.environment_spec(step.environment)
    folder = adopted
    if folder is None:
        folder = kept.new_folder(context, None)
        kept.start(context, environments.creation(spec, folder / "environment.json"), folder)
    ended = kept.follow(context, folder)
    if why := environments.why_not(spec):
        title = "the environment could not be made" if ended.code else f"not usable: {why}"
        raise _command_failed(context, ended, DeckError(title))
    _judge(context, ended, None)


def _command(context: Context, step: CommandStep, key: Key | None, adopted: Path | None) -> None:
    from console.runtimes.host import launch

    folder = adopted
    if folder is None:
        keys.forget(step, context.run.values)
        try:
            command = launch(step.command, context.run.values, context.run.settings)
        except KeyError as error:
            raise context.unknown(str(error.args[0])) from None
        folder = kept.new_folder(context, key)
        kept.start(context, command, folder)
    ended = kept.follow(context, folder)
    if ended.signal is not None or (not step.success and ended.code != 0):
        raise _command_failed(context, ended)
    _judge(context, ended, None)
    if key is not None:
        keys.remember(step, context.run.values, key, context.run.id)


def _command_failed(
    context: Context, ended: Exit | None, problem: DeckError | None = None
) -> DeckError:
    """What went wrong, in the command's own last words where it has any."""
    lines = last_lines(context.log, context.secret_values())
    ended_words = ended.words if ended and (ended.code != 0 or problem is None) else ""
    parts = [problem.title, problem.why] if problem else []
    parts += [ended_words, cause(lines) if ended_words else ""]
    if ended and ended.signal == 9 and not ended.asked:
        parts.append("the kernel ends processes like this when memory runs out")
    title, *rest = dict.fromkeys(part for part in parts if part)
    full = _full_disk(context)
    if ended and ended.code and full is None and (known := reasons.of_graph(lines)):
        return known
    return DeckError(
        title,
        why=": ".join([*rest, *([f"{full.title}, {full.why}"] if full else [])]),
        fix=(full or problem or DeckError("")).fix or "read the step's log, then retry from here",
        raw="\n".join(lines),
    )


def _full_disk(context: Context) -> DeckError | None:
    """That a disk is full, if one is: a command seldom says so, and its log may not hold it."""
    for folder in (Path(context.run.values["work"]), context.run.folder.path):
        if shutil.disk_usage(folder).free < _FULL:
            return storage.storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), folder)
    return None


def _judge(context: Context, ended: Exit | None, endpoint: Endpoint | None) -> None:
    """Judge every success probe, note each in the journal, keep the figures for the step line."""
    found: dict[str, str] = {}
    for index, probe in enumerate(context.step.success):
        try:
            words = probes.judge(context, probe, ended, endpoint)
        except DeckError as problem:
            context.note_probe(probe.kind, False, str(problem))
            raise _command_failed(context, ended, problem) if ended else problem from problem
        context.note_probe(probe.kind, True, words)
        found[str(index)] = words
    context.message = probes.figures(found)


# ---------------------------------------------------------------------------- services


def _service(context: Context, step: ServiceStep) -> None:
    services = ServiceStore(context.run.settings)
    running = {view.id for view in services.views() if view.state is ServiceState.RUNNING}
    service_id = services.start(
        step.service, context.run.values, context.run.deployment, context.progress
    )
    context.note_service(step.service.name, service_id, services.values(service_id))
    adopted = service_id in running
    context.say(f"{'adopted' if adopted else 'started'} service {service_id}")
    try:
        _until_ready(context, services, service_id)
        _all_ports(services.view(service_id).log)
        services.mark_ready(service_id)
    except (Cancelled, DeckError):
        if not adopted:
            services.stop(service_id, context.progress)
        raise
    context.message = f"{service_id} at {services.view(service_id).endpoint.url}"
    if adopted:
        context.message += " (was running, unchanged)"


def _all_ports(log: Path) -> None:
    """Raise for a port that was lost since it was found free: Triton serves on without metrics."""
    without = DeckError("the server runs without one of its ports")
    if (told := reasons.of_server(without, log, 0, "port-taken")) is not without:
        raise told


def _until_ready(context: Context, services: ServiceStore, service_id: str) -> None:
    view = services.view(service_id)

    def alive() -> None:
        _still_there(services, service_id)

    urls = [probe for probe in context.step.success if isinstance(probe, UrlReady)]
    for probe in urls:
        probes.url_ready(context, probe, view.endpoint, alive)
    if not urls:
        from console.triton.health import wait_live

        context.patiently(lambda: wait_live(view.endpoint, _SERVER_START), each=alive)
    _judge(context, None, view.endpoint)


def _still_there(services: ServiceStore, service_id: str, since: int = 0) -> ServiceView:
    """The service, or why it ended, as its log says after byte `since`."""
    view = services.view(service_id)
    if view.state not in (ServiceState.STARTING, ServiceState.RUNNING):
        killed = view.exit_status == -signal.SIGKILL
        look = "look at the kernel's log (dmesg) for the OOM killer" if killed else "read its log"
        ended = DeckError(
            f"the server has ended: {view.reason}",
            fix=f"{look}, then retry",
            raw="\n".join(last_lines(view.log)),
        )
        raise reasons.of_server(ended, view.log, since)
    return view


def _death_says_more(error: DeckError, services: ServiceStore, service_id: str, since: int) -> None:
    """Raise why the server ended, if it did: that says more than a broken connection."""
    from console.triton.plain_http import NoAnswer

    _still_there(services, service_id, since)
    until = time.monotonic() + (_DYING if isinstance(error, NoAnswer) else 0)
    while time.monotonic() < until:  # its supervisor needs a moment to write it down
        time.sleep(0.05)
        _still_there(services, service_id, since)


def _service_of(context: Context, name: str) -> tuple[ServiceStore, ServiceView]:
    services = ServiceStore(context.run.settings)
    service_id = context.run.services.get(name)
    if service_id is None:
        raise DeckError(f"the plan starts no service {clean(name)} before this step")
    return services, _still_there(services, service_id)


def _load(context: Context, step: LoadStep) -> None:
    from console.triton.control import LoadHangs, load

    services, view = _service_of(context, step.service)
    since = reasons.size(view.log)
    for index, model in enumerate(step.models):
        context.progress(f"loading {model}", index / len(step.models))
        context.say(f"loading {model} (time limit {human_seconds(step.model_timeout)})")

        def call(model: str = model) -> None:
            load(view.endpoint, model, step.model_timeout)

        try:
            context.patiently(call, each=lambda: _still_there(services, view.id, since))
        except DeckError as error:
            context.say(str(error))
            if isinstance(error, LoadHangs):
                services.mark_broken(view.id)
            _death_says_more(error, services, view.id, since)
            raise reasons.of_server(error, view.log, since) from error
        context.say(f"loaded {model}")
    _judge(context, None, view.endpoint)


def _verify(context: Context, step: VerifyStep) -> None:
    services, view = _service_of(context, step.service)
    since = reasons.size(view.log)
    try:
        _judge(context, None, view.endpoint)
    except DeckError as error:
        _death_says_more(error, services, view.id, since)
        if known := reasons.of_dead_model(error):
            services.mark_broken(view.id)
            raise known from error
        raise
    context.note_answer(context.message)
