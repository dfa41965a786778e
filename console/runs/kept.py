"""A step's command under a keeper: started or adopted, followed, ended on cancel and timeout."""

from __future__ import annotations

import time
from pathlib import Path

from console import keeper
from console.facts import DeckError
from console.keeper import Exit, Kept
from console.planning.plan import CommandStep
from console.runs.context import Cancelled, Context
from console.runs.keys import Key
from console.runs.progress import LogProgress
from console.runtimes.host import Launch

GRACE = 10.0
"""Seconds that a command gets from SIGTERM to SIGKILL."""
_POLL = 0.1


def start(context: Context, launch: Launch, folder: Path) -> None:
    """Start the command under a new keeper whose folder is `folder`."""
    launch.cwd.mkdir(mode=0o700, parents=True, exist_ok=True)
    keeper.launch(
        keeper.Request(
            folder=str(folder),
            argv=tuple(launch.argv),
            env=dict(launch.env),
            cwd=str(launch.cwd),
            log=str(context.log),
            grace=GRACE,
        )
    )


def new_folder(context: Context, key: Key | None) -> Path:
    """A folder for this attempt's keeper, noted in the journal before anything runs in it."""
    name = f"{context.run.attempt}-{context.step.id}"
    folder = context.run.folder.kept(name)
    folder.mkdir(mode=0o700, parents=True)
    context.note_kept(name, key)
    return folder


def follow(context: Context, folder: Path) -> Exit:
    """Wait until the command ends and return how; pass on its progress.

    Cancel and timeout end its whole process tree first. Raises `DeckError` when its keeper was
    killed: how the command ended cannot be known then.
    """
    rule = context.step.progress if isinstance(context.step, CommandStep) else None
    said = LogProgress(context.log, rule)
    try:
        while True:
            kept = keeper.settled(keeper.look(folder))
            context.run.watch_memory_of(kept.child.pid if kept.child else None)
            if said.look():
                context.progress(said.message, said.fraction)
            if kept.exit is not None:
                if kept.exit.leftover:
                    context.say(f"{kept.exit.leftover} process(es) left behind by it were ended")
                return kept.exit
            if not kept.watched:
                raise _lost(kept)
            try:
                context.check()
            except (Cancelled, DeckError):
                keeper.end(folder, GRACE, context.progress)
                raise
            time.sleep(_POLL)
    finally:
        context.run.watch_memory_of(None)


def _lost(kept: Kept) -> DeckError:
    count = keeper.end_survivors(kept)
    left = f"; {count} process(es) that it had started were ended" if count else ""
    return DeckError(
        "its keeper was killed",
        why=f"how the command would have ended cannot be known{left}",
        fix="retry runs this step again; the kernel kills processes when memory runs out",
    )
