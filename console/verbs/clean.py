"""`clean`: what takes space, and removing what is safe to remove."""

from __future__ import annotations

import argparse
import re

from console.facts import UsageError
from console.text import clean as cleaned
from console.text import human_bytes, human_seconds
from console.verbs import common, output, progress

_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def clean(args: argparse.Namespace) -> int:
    """0 when everything that was to be removed is gone, 1 when something stayed after all."""
    report = common.desk(args).clean(
        tuple(args.kinds or ()),
        older_than=age(args.older_than),
        keep=args.keep,
        remove=args.yes,
        progress=progress.noting() if args.yes else None,
    )
    stayed = any(item.reason.startswith("stays: ") for item in report.items)
    if args.json:
        output.emit("clean", report.items, removable=report.removable, freed=report.freed)
        return int(stayed)
    output.table(
        ("KIND", "NAME", "SIZE", "AGE", "REMOVE", "WHY"),
        [
            (
                item.kind,
                item.name,
                human_bytes(item.size),
                human_seconds(item.age),
                "removed" if item.removed else "yes" if item.safe else "no",
                item.reason,
            )
            for item in report.items
        ],
    )
    if args.yes:
        output.say(f"{human_bytes(report.freed)} freed")
    elif report.removable:
        output.say(f"{human_bytes(report.removable)} can be removed: add --yes")
    else:
        output.say("nothing to remove")
    return int(stayed)


def age(text: str) -> float:
    """``30d``, ``12h`` … in seconds."""
    if not text:
        return 0.0
    match = _AGE.fullmatch(text)
    if match is None:
        raise UsageError(f"--older-than takes an age as 30d, 12h or 2w, got {cleaned(text)!r}")
    return float(match[1]) * _UNITS[match[2]]
