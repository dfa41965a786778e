"""`env`: managed environments."""

from __future__ import annotations

import argparse

from console.text import human_bytes
from console.verbs import common, output, progress


def listed(args: argparse.Namespace) -> int:
    found = common.desk(args).environments()
    if args.json:
        output.emit("environments", found)
        return 0
    output.table(
        ("ENVIRONMENT", "PYTHON", "PACKAGES", "SIZE", "FOLDER"),
        [
            (
                facts.name,
                facts.python_version,
                str(len(facts.packages)),
                human_bytes(facts.size) if facts.size is not None else "-",
                str(facts.python.parent.parent),
            )
            for facts in found
        ],
    )
    return 0


def create(args: argparse.Namespace) -> int:
    facts = common.desk(args).create_environment(args.name, progress.noting())
    if args.json:
        output.emit("environment", facts)
    else:
        output.say(f"{facts.name} is ready: {facts.python}")
    return 0


def remove(args: argparse.Namespace) -> int:
    freed = common.desk(args).remove_environment(args.name)
    if args.json:
        output.emit("removed", args.name, bytes=freed)
    else:
        output.say(f"{args.name} removed, {human_bytes(freed)} freed")
    return 0
