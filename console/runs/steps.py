"""The work of each kind of step, and whether it can be skipped."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from console import storage
from console.facts import DeckError
from console.planning.plan import (
    CommandStep,
    EnvironmentStep,
    FileSpec,
    ImageStep,
    JoinStep,
    LoadStep,
    ServiceStep,
    SwitchStep,
    VerifyStep,
    WriteStep,
)
from console.runs import kept, keys, serving, versioned
from console.runs.context import Context
from console.runs.judging import command_failed, judge
from console.runs.keys import Key
from console.runtimes import containers, images
from console.runtimes.containers import Owner
from console.text import human_bytes


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
    if isinstance(step, ImageStep):
        why = images.why_not(context.image_spec(step.image), context.engine)
        return Decision(bool(why), why or "the image is here")
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
    elif isinstance(step, ImageStep):
        _image(context, step, adopted)
    elif isinstance(step, WriteStep):
        _write(context, step)
    elif isinstance(step, CommandStep):
        _command(context, step, key, adopted)
    elif isinstance(step, ServiceStep):
        serving.start(context, step)
    elif isinstance(step, LoadStep):
        serving.load(context, step)
    elif isinstance(step, JoinStep):
        versioned.join(context, step)
    elif isinstance(step, SwitchStep):
        serving.switch(context, step)
    elif isinstance(step, VerifyStep):
        serving.verify(context, step)


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
    judge(context, None, None)


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
        raise command_failed(context, ended, DeckError(title))
    judge(context, ended, None)


def _image(context: Context, step: ImageStep, adopted: Path | None) -> None:
    spec = context.image_spec(step.image)
    folder = adopted
    if folder is None:
        folder = kept.new_folder(context, None)
        job = folder / "image.json"
        made = images.creation(spec, context.engine.name, context.run.settings, job)
        kept.start(context, made, folder)
    ended = kept.follow(context, folder)
    if ended.code != 0:
        raise command_failed(context, ended)
    judge(context, ended, None)


def _command(context: Context, step: CommandStep, key: Key | None, adopted: Path | None) -> None:
    folder = adopted
    if folder is None:
        keys.forget(step, context.run.values)
        folder = _start(context, step, key)
    ended = kept.follow(context, folder)
    if known := containers.problem(folder):
        raise known
    if ended.signal is not None or (not step.success and ended.code != 0):
        raise command_failed(context, ended)
    judge(context, ended, None)
    if key is not None:
        keys.remember(step, context.run.values, key, context.run.id)


def _start(context: Context, step: CommandStep, key: Key | None) -> Path:
    """Start the command on the host, in an environment or in a container; its keeper's folder."""
    from console.runtimes.host import launch

    run = context.run
    try:
        if step.command.image:
            folder = kept.new_folder(context, key)
            owner = Owner(run.deployment, run=run.id, step=step.id)
            command = containers.prepare(step.command, run.values, folder, owner)
        else:
            command = launch(step.command, run.values, run.settings)
            folder = kept.new_folder(context, key)
    except KeyError as error:
        raise context.unknown(str(error.args[0])) from None
    kept.start(context, command, folder)
    return folder
