"""The steps that fetch checkpoints named by a hub id, in front of every route's own.

``hub:owner/name@revision`` is fetched from Hugging Face by a worker of ours in the `hub` environment,
``nemo:name`` by NeMo itself in the `nemo` environment, ``ngc:org/team/model:version`` by NVIDIA's own
`ngc` program, which is not run here as a test.

A route plans from facts, and before the fetch there are none. So there are two plans: the first one
fetches and nothing else; the second one, made when the files are here, fetches the same again
(which finds everything in its place) and goes on with the route's steps.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable

from backends.base import Checkpoints
from backends.environments import environment
from backends.sources import WORKERS, worker
from backends.steps import environment_step, write_step
from console.checkpoints.hub import ngc_folder, words
from console.checkpoints.model import Checkpoint, Format, HubRef
from console.facts import Level, UsageError, Verdict
from console.planning.deployment import Deployment
from console.planning.plan import (
    Command,
    CommandStep,
    EnvironmentSpec,
    ExitCode,
    JsonFile,
    Plan,
    Step,
    join,
)
from console.planning.variables import literal
from console.storage import is_file, named

FETCHED = "${work}/fetched"
TOKENS = ("HF_TOKEN", "HF_TOKEN_PATH")
"""Passed by name; without them the worker finds what ``hf auth login`` left."""
NGC_KEYS = ("NGC_CLI_API_KEY", "NGC_CLI_ORG", "NGC_CLI_TEAM")


WORKERS_OF = {
    "hugging-face": ("hub", ("fetch_hub",)),
    "nemo": ("nemo", ("fetch_nemo", "nemo_archive")),
}
"""Hub to the environment of its worker, and the worker with what lies beside it."""


def unfetched(checkpoints: Checkpoints) -> bool:
    """Whether something must be fetched before a route can plan."""
    return any(c.format is Format.HUB for c in checkpoints.values())


def environments(deployment: Deployment, checkpoints: Checkpoints) -> tuple[EnvironmentSpec, ...]:
    """Environments that fetch what the deployment names by hub ids."""
    hubs = {c.hub.hub for c in checkpoints.values() if c.hub is not None}
    return tuple(
        environment(name, deployment) for hub, (name, _) in WORKERS_OF.items() if hub in hubs
    )


def fetching(deployment: Deployment, checkpoints: Checkpoints) -> Plan:
    """The plan that brings every checkpoint with a hub id here: the first of two.

    It has no steps where nothing is named so. Raises `UsageError` for an NGC id without a version.
    """
    named = {role: _pinned(c, c.hub) for role, c in checkpoints.items() if c.hub is not None}
    specs = environments(deployment, checkpoints)
    steps: list[Step] = [
        environment_step(
            spec, "the library that speaks with the hub, apart from the console's own packages"
        )
        for spec in specs
    ]
    hubs = {ref.hub for ref in named.values()}
    scripts = [name for hub, (_, names) in WORKERS_OF.items() if hub in hubs for name in names]
    if scripts:
        why = "a program of its own, so that the plan can be read and run without tritondeck"
        steps.append(
            write_step("fetch-worker", "write the fetch worker", why, map(worker, scripts))
        )
    steps += [_FETCH[ref.hub](role, ref) for role, ref in named.items()]
    return Plan(
        deployment=deployment.name,
        backend=deployment.backend,
        environments=specs,
        steps=tuple(steps),
        notes=(
            f"the first of two plans: what is built from {_listed(named.values())} is planned when "
            f"it is here; tritondeck deploy {deployment.name} goes on then",
        ),
    )


def before(plan: Plan, fetch: Plan) -> Plan:
    """A route's plan with the steps of `fetch` in front of its own: the second of two."""
    there = {step.id for step in fetch.steps}
    specs = {spec.name: spec for spec in (*fetch.environments, *plan.environments)}
    rest = (step for step in plan.steps if step.id not in there)
    return plan.model_copy(
        update={"environments": tuple(specs.values()), "steps": (*fetch.steps, *rest)}
    )


def _listed(refs: Iterable[HubRef]) -> str:
    return ", ".join(map(words, refs))


def _pinned(checkpoint: Checkpoint, ref: HubRef) -> HubRef:
    """The commit that the facts were read from, where Hugging Face's cache tells it: what a branch
    stands for tomorrow is not what was planned from."""
    parts = checkpoint.path.parts
    if ref.hub == "hugging-face" and checkpoint.format is not Format.HUB and "snapshots" in parts:
        return HubRef(ref.hub, ref.name, parts[parts.index("snapshots") + 1])
    return ref


def _hugging_face(role: str, ref: HubRef) -> CommandStep:
    arguments = [f"--repository={literal(ref.name)}"]
    arguments += [f"--revision={literal(ref.revision)}"] if ref.revision else []
    return _by_worker(
        role,
        ref,
        arguments,
        "the model's files come from Hugging Face into its cache on this machine, each with "
        "its checksum; an interrupted fetch goes on where it stopped",
        TOKENS,
    )


def _nemo(role: str, ref: HubRef) -> CommandStep:
    return _by_worker(
        role,
        ref,
        [f"--name={literal(ref.name)}"],
        "NeMo looks the name up in its lists and downloads the .nemo file into its own cache",
    )


def _by_worker(
    role: str, ref: HubRef, arguments: list[str], why: str, secrets: tuple[str, ...] = ()
) -> CommandStep:
    """A step of one of our workers, which leaves a link to the model and a report."""
    name, (script, *_) = WORKERS_OF[ref.hub]
    path, report = join(FETCHED, role), join(FETCHED, f"{role}.json")
    argv = ("python", join(WORKERS, f"{script}.py"), *arguments)
    return CommandStep(
        id=f"fetch-{role.replace('_', '-').lower()}",
        title=f"fetch {ref.name}",
        why=why,
        command=Command(
            argv=(*argv, f"--link={path}", f"--report={report}"),
            runtime=f"environment:{name}",
            secrets=secrets,
        ),
        outputs=(path, report),
        success=(ExitCode(), JsonFile(path=report, expect={"verified": True})),
    )


def _ngc(role: str, ref: HubRef) -> CommandStep:
    if not ref.revision:
        raise UsageError(
            f"{words(ref)} names no version", fix="the form is ngc:org/team/model:version"
        )
    folder = join(FETCHED, role)
    target = literal(f"{ref.name}:{ref.revision}")
    # The CLI makes a folder of its own in the destination.
    path = join(folder, literal(ngc_folder(ref)))
    return CommandStep(
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


_FETCH: dict[str, Callable[[str, HubRef], CommandStep]] = {
    "hugging-face": _hugging_face,
    "nemo": _nemo,
    "ngc": _ngc,
}


def checks(checkpoints: Checkpoints) -> tuple[Verdict, ...]:
    """Whether what is named by a hub id can be fetched from here."""
    return tuple(_check(role, c, c.hub) for role, c in checkpoints.items() if c.hub is not None)


def _check(role: str, checkpoint: Checkpoint, ref: HubRef) -> Verdict:
    option = f"checkpoints.{role}"
    if checkpoint.format is not Format.HUB:
        return Verdict("hub", Level.PASS, f"{words(ref)} is on this machine already", option=option)
    if ref.hub == "ngc":
        return _ngc_check(ref, option)
    if ref.hub == "nemo":
        return Verdict(
            "hub",
            Level.UNKNOWN,
            f"{words(ref)} will be fetched by NeMo, if its lists have that name",
            source="NeMo's lists of pretrained models, which only NeMo can be asked for",
            fix="on a machine without a network, give the .nemo file itself",
            option=option,
        )
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
    file = named(os.environ.get("HF_TOKEN_PATH") or f"{home}/token")
    return "hf auth login" if is_file(file) else ""


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
