"""`runs`, `deployments` and `forget`."""

from __future__ import annotations

import argparse
import time

from console.text import human_seconds
from console.verbs import common, output, progress


def listed(args: argparse.Namespace) -> int:
    found = common.desk(args).runs(args.name)
    if args.json:
        output.emit("runs", found)
        return 0
    output.table(
        ("RUN", "DEPLOYMENT", "STATE", "STARTED", "TOOK", "STEP"),
        [
            (
                run.id,
                f"{run.deployment} #{run.number}",
                run.state.value,
                time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started)),
                human_seconds(run.elapsed),
                run.current.title if run.current else run.error,
            )
            for run in found
        ],
    )
    return 0


def show(args: argparse.Namespace) -> int:
    view = common.run_of(common.desk(args), args.run)
    if args.json:
        output.emit("run", view)
    else:
        progress.summary(view)
    return 0


def cancel(args: argparse.Namespace) -> int:
    on = common.desk(args)
    run_id = common.run_of(on, args.run).id
    on.cancel(run_id)
    view = progress.told(on, run_id)
    if args.json:
        output.emit("run", view)
    else:
        output.say(f"run {view.id} {view.state.value}")
    return 0


def retry(args: argparse.Namespace) -> int:
    on = common.desk(args)
    run_id = on.retry(common.run_of(on, args.run).id, args.from_step)
    return progress.started(on, run_id, detach=args.detach, as_json=args.json)


def delete(args: argparse.Namespace) -> int:
    on = common.desk(args)
    view = common.run_of(on, args.run)
    on.delete_run(view.id)
    if args.json:
        output.emit("deleted", view.id)
    else:
        output.say(f"run {view.id} deleted")
    return 0


def deployments(args: argparse.Namespace) -> int:
    found = common.desk(args).deployments()
    if args.json:
        output.emit("deployments", found)
        return 0
    output.table(
        ("DEPLOYMENT", "BACKEND", "PROFILE", "RUN", "SERVICE", "CHECKPOINT"),
        [
            (
                view.name,
                view.backend,
                view.profile or "-",
                view.run.state.value if view.run else "-",
                view.service.state.value if view.service else "-",
                view.problem or view.checkpoint,
            )
            for view in found
        ],
    )
    return 0


def forget(args: argparse.Namespace) -> int:
    on = common.desk(args)
    on.forget(args.name)
    if args.json:
        output.emit("forgotten", args.name)
    else:
        output.say(f"{args.name} is in the trash: {on.settings.folders.state / 'trash'}")
    return 0
