"""`RunView` from a run's folder alone: no process is asked, nothing is written.

The journal is folded event by event; `end.json` adds what a full disk kept out of the journal; the
identities of runner and keeper say what is still alive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from console import keeper, processes, storage
from console.keeper import Kept
from console.processes import Identity
from console.runs import journal
from console.runs.folder import MANIFEST, Manifest, Outline, RunFolder, Unreadable, load
from console.runs.journal import Event
from console.runs.model import RunState, RunView, StepState, StepView
from console.text import clean


@dataclass
class _Step:
    """What the journal has said about one step so far."""

    outline: Outline
    state: StepState = StepState.PENDING
    begun: Event | None = None
    elapsed: float | None = None
    reason: str = ""
    fix: str = ""
    message: str = ""
    fraction: float | None = None
    kept: str = ""
    log: str = ""


@dataclass
class Fold:
    """The journal, folded. Only the last attempt's steps count; the time of all does."""

    steps: dict[str, _Step]
    attempt: int = 0
    begun: Event | None = None
    last: Event | None = None
    end: Event | None = None
    earlier: float = 0.0
    service: str = ""
    answer: str = ""
    runner: Identity | None = None

    def add(self, event: Event) -> None:
        kind = event["event"]
        if kind == "start":
            self._start(event)
        elif kind == "service":
            self.service = event["id"]
        elif kind == "answer":
            self.answer = event["text"]
        elif kind == "end":
            self.end = event
        elif (step := self.steps.get(event.get("step", ""))) is not None:
            _apply(step, event)
        self.last = event

    def _start(self, event: Event) -> None:
        if self.begun is not None and self.last is not None:
            self.earlier += journal.between(self.begun, self.last) or 0.0
        self.steps = {name: _Step(step.outline) for name, step in self.steps.items()}
        self.attempt, self.begun, self.end = event["attempt"], event, None
        self.answer = ""
        self.runner = Identity.read(event.get("runner"))

    @property
    def moved(self) -> bool:
        return any(step.state is not StepState.PENDING for step in self.steps.values())

    @property
    def current(self) -> _Step | None:
        return next((s for s in self.steps.values() if s.state is StepState.RUNNING), None)


def _apply(step: _Step, event: Event) -> None:
    kind = event["event"]
    if kind == "step":
        step.state = StepState(event["state"])
        step.reason = event.get("reason", "") or step.reason
        step.fix = event.get("fix", "")
        step.message = event.get("message", step.message)
        if step.state is StepState.RUNNING:
            step.begun = event
        elif step.state is not StepState.PENDING:
            step.elapsed = event.get("elapsed")
    elif kind == "kept":
        step.kept = event["folder"]
    elif kind == "log":
        step.log = event["path"]


def fold(folder: RunFolder, manifest: Manifest) -> Fold:
    """Read the journal and the end file."""
    state = Fold({o.id: _Step(o) for o in manifest.steps})
    for event in journal.read(folder.journal):
        try:
            state.add(event)
        except (KeyError, ValueError):
            continue  # an event of a later version: what is known stays true
    end = storage.read_json(folder.end)
    if end and end.get("attempt") == state.attempt:
        # The journal could not take these: the disk was full.
        for event in end.get("unwritten", ()):
            state.add(event)
    return state


def folders(runs: Path) -> Iterator[RunFolder]:
    """The runs in the runs folder."""
    if runs.is_dir():
        for path in runs.iterdir():
            if not path.name.startswith(".") and (path / MANIFEST).is_file():
                yield RunFolder(path)


def every(runs: Path, deployment: str = "") -> tuple[RunView, ...]:
    """The runs in the runs folder (of one deployment), the newest first. Raises `OSError`."""
    found = [
        view(folder)
        for folder in folders(runs)
        if not deployment or folder.path.name.rpartition("-")[0] == deployment
    ]
    return tuple(sorted(found, key=lambda view: (-view.started, -view.number)))


def view(folder: RunFolder) -> RunView:
    """The run as it is now; never raises for what a crash, another host or version left."""
    try:
        manifest = load(folder)
    except Unreadable as problem:
        return _unreadable(folder, str(problem))
    state = fold(folder, manifest)
    run_state = _run_state(state, manifest, folder)
    if run_state in (RunState.INTERRUPTED, RunState.ORPHANED):
        # Who is gone may have told its end after the journal was read, or has only just begun.
        state = fold(folder, manifest)
        run_state = _run_state(state, manifest, folder)
    current = state.current
    kept = Kept(folder.path)
    if current and current.kept:
        kept = keeper.look(folder.kept(current.kept))
    error, fix = _error(run_state, state, folder)
    if run_state is RunState.RUNNING and current:
        _add_progress(folder, current, state.attempt)
    elif run_state is RunState.INTERRUPTED and current:
        _interrupt(current, kept)
    alive = run_state in (RunState.RUNNING, RunState.STARTING)
    return RunView(
        id=manifest.id,
        deployment=manifest.deployment,
        number=manifest.number,
        state=run_state,
        folder=folder.path,
        steps=tuple(_step_view(step, folder) for step in state.steps.values()),
        started=state.begun["time"] if state.begun else manifest.created,
        elapsed=_elapsed(state, live=alive or run_state is RunState.ORPHANED),
        error=error,
        fix=fix,
        service=state.service,
        answer=state.answer,
        runner_pid=state.runner.pid if alive and state.runner else None,
    )


def living(folder: RunFolder) -> list[Kept]:
    """Keepers of this run's steps that still wait for a child."""
    places = folder.kept("").iterdir() if folder.kept("").is_dir() else ()
    return [kept for kept in map(keeper.look, sorted(places)) if kept.watched]


def _run_state(state: Fold, manifest: Manifest, folder: RunFolder) -> RunState:
    if state.end is not None:
        return RunState(state.end["state"])
    if manifest.host != processes.hostname() or (state.runner and state.runner.foreign):
        return RunState.FOREIGN
    if state.runner is None:
        starter = Identity.read(storage.read_json(folder.starter))
        return RunState.STARTING if starter and starter.alive else RunState.INTERRUPTED
    if state.runner.alive:
        return RunState.RUNNING if state.moved else RunState.STARTING
    return RunState.ORPHANED if living(folder) else RunState.INTERRUPTED


def _error(run_state: RunState, state: Fold, folder: RunFolder) -> tuple[str, str]:
    if state.end is not None:
        return state.end.get("error", ""), state.end.get("fix", "")
    if run_state is RunState.FOREIGN:
        host = state.runner.host if state.runner else "another host"
        return f"this run belongs to host {clean(host)}: view only", "go on with it there"
    if run_state is RunState.ORPHANED:
        return "the runner is gone; the step goes on by itself", "retry adopts it, cancel ends it"
    if run_state is RunState.INTERRUPTED:
        if state.runner is None:
            return "the run was never started", "retry starts it"
        last = _last_message(folder.messages)
        said = f" ({last})" if last else ""
        return f"the runner ended without saying how{said}", "retry continues where it was"
    return "", ""


def _last_message(path: Path) -> str:
    try:
        lines = path.read_bytes()[-4000:].decode(errors="replace").splitlines()
    except OSError:
        return ""
    return clean(lines[-1])[:200] if lines else ""


def _interrupt(step: _Step, kept: Kept) -> None:
    """Say what is known of the step that ran when the runner was lost."""
    if kept.exit is not None:
        step.state = StepState.PENDING
        step.reason = f"ended ({kept.exit.words}) while no runner was there: retry judges it"
        step.elapsed = kept.exit.elapsed
        return
    step.state = StepState.CANCELLED
    step.reason = "ended with the runner or its keeper (killed, or the machine restarted)"
    here = kept.keeper is not None and kept.keeper.boot == processes.boot_id()
    if here and not kept.foreign and (left := len(processes.survivors(kept.mark))):
        step.reason += f"; {left} process(es) of it still run: retry or cancel ends them"


def _add_progress(folder: RunFolder, step: _Step, attempt: int) -> None:
    said = storage.read_json(folder.progress) or {}
    if (said.get("step"), said.get("attempt")) == (step.outline.id, attempt):
        step.fraction, step.message = said.get("fraction"), said.get("message", "")


def _elapsed(state: Fold, *, live: bool) -> float:
    if state.begun is None:
        return state.earlier
    now = journal.between(state.begun, None if live else (state.end or state.last))
    return state.earlier + (now or 0.0)


def _step_view(step: _Step, folder: RunFolder) -> StepView:
    elapsed = step.elapsed
    if step.state is StepState.RUNNING and step.begun is not None:
        elapsed = journal.between(step.begun)
        if elapsed is not None:
            elapsed += step.begun.get("before", 0.0)
    log = Path(step.log) if step.log else folder.log(step.outline.id)
    return StepView(
        id=step.outline.id,
        title=step.outline.title,
        kind=step.outline.kind,
        state=step.state,
        why=step.outline.why,
        started=step.begun["time"] - step.begun.get("before", 0.0) if step.begun else None,
        elapsed=elapsed,
        fraction=1.0 if step.state is StepState.DONE else step.fraction,
        message=step.message,
        reason=step.reason,
        fix=step.fix,
        log=log if log.exists() else None,
    )


def _unreadable(folder: RunFolder, problem: str) -> RunView:
    return RunView(
        id=clean(folder.path.name),
        deployment=clean(folder.path.name.rpartition("-")[0]),
        number=0,
        state=RunState.FOREIGN,
        folder=folder.path,
        steps=(),
        started=folder.path.stat().st_mtime,
        elapsed=0.0,
        error=problem,
        fix="look at it with the version that made it",
    )
