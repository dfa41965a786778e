"""`versions`, `rollback` and `remove`: what a server has of a deployment."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from console.verbs import common, output, progress

if TYPE_CHECKING:
    from console.desk.views import VersionsView


def listed(args: argparse.Namespace) -> int:
    found = common.desk(args).versions(args.name)
    if args.json:
        output.emit("versions", found)
    else:
        _table(found)
    return 0


def _table(found: VersionsView) -> None:
    output.table(
        ("VERSION", "STATE", "VERIFIED", "RUN", "MODELS"),
        [
            (
                str(one.number),
                "live" if one.live else "previous" if one.number == found.previous else "-",
                time.strftime("%Y-%m-%d %H:%M", time.localtime(one.verified)),
                one.run,
                ", ".join(one.models),
            )
            for one in found.versions
        ],
    )


def rollback(args: argparse.Namespace) -> int:
    now = common.desk(args).rollback(args.name, args.to, progress.noting())
    if args.json:
        output.emit("versions", now)
        return 0
    where = f"answers at {now.service}" if now.service else "is what the next server loads"
    output.say(f"version {now.live} of {now.deployment} {where}")
    if now.answer:
        output.say(f"answer: {now.answer}")
    return 0


def remove(args: argparse.Namespace) -> int:
    models = common.desk(args).remove(args.name, progress.noting())
    if args.json:
        output.emit("removed", models)
    else:
        output.say(f"{args.name}: {', '.join(models)} unloaded and in the trash")
    return 0
