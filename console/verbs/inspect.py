"""`inspect` and `backends`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from console.desk.desk import Desk
from console.text import clean, human_bytes
from console.verbs import common, output


def inspect(args: argparse.Namespace) -> int:
    on = common.desk(args)
    if args.scan:
        return _scan(on, args)
    found = on.inspect(Path(args.path))
    routes = on.routes({"model": found})
    if args.json:
        output.emit("checkpoint", found, routes=routes)
        return 0
    output.say(f"{clean(str(found.path))}")
    output.say(f"{found.title}, {human_bytes(found.size)}")
    for label, value in found.details:
        output.say(f"  {label + ':':22} {value}")
    for risk in found.risks:
        output.say(f"  {risk.severity.value + ':':22} {risk.summary}")
        if risk.fix:
            output.say(f"  {'fix:':22} {risk.fix}")
    output.say("routes:")
    for route in routes:
        verdict = route.verdict
        print(f"  {output.level_word(verdict.level)} {clean(route.name)}: {clean(verdict.summary)}")
        if verdict.fix:
            output.say(f"           fix: {verdict.fix}")
    return 0


def _scan(on: Desk, args: argparse.Namespace) -> int:
    """One line a checkpoint, or one JSON object a line, as they are found; the count on stderr."""
    live = sys.stderr.isatty()

    def progress(count: int) -> None:
        if live:
            print(f"\r{count} entries", end="\r", file=sys.stderr, flush=True)

    number = 0
    for found in on.scan(Path(args.path), progress):
        number += 1
        if args.json:
            output.emit_line({"checkpoint": found})
        else:
            shown = clean(str(found.path))
            output.say(f"{shown}  {found.title}, {human_bytes(found.size)}")
    print(f"{number} checkpoint{'' if number == 1 else 's'}", file=sys.stderr)
    return 0


def backends(args: argparse.Namespace) -> int:
    on = common.desk(args)
    if not args.name:
        found = on.backends()
        if args.json:
            output.emit("backends", found)
        else:
            output.table(("BACKEND", "FROM"), [(view.name, view.origin) for view in found])
        return 0
    fields = on.option_fields(args.name)
    if args.json:
        output.emit("options", fields, backend=args.name)
        return 0
    group = ""
    for field in fields:
        if field.group != group:
            group = field.group
            output.say(f"{group}:")
        low = "" if field.minimum is None else f"{field.minimum:.12g}"
        high = "" if field.maximum is None else f"{field.maximum:.12g}"
        takes = "|".join(field.choices) or field.kind
        if low or high:
            takes += f" {low}…{high}"
        takes += f" {field.unit}" if field.unit else ""
        output.say(f"  --{field.name.replace('_', '-')} ({takes}; default {_shown(field.default)})")
        if field.help:
            output.say(f"      {field.help}")
    return 0


def _shown(default: Any) -> str:
    """A default as a person would type it."""
    if default in (None, "", ()):
        return "empty"
    if isinstance(default, bool):
        return str(default).lower()
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
