"""The detached process that executes one run: ``python -m console.runs.runner``.

It holds the run's lock, does the steps in order and writes what happens into the run's folder. Who
watches reads that folder; who wants to cancel leaves a file in it. When the runner is killed, the
current step goes on under its keeper; the next runner (`RunStore.retry`) adopts it, or reads how it
ended.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from console import detach, keeper, processes, storage
from console.facts import DeckError, UsageError
from console.planning.plan import Plan, Step, image_variable
from console.planning.variables import VERSION, expand
from console.processes import Identity
from console.runs import journal, keys, notice, steps, versioned, views
from console.runs.context import Cancelled, Context, Run
from console.runs.folder import RunFolder, Unreadable, load
from console.runs.journal import Event, Journal
from console.runs.kept import end
from console.runs.keys import Key
from console.runs.model import RunState, StepState
from console.runs.recorder import Recorder
from console.runtimes import containers, engines
from console.runtimes.environments import Environments
from console.runtimes.host import variable_of
from console.settings import Folders, Settings, made, private_folder
from console.storage import StatusFile
from console.text import clean
from console.triton import versions

_END_SIZE = 16384
_PATIENCE = 5.0


class Runner:
    """One attempt at a run. Made by `prepare`, which has taken the locks."""

    def __init__(
        self, run: Run, end: StatusFile, unfinished: str, from_step: str, force: bool
    ) -> None:
        self.run = run
        self.end = end
        self.unfinished = unfinished
        """Keeper's folder of the step that ran when the earlier runner was lost."""
        self.from_step = from_step
        self.force = force
        self.begun = time.monotonic()
        self.recorder = Recorder(run.folder.telemetry, run.id, run.settings.record)
        self.unwritten: list[Event] = []
        """Events that the journal could not take; they go into the end file."""
        run.watch_memory_of = self.recorder.watch

    def execute(self) -> None:
        """Do every step; the end is always told, whatever happens to the disk."""
        self.recorder.start()
        context: Context | None = None
        try:
            adopted = self._orphan()
            forced = self.force
            for step in self.run.plan.steps:
                forced = forced or step.id == self.from_step
                context = Context(self.run, step)
                context.check()
                self._step(context, forced, adopted)
            self._finish(RunState.SUCCEEDED)
        except Cancelled:
            self._finish(RunState.CANCELLED, "cancelled")
        except _StepFailed as failed:
            self._finish(RunState.FAILED, str(failed), failed.fix)
        except (DeckError, OSError) as problem:
            error = _in_words(problem, self.run.folder.path)
            self._finish(RunState.FAILED, str(error), error.fix)
        finally:
            self.recorder.stop()

    # -- one step -----------------------------------------------------------------------

    def _step(self, context: Context, forced: bool, adopted: tuple[str, Path] | None) -> None:
        step, begun = context.step, time.monotonic()
        try:
            if adopted and adopted[0] == step.id:
                self._adopt(context, adopted[1])
            else:
                decision = steps.decide(context, forced)
                context.reason = decision.reason
                if not decision.run:
                    self._told(step, StepState.SKIPPED, reason=decision.reason)
                    return
                self._shelve_log(context)
                self.recorder.mark(f"{step.id} {StepState.RUNNING}")
                self.run.journal.append(
                    "step", step=step.id, state=StepState.RUNNING, reason=decision.reason
                )
                steps.perform(context, decision.key, None)
        except Cancelled:
            elapsed = time.monotonic() - begun + context.before
            self._told(step, StepState.CANCELLED, reason="cancelled", elapsed=elapsed)
            raise
        except (DeckError, OSError) as problem:
            error = _in_words(problem, self.run.folder.path)
            reason = _reason(error)
            fix = error.fix or "read the step's log, then retry from this step"
            elapsed = time.monotonic() - begun + context.before
            told = {"reason": reason, "fix": fix, "raw": error.raw[:2000], "elapsed": elapsed}
            self._told(step, StepState.FAILED, **told)
            raise _StepFailed(step, error, fix) from problem
        elapsed = time.monotonic() - begun + context.before
        self._told(step, StepState.DONE, message=context.message, elapsed=elapsed)

    def _adopt(self, context: Context, folder: Path) -> None:
        kept = keeper.look(folder)
        same_boot = kept.keeper is not None and kept.keeper.boot == processes.boot_id()
        context.before = max(0.0, time.monotonic() - kept.monotonic) if same_boot else 0.0
        if context.deadline is not None:
            context.deadline -= context.before
        how = "goes on" if kept.watched else "had ended"
        self.run.journal.append(
            "step",
            step=context.step.id,
            state=StepState.RUNNING,
            reason=f"adopted: it {how} while no runner was there",
            before=context.before,
        )
        key = _noted_key(self.run.folder, folder.name)
        context.note_kept(folder.name, key)
        steps.perform(context, key, folder)

    def _shelve_log(self, context: Context) -> None:
        """Keep the log of an earlier attempt beside the new one."""
        log = context.log
        if log.exists():
            log.replace(log.with_name(f"{context.step.id}.before-{self.run.attempt}.log"))

    def _orphan(self) -> tuple[str, Path] | None:
        """What an earlier runner left: the step to adopt, everything else ended."""
        found: tuple[str, Path] | None = None
        for folder in sorted(self.run.folder.kept("").glob("*")):
            kept = keeper.look(folder)
            mine = folder.name == self.unfinished
            unwanted = bool(self.from_step) or self.force or self.run.asked_to_stop()
            contained = containers.unfollowed(folder)
            if mine and not unwanted and (kept.watched or kept.exit is not None or contained):
                found = (folder.name.partition("-")[2], folder)
            elif kept.watched or contained:
                end(folder)
            elif kept.lost:
                keeper.end_survivors(kept)
        return found

    # -- telling ------------------------------------------------------------------------

    def _told(self, step: Step, state: StepState, **fields: Any) -> None:
        self.recorder.mark(f"{step.id} {state}")
        self._tell("step", step=step.id, state=state, **fields)

    def _tell(self, event: str, **fields: Any) -> None:
        """Like `Journal.append`, but what the disk does not take is kept for the end file."""
        made = self.run.journal.event(event, **fields)
        try:
            self.run.journal.write(made)
        except OSError:
            self.unwritten.append(made)

    def _finish(self, state: RunState, error: str = "", fix: str = "") -> None:
        for kept in views.living(self.run.folder):
            end(kept.folder)  # an earlier runner's step whose turn did not come
        notes = [self.recorder.problem] if self.recorder.problem else []
        told = {"state": state, "error": error[:2000], "fix": fix[:500], "notes": notes}
        self._tell("end", **told)
        self.end.write_patiently({"attempt": self.run.attempt, "unwritten": self.unwritten})
        notice.tell(
            self.run.settings.notify,
            self.run.folder.path,
            deployment=self.run.deployment,
            state=state,
            seconds=time.monotonic() - self.begun,
            error=error,
        )


class _StepFailed(Exception):
    def __init__(self, step: Step, error: DeckError, fix: str) -> None:
        super().__init__(f"{step.title}: {_reason(error)}")
        self.fix = fix


def _reason(error: DeckError) -> str:
    return ": ".join(part for part in (error.title, error.why) if part)[:1500]


def _in_words(problem: DeckError | OSError, folder: Path) -> DeckError:
    if isinstance(problem, DeckError):
        return problem
    named = problem.filename if isinstance(problem.filename, str) else ""
    return storage.storage_error(problem, Path(named or folder))


def _noted_key(folder: RunFolder, kept: str) -> Key | None:
    events = [e for e in journal.read(folder.journal) if e["event"] == "kept"]
    return next((Key.read(e.get("key")) for e in reversed(events) if e.get("folder") == kept), None)


# ---------------------------------------------------------------------------- starting


def request(folder: Path, settings: Settings, from_step: str, force: bool) -> dict[str, Any]:
    """What `keeper.start` carries to `main`: settings go through the pipe, not over the disk."""
    places = {k: str(v) for k, v in asdict(settings.folders).items() if v is not None}
    return {
        "folder": str(folder),
        "folders": places,
        "settings": {k: v for k, v in asdict(settings).items() if k != "folders"},
        "from_step": from_step,
        "force": force,
    }


def _settings(raw: Mapping[str, Any]) -> Settings:
    folders = Folders(**{name: Path(place) for name, place in raw["folders"].items()})
    return made({**raw["settings"], "folders": folders})


def prepare(raw: Mapping[str, Any]) -> Runner:
    """Take the locks, read the plan, note the start; raises `DeckError` and `OSError`."""
    folder, settings = RunFolder(Path(raw["folder"])), _settings(raw)
    try:
        manifest = load(folder)
        plan = Plan.model_validate_json(folder.plan.read_bytes())
    except Unreadable as problem:
        raise UsageError("this run cannot be continued", why=str(problem)) from problem
    except ValidationError as error:
        raise UsageError(
            "this run's plan cannot be read", why=clean(str(error))[:500], fix="deploy again"
        ) from error
    # Patient: an earlier runner may have told its end and not be gone yet.
    storage.lock(folder.path / ".lock", f"run {manifest.id} is being executed already", _PATIENCE)
    private_folder(settings.folders.work)
    work = private_folder(settings.folders.work / manifest.deployment)
    held = f"another run of {manifest.deployment} is being executed"
    storage.lock(work / ".lock", held, _PATIENCE)
    events = journal.read(folder.journal)
    attempt = 1 + sum(event["event"] == "start" for event in events)
    end = StatusFile(folder.end, _END_SIZE)
    written = Journal(folder.journal)
    run = Run(
        id=manifest.id,
        deployment=manifest.deployment,
        folder=folder,
        plan=plan,
        values=_values(plan, work, settings),
        settings=settings,
        journal=written,
        attempt=attempt,
        asked_to_stop=_ears(folder),
    )
    run.save_values()
    who = asdict(Identity.of(os.getpid()))
    wanted = {"from_step": raw["from_step"], "force": raw["force"]}
    written.append("start", attempt=attempt, runner=who, **wanted)
    return Runner(run, end, _unfinished(events), raw["from_step"], raw["force"])


def _values(plan: Plan, work: Path, settings: Settings) -> dict[str, str]:
    """Every variable that is known before a service has started."""
    environments = Environments(settings)
    values = {"work": str(work)}
    for spec in plan.environments:
        values[variable_of(spec.name)] = str(environments.folder(spec))
    if plan.images:
        values["engine"] = engines.engine(plan.engine).name
    for image in plan.images:
        values[image_variable(image.name)] = image.tag
    for variable in plan.variables:
        if variable.kind in ("version", "joined"):
            continue
        try:
            values[variable.name] = expand(variable.default, values)
        except KeyError as error:
            raise UsageError(
                f"the plan's variable {variable.name} uses {error.args[0]}, which comes later"
            ) from error
    values |= versioned.joined_values(plan, settings)
    values |= _version(plan, work, values)
    return values


def _version(plan: Plan, work: Path, values: Mapping[str, str]) -> dict[str, str]:
    """The number of the version folders that the plan fills: of one that is there when the plan
    would make the same again, else the next."""
    if not any(variable.kind == "version" for variable in plan.variables):
        return {}
    key = keys.version_key(plan, values)
    return {VERSION: str(versions.settle(work, Path(values["repository"]), key))}


def _unfinished(events: list[Event]) -> str:
    """Keeper's folder of the last command that nobody has judged."""
    waiting: dict[str, str] = {}
    for event in events:
        step = event.get("step", "")
        if event["event"] == "kept":
            waiting[step] = event.get("folder", "")
        elif event["event"] == "step" and event.get("state") != StepState.RUNNING:
            waiting.pop(step, None)
    return list(waiting.values())[-1] if waiting else ""


def _ears(folder: RunFolder) -> Callable[[], bool]:
    """Whether somebody asked to stop: a file in the folder, or SIGTERM (a shutdown)."""
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, frame: told.append(signum))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return lambda: bool(told) or folder.cancel.exists()


def main() -> NoReturn:
    def work(raw: dict[str, Any], ready: detach.Ready) -> None:
        runner = prepare(raw)
        ready()
        runner.execute()

    detach.detached(work)


if __name__ == "__main__":
    main()
