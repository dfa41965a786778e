"""`store`: the records that a retrieval model searches."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from console.facts import DeckError, InferenceAnswer, UsageError
from console.text import clean, human_bytes
from console.verbs import common, output, progress

FAILED = DeckError.exit_code


def fill(args: argparse.Namespace) -> int:
    """0 when every record is in the store, 1 when some failed."""
    done = common.desk(args).store_fill(
        args.name,
        Path(args.source),
        replace=args.replace,
        progress=progress.noting(),
        on_failed=lambda words: output.note(f"failed {words}"),
    )
    if args.json:
        output.emit("store", done)
    else:
        output.say(
            f"{done['written']} written, {done['unchanged']} unchanged, {done['failed']} failed "
            f"in {done['seconds']:.1f} s; {done['total']} records in the store"
        )
        if done["failed"]:
            output.say(f"what failed, and why: {done['failures']}")
    return FAILED if done["failed"] else 0


def count(args: argparse.Namespace) -> int:
    found = common.desk(args).store_count(args.name, args.filter)
    if args.json:
        output.emit("store", found)
        return 0
    spaces = ", ".join(f"{name} {space['dimension']}" for name, space in found["spaces"].items())
    size = f", {human_bytes(found['bytes'])}" if found["bytes"] else ""
    output.say(f"{found['count']} records{size}; vectors: {spaces}")
    return 0


def delete(args: argparse.Namespace) -> int:
    found = common.desk(args).store_delete(args.name, tuple(args.ids), args.filter, args.all)
    _emit(args, found, f"{found['deleted']} deleted, {found['total']} left")
    return 0


def rebuild(args: argparse.Namespace) -> int:
    found = common.desk(args).store_rebuild(args.name, progress.noting())
    names = ", ".join(found["indexes"]) or "the store's own"
    _emit(args, found, f"indexes {names} over {found['total']} records in {found['seconds']:.1f} s")
    return 0


def search(args: argparse.Namespace) -> int:
    """The served model's answer: what `query` asks, with the fields as flags."""
    if bool(args.image) == bool(args.text):
        raise UsageError("give --image or --text", why="one of the two is compared")
    on = common.desk(args)
    service = on.service(args.name)
    if not service.living:
        raise DeckError(
            f"{clean(args.name)} is not being served",
            why=service.reason,
            fix=f"tritondeck deploy {clean(args.name)}",
        )
    model = service.models[-1]
    form = on.adapter(service.endpoint, on.metadata(service.endpoint, model))
    request = form.request(
        {
            "image": str(Path(args.image).absolute()) if args.image else "",
            "text": args.text or "",
            "top": str(args.top or ""),
            "filter": args.filter,
            "against": args.against,
        }
    )
    answer = on.infer(service.endpoint, request)
    words = on.words(form, answer)
    if args.json:
        outputs = answer.outputs if isinstance(answer, InferenceAnswer) else ()
        output.emit("answer", words, model=model, latency=answer.latency, outputs=outputs)
    else:
        output.say(words, multiline=True)
    return 0


def _emit(args: argparse.Namespace, found: dict[str, Any], words: str) -> None:
    if args.json:
        output.emit("store", found)
    else:
        output.say(words)


def actions(args: argparse.Namespace) -> int:
    """`store` alone does nothing: each action needs a name."""
    raise UsageError(
        "say what to do with the store",
        why="actions: fill, count, search, delete, rebuild",
        fix="tritondeck store --help",
    )
