"""`logs`: the files of a run or of a service, whole or followed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from console.desk import follow
from console.facts import UsageError
from console.runs.model import StepState
from console.services.model import ServiceState
from console.text import clean
from console.verbs import common, output

_OVER = frozenset({StepState.DONE, StepState.SKIPPED, StepState.FAILED, StepState.CANCELLED})
_GONE = frozenset(
    {ServiceState.STOPPED, ServiceState.FAILED, ServiceState.LOST, ServiceState.FOREIGN}
)


def logs(args: argparse.Namespace) -> int:
    if sum(bool(word) for word in (args.name, args.run, args.service)) != 1:
        raise UsageError("say whose logs: a deployment's NAME, --run ID or --service ID")
    if args.service:
        return _service(args)
    return _run(args)


def _service(args: argparse.Namespace) -> int:
    on = common.desk(args)
    view = on.service(args.service)
    ended = (lambda: on.service(view.id).state in _GONE) if args.follow else None
    _print(args, view.log, view.id, ended)
    return 0


def _run(args: argparse.Namespace) -> int:
    on = common.desk(args)
    run_id = common.run_of(on, args.run or args.name).id
    begun = on.run(run_id)
    steps = [step.id for step in begun.steps]
    if args.step:
        if args.step not in steps:
            raise UsageError(
                f"the run has no step {clean(args.step)!r}", why=f"its steps: {', '.join(steps)}"
            )
        steps = [args.step]
    for step in steps:

        def ended(step: str = step) -> bool:
            view = on.run(run_id)
            states = {s.id: s.state for s in view.steps}
            return states[step] in _OVER or not view.active

        _print(args, on.log_file(run_id, step), step, ended if args.follow else None)
    if args.follow and begun.active:
        output.notice(on.settings.notify, on.run(run_id))
    return 0


def _print(
    args: argparse.Namespace, file: Path, name: str, ended: Callable[[], bool] | None
) -> None:
    first = True
    for line in follow.lines(file, ended, last=args.lines):
        if args.json:
            output.emit_line({"log": name, "line": line})
            continue
        if first:
            print(output.coloured(f"== {clean(name)}", "bold"))
            first = False
        print(line, flush=args.follow)
