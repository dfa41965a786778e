"""Carries out the build steps of a plan with real processes, without runner and keeper."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from backends.registry import get
from console.checkpoints.model import Checkpoint
from console.facts import ToolFacts
from console.planning.deployment import Deployment
from console.planning.plan import CommandStep, LoadStep, Plan, Step, WriteStep
from console.planning.variables import expand
from console.triton import versions
from tests.contract.samples import HOST
from tests.support import written

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits"


def deployment(checkpoint: Checkpoint, name: str, **changes: Any) -> Deployment:
    """A deployment with the options that the route suggests, and `changes` to them."""
    backend = get("onnx")
    verify = changes.pop("verify", ())
    options = backend.suggest({"model": checkpoint}, HOST).model_dump() | changes
    return Deployment(
        name=name,
        backend="onnx",
        checkpoints={"model": str(checkpoint.path)},
        options=options,
        verify=verify,
    )


def plan_of(checkpoint: Checkpoint, made: Deployment) -> Plan:
    return get("onnx").plan(made, {"model": checkpoint}, HOST, ToolFacts())


def build(plan: Plan, values: dict[str, str]) -> None:
    """Write the files and run the commands; a command that fails shows its output. What was built is
    what a server loads next."""
    for step in plan.steps:
        if isinstance(step, CommandStep):
            done = run(step, values)
            assert done.returncode == 0, done.stdout[-3000:]
            for output in step.outputs:
                assert Path(expand(output, values)).stat().st_size > 0, output
        else:
            write(step, values)


def place(plan: Plan, values: dict[str, str]) -> None:
    """`build` without its commands: what they make is put there by the caller."""
    for step in plan.steps:
        write(step, values)


def write(step: Step, values: dict[str, str]) -> None:
    """The files of a step, or the version that it loads made the one that a server loads."""
    if isinstance(step, WriteStep):
        written(step.files, values)
    elif isinstance(step, LoadStep):
        for model in step.models:
            versions.put(Path(values["repository"]), model, int(values["version"]))


def run(step: CommandStep, values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [expand(word, values) for word in step.command.argv],
        # NeMo's word-piece tokenizers would ask the hub: tests stay off the network.
        env={"PATH": os.defpath, "HOME": values["work"], "HF_HUB_OFFLINE": "1"} | step.command.env,
        cwd=values["work"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def report(values: dict[str, str]) -> dict[str, Any]:
    found = json.loads(Path(values["work"], "export", values["version"], "report.json").read_text())
    assert isinstance(found, dict)
    return found
