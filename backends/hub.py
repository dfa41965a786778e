"""The steps that fetch checkpoints named by a hub id, for every route that wants one.

``hub:owner/name@revision`` is fetched from Hugging Face by a worker of ours in the `hub` environment,
``ngc:org/team/model:version`` by NVIDIA's own `ngc` program, which is not run here as a test.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backends.base import Checkpoints
from backends.environments import environment
from backends.sources import WORKERS, worker
from console.checkpoints.hub import words
from console.checkpoints.model import Checkpoint, Format, HubRef
from console.facts import Level, UsageError, Verdict
from console.planning.deployment import Deployment
from console.planning.plan import (
    Command,
    CommandStep,
    EnvironmentSpec,
    EnvironmentStep,
    ExitCode,
    JsonFile,
    Step,
    WriteStep,
    join,
)
from console.planning.variables import literal

FETCHED = "${work}/fetched"
TOKENS = ("HF_TOKEN", "HF_TOKEN_PATH")
"""Passed by name; without them the worker finds what ``hf auth login`` left."""
NGC_KEYS = ("NGC_CLI_API_KEY", "NGC_CLI_ORG", "NGC_CLI_TEAM")


@dataclass(frozen=True, slots=True)
class Fetching:
    """What a plan gets for its checkpoints; empty where none is named by a hub id."""

    environments: tuple[EnvironmentSpec, ...]
    steps: tuple[Step, ...]
    """To be put before every step that reads a checkpoint."""
    paths: Mapping[str, str]
    """Role to the checkpoint's path (template), fetched or local."""


def fetching(
    deployment: Deployment, checkpoints: Checkpoints, lone: Mapping[str, str] | None = None
) -> Fetching:
    """The steps that bring every checkpoint with a hub id here.

    `lone` says for a role that its path has to be the one file of an ending in the repository
    (``.nemo``); other roles get the folder. Raises `UsageError` for an NGC id without a version.
    """
    named = {role: c.hub for role, c in checkpoints.items() if c.hub is not None}
    paths = {role: literal(str(c.path)) for role, c in checkpoints.items()}
    from_hub = any(ref.hub == "hugging-face" for ref in named.values())
    environments = (environment("hub", deployment),) if from_hub else ()
    steps: list[Step] = [
        EnvironmentStep(
            id=f"environment-{spec.name}",
            title=f"environment: {spec.title}",
            why="the library that speaks with the hub, apart from the console's own packages",
            environment=spec.name,
        )
        for spec in environments
    ]
    if from_hub:
        steps.append(
            WriteStep(
                id="fetch-worker",
                title="write the fetch worker",
                why="a program of its own, so that the plan can be read and run without tritondeck",
                files=(worker("fetch_hub"),),
                outputs=(join(WORKERS, "fetch_hub.py"),),
            )
        )
    for role, ref in named.items():
        ending = (lone or {}).get(role, "")
        step, paths[role] = (
            _ngc(role, ref) if ref.hub == "ngc" else _hugging_face(role, ref, ending)
        )
        steps.append(step)
    return Fetching(environments, tuple(steps), paths)


def _hugging_face(role: str, ref: HubRef, lone: str) -> tuple[CommandStep, str]:
    path = join(FETCHED, f"{role}{lone}")
    report = join(FETCHED, f"{role}.json")
    argv = [
        "python",
        join(WORKERS, "fetch_hub.py"),
        f"--repository={literal(ref.name)}",
        *([f"--revision={literal(ref.revision)}"] if ref.revision else []),
        f"--link={path}",
        f"--report={report}",
        *([f"--lone={lone}"] if lone else []),
    ]
    step = CommandStep(
        id=f"fetch-{role.replace('_', '-').lower()}",
        title=f"fetch {ref.name}",
        why="the model's files come from Hugging Face into its cache on this machine, each with "
        "its checksum; an interrupted fetch goes on where it stopped",
        command=Command(argv=tuple(argv), runtime="environment:hub", secrets=TOKENS),
        outputs=(path, report),
        success=(ExitCode(), JsonFile(path=report, expect={"verified": True})),
    )
    return step, path


def _ngc(role: str, ref: HubRef) -> tuple[CommandStep, str]:
    if not ref.revision:
        raise UsageError(
            f"{words(ref)} names no version", fix="the form is ngc:org/team/model:version"
        )
    folder = join(FETCHED, role)
    # The CLI makes a folder of its own in the destination.
    path = join(folder, literal(f"{ref.name.rpartition('/')[2]}_v{ref.revision}"))
    target = literal(f"{ref.name}:{ref.revision}")
    step = CommandStep(
        id=f"fetch-{role.replace('_', '-').lower()}",
        title=f"fetch {ref.name} from NGC",
        why="NVIDIA's own program downloads the model and checks it",
        command=Command(
            argv=("ngc", "registry", "model", "download-version", f"--dest={folder}", target),
            secrets=NGC_KEYS,
        ),
        outputs=(path,),
        success=(ExitCode(),),
    )
    return step, path


def checks(checkpoints: Checkpoints) -> tuple[Verdict, ...]:
    """Whether what is named by a hub id can be fetched from here."""
    return tuple(_check(role, c, c.hub) for role, c in checkpoints.items() if c.hub is not None)


def _check(role: str, checkpoint: Checkpoint, ref: HubRef) -> Verdict:
    option = f"checkpoints.{role}"
    if ref.hub == "ngc":
        return _ngc_check(ref, option)
    if checkpoint.format is not Format.HUB:
        return Verdict("hub", Level.PASS, f"{words(ref)} is in the cache already", option=option)
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return Verdict(
            "hub",
            Level.FAIL,
            f"{words(ref)} is not here, and HF_HUB_OFFLINE forbids to fetch it",
            fix="unset HF_HUB_OFFLINE, or copy the model into the cache",
            option=option,
        )
    who = _token_from()
    return Verdict(
        "hub",
        Level.PASS,
        f"{words(ref)} will be fetched"
        + (f" with the token of {who}" if who else " without a token"),
        fix="" if who else "a gated or private model needs: hf auth login, or HF_TOKEN",
        option=option,
    )


def _token_from() -> str:
    """Where the token will come from; never the token."""
    if os.environ.get("HF_TOKEN"):
        return "HF_TOKEN"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{base}/huggingface"
    file = Path(os.environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser()
    return "hf auth login" if file.is_file() else ""


def _ngc_check(ref: HubRef, option: str) -> Verdict:
    if not ref.revision:
        return Verdict(
            "ngc",
            Level.FAIL,
            f"{words(ref)} names no version",
            fix="the form is ngc:org/team/model:version",
            option=option,
        )
    if shutil.which("ngc") is None:
        return Verdict(
            "ngc",
            Level.FAIL,
            f"{words(ref)} needs NVIDIA's ngc program, which is not on the PATH",
            source="NGC gives models through its own command-line program only",
            fix="install the NGC CLI and run: ngc config set",
            option=option,
        )
    return Verdict(
        "ngc",
        Level.UNKNOWN,
        f"{words(ref)} will be fetched by the ngc program; this step has not been tried with NGC",
        fix="when it fails, download the model by hand and name its folder",
        option=option,
    )
