"""One version of a deployment's models takes over from another while the server answers.

A new version is loaded beside the live one as ``M.next``, a folder with a link to the version
folder, and no client sees it before it is verified: a policy that named both would give requests
without a version to the newer one at once. Observed with Triton 2.51.0: a load request whose policy
drops the old version and names the new one loads the new one first, then moves requests over, then
unloads the old one; one that fails leaves the old one serving; a version that stays in the policy is
not loaded again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from console.facts import DeckError, Endpoint, Refused
from console.text import clean
from console.triton import control, health, versions
from console.triton.versions import Version

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

_MOVING = ("LOADING", "UNLOADING")
_PATIENCE = 30.0
"""Seconds that loads which nobody waits for any more get to end, all of them together."""


def stage(
    endpoint: Endpoint, repository: Path, models: tuple[str, ...], version: int
) -> dict[str, str]:
    """Make the folders ``M.next`` of every model; the name under which each will be loaded.

    What refers to another of the models (a parameter with its name, a step of an ensemble) refers
    to that one's new version there.
    """
    hanging = {entry.name for entry in health.index(endpoint)[0] if entry.state in _MOVING}
    names = {model: _free(repository, model, hanging) for model in models}
    for model, name in names.items():
        config = versions.config_of(repository, model, version)
        _rename(config, names)
        config.version_policy.specific.versions[:] = [version]
        folder = repository / name
        _remove_stage(folder)
        folder.mkdir(mode=0o700)
        (folder / str(version)).symlink_to(Path("..") / model / str(version))
        versions.write_config(folder, config)
    return names


def _free(repository: Path, model: str, hanging: set[str]) -> str:
    """A name that no load hangs under: such a load is never answered, nor is one after it."""
    number = 1
    while True:
        name = f"{model}{versions.NEXT}" + (str(number) if number > 1 else "")
        if clean(name) not in hanging:
            return name
        number += 1


def _rename(config: ModelConfig, names: Mapping[str, str]) -> None:
    config.name = names.get(config.name, config.name)
    for parameter in versions.references(config):
        parameter.string_value = names.get(parameter.string_value, parameter.string_value)
    for step in config.ensemble_scheduling.step:
        step.model_name = names.get(step.model_name, step.model_name)


def unstage(
    endpoint: Endpoint, repository: Path, names: Mapping[str, str], say: Callable[[str], None]
) -> None:
    """Unload the ``M.next`` models and remove their folders; callers before what they call.

    One that is still loading is waited for, and `say` told so: with its files gone under it, a load
    may hang for good, and every later one of that name with it. The folder of one that hangs stays.
    """
    end = time.monotonic() + _PATIENCE
    for name in reversed(list(names.values())):
        state = _state(endpoint, name)
        if state in _MOVING:
            say(f"waiting until the server is done with {name}, at most {_PATIENCE:.0f} s in all")
        while state in _MOVING and time.monotonic() < end:
            time.sleep(0.1)
            state = _state(endpoint, name)
        if state in _MOVING:
            continue
        if state == "READY":
            control.unload(endpoint, name)
        _remove_stage(repository / name)


def _state(endpoint: Endpoint, name: str) -> str:
    """The state of a model in the server's index; empty for one that was never asked for."""
    listed = {entry.name: entry.state for entry in health.index(endpoint)[0]}
    return listed.get(clean(name), "")


def _remove_stage(folder: Path) -> None:
    """Remove what `stage` made; refuses a model that somebody else put there."""
    if not folder.is_dir():
        return
    if not versions.staged(folder):
        raise Refused(
            f"{clean(folder.name)} is a model of its own",
            why="that name is taken while a new version is loaded beside the old one",
            fix="give that model another name",
        )
    shutil.rmtree(folder)


def switch(
    endpoint: Endpoint, repository: Path, old: Version, new: Version, timeout: float = 120.0
) -> None:
    """Let `new` answer in place of `old`, with no moment without an answer.

    Models that others call serve both versions until their callers have moved. Raises `DeckError`
    with the server's reason; `old` answers as before then. `timeout` is seconds for each load.
    """
    called, last = new.models[:-1], new.models[-1]
    try:
        for model in called:
            versions.put(repository, model, new.number, also=old.number)
            control.load(endpoint, model, timeout)
        versions.put(repository, last, new.number)
        control.load(endpoint, last, timeout)
    except DeckError:
        _back(endpoint, repository, old, timeout)
        raise
    for model in called:
        versions.put(repository, model, new.number)
        control.load(endpoint, model, timeout)
    for model in reversed(old.models):
        if model not in new.models:
            control.unload(endpoint, model)


def _back(endpoint: Endpoint, repository: Path, old: Version, timeout: float) -> None:
    """Undo a switch that failed: first on disk, so that a server that starts anew has it too."""
    for model in old.models:
        versions.put(repository, model, old.number)
    for model in old.models:
        control.load(endpoint, model, timeout)
