"""Whether a step succeeded, and what went wrong in words when it did not."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from console import storage
from console.facts import DeckError, Endpoint
from console.keeper import Exit
from console.runs import probes, reasons
from console.runs.context import Context
from console.runs.failure import cause, last_lines

_FULL = 1 << 16
"""Bytes of free room below which a disk counts as full when a command has failed."""


def command_failed(
    context: Context, ended: Exit | None, problem: DeckError | None = None
) -> DeckError:
    """What went wrong, in the command's own last words where it has any."""
    lines = last_lines(context.log, context.secret_values())
    ended_words = ended.words if ended and (ended.code != 0 or problem is None) else ""
    parts = [problem.title, problem.why] if problem else []
    parts += [ended_words, cause(lines) if ended_words else ""]
    if ended and ended.signal == 9 and not ended.asked:
        parts.append("the kernel ends processes like this when memory runs out")
    title, *rest = dict.fromkeys(part for part in parts if part)
    full = _full_disk(context)
    if ended and ended.code and full is None:
        known = reasons.of_graph(lines) or reasons.of_builder(context.log)
        if known:
            return known
    return DeckError(
        title,
        why=": ".join([*rest, *([f"{full.title}, {full.why}"] if full else [])]),
        fix=(full or problem or DeckError("")).fix or "read the step's log, then retry from here",
        raw="\n".join(lines),
    )


def _full_disk(context: Context) -> DeckError | None:
    """That a disk is full, if one is: a command seldom says so, and its log may not hold it."""
    for folder in (Path(context.run.values["work"]), context.run.folder.path):
        if shutil.disk_usage(folder).free < _FULL:
            return storage.storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), folder)
    return None


def judge(context: Context, ended: Exit | None, endpoint: Endpoint | None) -> None:
    """Judge every success probe, note each in the journal, keep the figures for the step line."""
    found: dict[str, str] = {}
    for index, probe in enumerate(context.step.success):
        try:
            words = probes.judge(context, probe, ended, endpoint)
        except DeckError as problem:
            context.note_probe(probe.kind, False, str(problem))
            raise command_failed(context, ended, problem) if ended else problem from problem
        context.note_probe(probe.kind, True, words)
        found[str(index)] = words
    context.message = probes.figures(found)
