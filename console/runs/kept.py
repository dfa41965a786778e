"""A step's command under a keeper: started or adopted, followed, ended on cancel and timeout."""

from __future__ import annotations

import time
from pathlib import Path

from console import keeper
from console.facts import DeckError, Progress
from console.keeper import Exit, Kept
from console.planning.plan import CommandStep
from console.runs.context import Cancelled, Context
from console.runs.keys import Key
from console.runs.progress import LogProgress
from console.runtimes import containers
from console.runtimes.host import Launch

GRACE = 10.0
"""Seconds that a command gets from SIGTERM to SIGKILL."""
_POLL = 0.1
_REVIVALS = 3
"""How often a follower of a container is started again before something is wrong with it."""


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
            # A container is stopped within its own time first.
            grace=max(GRACE, launch.stop_seconds + 5),
            leave=launch.contained,
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
    killed: how the command ended cannot be known then. A container lives on without its keeper and
    is followed again.
    """
    rule = context.step.progress if isinstance(context.step, CommandStep) else None
    said = LogProgress(context.log, rule)
    revived, news = 0, False
    try:
        while True:
            kept = keeper.look(folder)
            context.run.watch_memory_of(_measured(kept))
            news = said.look() or news
            if news:
                news = not context.shown(said.message, said.fraction)
            if revived < _REVIVALS and _only_follower_gone(kept):
                revived += 1
                follow_again(context, folder)
                continue
            if kept.exit is not None:
                if kept.exit.leftover:
                    context.say(f"{kept.exit.leftover} process(es) left behind by it were ended")
                return kept.exit
            if not kept.watched:
                raise _lost(kept)
            try:
                context.check()
            except (Cancelled, DeckError):
                end(folder, context.progress)
                raise
            time.sleep(_POLL)
    finally:
        context.run.watch_memory_of(None)


def follow_again(context: Context, folder: Path) -> None:
    """A new keeper and follower for a container whose own were killed."""
    view = containers.look(folder)
    assert view is not None
    context.say("its follower was killed; the container is followed again")
    start(context, containers.follower(folder, view.record), folder)


def end(folder: Path, progress: Progress | None = None) -> None:
    """End what a folder keeps, a container among it whose follower could not do it."""
    keeper.end(folder, GRACE, progress)
    if containers.unfollowed(folder):
        containers.remove(folder)


def _only_follower_gone(kept: Kept) -> bool:
    asked = kept.exit is not None and kept.exit.asked
    return not kept.watched and not asked and containers.unfollowed(kept.folder)


def _measured(kept: Kept) -> int | None:
    """The process tree that does the work: the container's, where there is one."""
    view = containers.look(kept.folder)
    if view is not None and view.following.pid:
        return view.following.pid
    return kept.child.pid if kept.child else None


def _lost(kept: Kept) -> DeckError:
    count = keeper.end_survivors(kept)
    left = f"; {count} process(es) that it had started were ended" if count else ""
    return DeckError(
        "its keeper was killed",
        why=f"how the command would have ended cannot be known{left}",
        fix="retry runs this step again; the kernel kills processes when memory runs out",
    )
