"""`plan`, `check` and `deploy`."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from console.facts import DeckError
from console.text import clean, human_bytes
from console.verbs import common, output, progress

if TYPE_CHECKING:
    from console.desk.views import CheckReport
    from console.planning.parallelism import ParallelismView
    from console.planning.plan import Step


def plan(args: argparse.Namespace) -> int:
    on = common.desk(args)
    chosen = common.deployment(args, on)
    if args.form:
        text = on.render(chosen, args.form)
        if args.json:
            output.emit("script", text)
        else:
            print(text, end="")
        return 0
    made = on.plan(chosen)
    if args.json:
        output.emit("plan", made, parallelism=on.parallelism(chosen))
        return 0
    for number, step in enumerate(made.steps, 1):
        output.say(f"{number}. {step.id}: {step.title}")
        if step.why:
            output.say(f"   {step.why}")
        for line in _does(step):
            output.say(f"   {line}")
    for note in made.notes:
        output.say(f"note: {note}")
    show_parallelism(on.parallelism(chosen))
    return 0


def _does(step: Step) -> list[str]:
    from console.planning.plan import (
        CommandStep,
        EnvironmentStep,
        ImageStep,
        Inference,
        JoinStep,
        LoadStep,
        ServiceStep,
        SwitchStep,
        TextAnswered,
        VerifyStep,
        WriteStep,
    )
    from console.planning.variables import shell_word

    match step:
        case EnvironmentStep():
            return [f"environment {step.environment}"]
        case ImageStep():
            return [f"image {step.image}"]
        case WriteStep():
            return [f"write {file.path}" for file in step.files]
        case CommandStep():
            where = "" if step.command.runtime == "host" else f"[{step.command.runtime}] "
            return [where + " ".join(shell_word(word) for word in step.command.argv)]
        case JoinStep():
            return [f"use the running server of {step.deployment}"]
        case ServiceStep():
            return [" ".join(shell_word(word) for word in step.service.process.argv)]
        case LoadStep():
            return [f"load {model} into {step.service}" for model in step.models]
        case VerifyStep():
            asked = (p for p in step.success if isinstance(p, Inference | TextAnswered))
            return [f"ask {step.service}: {p.title}" for p in asked]
        case SwitchStep():
            return [f"serve version {step.version} of {model}" for model in step.models]


def check(args: argparse.Namespace) -> int:
    on = common.desk(args)
    chosen = common.deployment(args, on)
    report = on.check(chosen)
    if args.json:
        output.emit("checks", report.verdicts, blocks=report.blocks, elapsed=report.elapsed)
    else:
        show_report(report)
        try:
            show_parallelism(on.parallelism(chosen))
        except DeckError:
            pass  # a checkpoint that cannot be read: the report has said so
    return 3 if report.blocks else 0


def show_parallelism(view: ParallelismView | None) -> None:
    """Which rank lands on which GPU, what each takes, and what fits; nothing for other routes."""
    if view is None:
        return
    size = f"tensor {view.tensor} × pipeline {view.pipeline} on {view.nodes} machine(s)"
    output.say(f"parallelism: {size}, {view.gpus} GPU(s) here; {view.split}")
    if view.fixed:
        output.say(f"  the checkpoint fixes {view.fixed}")
    needed = f"weights {human_bytes(view.weights)}, activations {human_bytes(view.activations)}"
    if view.context:
        needed += f", CUDA {human_bytes(view.context)}"
    output.say(f"  each GPU: {needed}, {view.cache_a_token:,} B of cache a token")
    for rank in view.ranks:
        at = "no such GPU here" if rank.index is None else f"GPU {rank.index} {clean(rank.name)}"
        output.say(f"  rank {rank.rank} (machine {rank.node}, stage {rank.pipeline}): {at}")
    if view.batches:
        fits = ", ".join(f"{one.batch} × {one.length:,}" for one in view.batches)
        output.say(f"  fits: {view.tokens:,} tokens of cache; batch × length at most {fits}")
    elif view.budget:
        output.say(f"  does not fit: {human_bytes(view.budget)} of each GPU may be used")
    output.say(f"  {view.formula}")


def show_report(report: CheckReport) -> None:
    for verdict in report.verdicts:
        figure = f" ({clean(verdict.figure)})" if verdict.figure else ""
        print(
            f"{output.level_word(verdict.level, verdict.accepted)} "
            f"{clean(verdict.check)}: {clean(verdict.summary)}{figure}"
        )
        if verdict.fix:
            output.say(f"         fix: {verdict.fix}")
    failed = sum(verdict.blocks for verdict in report.verdicts)
    output.say(f"{len(report.verdicts)} checks, {failed} failed, {report.elapsed:.1f} s")


def deploy(args: argparse.Namespace) -> int:
    on = common.desk(args)
    chosen = common.deployment(args, on)
    fetches_first = on.fetches_first(chosen)
    run_id = on.deploy(chosen, from_step=args.from_step, force=args.force)
    if fetches_first and args.detach:
        output.note("it only fetches; what was fetched is built by the next deploy")
    then = partial(on.build_fetched, run_id, force=args.force) if fetches_first else None
    return progress.started(on, run_id, detach=args.detach, as_json=args.json, then=then)
