"""`incident`: one zip that tells what happened."""

from __future__ import annotations

import argparse
from pathlib import Path

from console.text import human_bytes
from console.verbs import common, output


def incident(args: argparse.Namespace) -> int:
    made = common.desk(args).incident(args.name, Path(args.output) if args.output else None)
    if args.json:
        output.emit("incident", made)
        return 0
    output.say(f"{made.file} ({human_bytes(made.size)}, {len(made.names)} files)")
    for line in made.left_out:
        output.say(f"left out: {line}")
    return 0
