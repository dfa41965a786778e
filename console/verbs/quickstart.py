"""`quickstart`: the whole job on the spoken-digits example, from checkpoint to the right words."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import console
from console.facts import DeckError, FieldKind, UsageError
from console.runs.model import RunState, RunView
from console.text import clean, human_seconds
from console.verbs import common, output, progress

if TYPE_CHECKING:
    from console.desk.desk import Desk
    from console.planning.deployment import Deployment, VerifyCase

NAME = "digits"


def quickstart(args: argparse.Namespace) -> int:
    """Exit 0 only if the served model said the right words for every sound of the example."""
    on = common.desk(args)
    chosen = on.open(str(_example()))
    if sys.stdin.isatty() and sys.stdout.isatty() and not args.json:
        view = _on_screen(on, chosen)
    else:
        view = _in_lines(on, chosen)
    if view is None:
        output.note("the quickstart was left; come back with: tritondeck quickstart")
        return progress.EXIT_UNFINISHED
    heard: list[tuple[str, str]] = []
    try:
        if view.state is RunState.SUCCEEDED and _serves(on, chosen.name):
            heard = [(_file(case), _ask(on, chosen, case)) for case in chosen.verify]
    finally:
        if not args.keep and not view.active:
            _stop(on, chosen.name)
    return _conclude(args, chosen, view, heard)


def _example() -> Path:
    """The example of the source checkout; the wheel does not carry it."""
    file = Path(console.__path__[0]).parent / "examples" / NAME / "deployment.toml"
    if not file.is_file():
        raise UsageError(
            "the quickstart needs a source checkout of tritondeck",
            why=f"there is no {clean(str(file))}",
            fix="deploy a checkpoint of your own: tritondeck deploy CHECKPOINT",
        )
    return file


def _begin(on: Desk, chosen: Deployment) -> str:
    """Start a run, or come back to the one that was left; its id."""
    for run in on.runs(chosen.name):
        if run.state is RunState.ORPHANED:
            return on.retry(run.id)
        if run.active:
            return run.id
    return on.deploy(chosen)


def _on_screen(on: Desk, chosen: Deployment) -> RunView | None:
    """Start it and watch it in the console; None when the operator left before it ended."""
    from console.app import TritonDeckApp
    from screens.flow import Flow, Stage

    run_id = _begin(on, chosen)
    flow = Flow(deployment=chosen, name=chosen.name, run=run_id)
    TritonDeckApp(on, flow=flow, stage=Stage.BUILD).run()
    view = on.run(run_id)
    return None if view.active else view


def _in_lines(on: Desk, chosen: Deployment) -> RunView | None:
    run_id = _begin(on, chosen)
    try:
        return progress.told(on, run_id)
    except KeyboardInterrupt:
        output.note(f"left; run {run_id} goes on: tritondeck logs -f {chosen.name}")
        return None


def _ask(on: Desk, chosen: Deployment, case: VerifyCase) -> str:
    """The words that the server answers now, through the same door as `query`."""
    endpoint = on.service(chosen.name).endpoint
    metadata = on.metadata(endpoint, chosen.served_name)
    form = on.adapter(endpoint, metadata)
    sound = next((field for field in form.fields if field.kind is FieldKind.SOUND), None)
    if sound is None:
        raise DeckError(f"the served model {chosen.served_name} takes no sound")
    answer = on.infer(endpoint, form.request({sound.name: case.input}))
    return on.words(form, answer).strip()


def _file(case: VerifyCase) -> str:
    return Path(case.input).name


def _serves(on: Desk, name: str) -> bool:
    """Whether its server lives; on the screen the operator may have stopped it."""
    return any(view.deployment == name and view.pid for view in on.services())


def _stop(on: Desk, name: str) -> None:
    if _serves(on, name):
        on.stop(name, progress.noting())


def _conclude(
    args: argparse.Namespace, chosen: Deployment, view: RunView, heard: list[tuple[str, str]]
) -> int:
    expected = [case.expect for case in chosen.verify]
    # The run succeeds only with the right words; what the server says now must be them too. The
    # adapter may show word times under the words, which are the first line.
    right = view.state is RunState.SUCCEEDED and all(
        words.split("\n")[0] == want for (_, words), want in zip(heard, expected, strict=False)
    )
    code = progress.EXIT_CODES.get(view.state, progress.EXIT_UNFINISHED)
    if code == 0 and not right:
        code = 1
    if args.json:
        answers = [
            {"file": file, "expected": want, "answer": words}
            for (file, words), want in zip(heard, expected, strict=False)
        ]
        output.emit("run", view, answers=answers, right=right, kept=args.keep)
        return code
    progress.summary(view)
    for (file, words), want in zip(heard, expected, strict=False):
        verdict = "" if words.split("\n")[0] == want else f"   WRONG, expected: {want}"
        output.say(f"{file}: {words}{verdict}")
    output.say(f"{'right' if right else 'NOT right'} after {human_seconds(view.elapsed)}")
    if args.keep and right:
        output.say(f"the server is still running: tritondeck query {chosen.name} --audio FILE")
        output.say(f"stop it: tritondeck stop {chosen.name}")
    return code
