"""Make, start, watch, cancel, continue and remove runs. Every one is a folder; see `runs.folder`."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from console import detach, processes, storage
from console.facts import Refused, UsageError
from console.planning.deployment import check_name
from console.planning.plan import Plan
from console.processes import Identity
from console.runs import views
from console.runs.folder import MANIFEST, Manifest, RunFolder, Unreadable, load, outlines
from console.runs.model import RunState, RunView
from console.settings import Settings, private_folder
from console.telemetry.sample import Sample
from console.text import clean

NUMBERS = ".numbers.json"
"""Deployment to the highest number that a run of it was given."""
_PATIENCE = 10.0


class RunStore:
    """The runs folder. Holds no state of its own: any number of these may watch one run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.folders.runs

    # -- looking ------------------------------------------------------------------------

    def views(self, deployment: str = "") -> tuple[RunView, ...]:
        """Runs (of one deployment), the newest first."""
        with self._in_words():
            return views.every(self.folder, deployment)

    def view(self, run_id: str) -> RunView:
        """One run as its folder tells it now; `UsageError` when there is none."""
        with self._in_words():
            return views.view(self._existing(run_id))

    def log_file(self, run_id: str, step: str) -> Path:
        """The log of one step (it may not exist yet); a service's step names the server's log."""
        found = [s for s in self.view(run_id).steps if s.id == step]
        if not found:
            raise UsageError(f"run {clean(run_id)} has no step {clean(step)}")
        return found[0].log or self._existing(run_id).log(step)

    def samples(self, run_id: str) -> tuple[Sample, ...]:
        """What the telemetry recorder saw, oldest first."""
        from console.runs import recorder

        return recorder.read(self._existing(run_id).telemetry)

    # -- making and starting ------------------------------------------------------------

    def create(
        self, plan: Plan, deployment_toml: str, *, from_step: str = "", force: bool = False
    ) -> str:
        """A new run of `plan`, not started; returns its id.

        `from_step` makes that step and the following ones run even when unchanged, `force` all.
        """
        check_name(plan.deployment)
        _check_step(plan, from_step)
        with self._in_words():
            private_folder(self.settings.folders.state)
            private_folder(self.folder)
            folder, number = self._new_folder(plan.deployment)
            try:
                for name in ("logs", "keepers"):
                    (folder.path / name).mkdir(mode=0o700)
                toml = folder.path / "deployment.toml"
                storage.write_private(toml, deployment_toml.encode())
                storage.write_private(folder.plan, plan.model_dump_json(indent=1).encode())
                Manifest(
                    id=folder.path.name,
                    deployment=plan.deployment,
                    number=number,
                    created=time.time(),
                    host=processes.hostname(),
                    steps=outlines(plan),
                    from_step=from_step,
                    force=force,
                ).save(folder)
            except OSError:
                shutil.rmtree(folder.path, ignore_errors=True)
                raise
        return folder.path.name

    def start(self, run_id: str) -> None:
        """Start a created run in a detached runner; returns when the runner has begun."""
        folder = self._existing(run_id)
        manifest = self._manifest(folder)
        self._launch(folder, manifest.from_step, manifest.force)

    def retry(self, run_id: str, from_step: str = "") -> str:
        """Continue a run that failed, was cancelled or lost its runner; returns its id.

        A step that still runs under its keeper is adopted, and one that has ended meanwhile is
        judged. With `from_step` that step and the following ones run again, whatever they are.
        """
        folder = self._existing(run_id)
        _check_step(self._plan(folder), from_step)
        self._launch(folder, from_step, False)
        return run_id

    def _launch(self, folder: RunFolder, from_step: str, force: bool) -> None:
        view = views.view(folder)
        if view.state is RunState.FOREIGN:
            raise Refused(f"run {view.id} is view only", why=view.error)
        if view.state is RunState.RUNNING or view.runner_pid is not None:
            raise Refused(f"run {view.id} is being executed already", fix="follow it, or cancel it")
        for other in self.views(view.deployment):
            if other.id != view.id and other.active:
                raise Refused(
                    f"run {other.id} of {view.deployment} is still {other.state}",
                    why="two runs of one deployment would write the same files",
                    fix=f"wait for it, or cancel {other.id}",
                )
        with self._in_words():
            private_folder(self.settings.folders.state)
            folder.cancel.unlink(missing_ok=True)
            storage.write_json(folder.starter, asdict(Identity.of(os.getpid())))
            try:
                self._start_runner(folder, from_step, force)
            finally:
                folder.starter.unlink(missing_ok=True)

    def _start_runner(self, folder: RunFolder, from_step: str = "", force: bool = False) -> None:
        # 2.4 MiB with what it needs, which a console that only looks at runs has no use for.
        from console.runs import runner

        asked = runner.request(folder.path, self.settings, from_step, force)
        # The whole environment, so that a step's secrets can be passed by name.
        detach.start("console.runs.runner", asked, env=os.environ)

    # -- ending -------------------------------------------------------------------------

    def cancel(self, run_id: str) -> None:
        """Ask for the end of the current step and of the run; returns at once.

        A run whose runner is gone gets one that ends what is left and says so.
        """
        folder = self._existing(run_id)
        view = views.view(folder)
        if view.state is RunState.FOREIGN:
            raise Refused(f"run {view.id} is view only", why=view.error)
        if not view.active and view.state is not RunState.INTERRUPTED:
            raise Refused(f"run {view.id} has ended already ({view.state})")
        try:
            folder.cancel.touch(mode=0o600)
        except OSError as error:
            # A disk that takes no more must not keep a run going.
            if not self._terminate(folder):
                raise storage.storage_error(error, folder.cancel) from error
        if view.state in (RunState.ORPHANED, RunState.INTERRUPTED):
            with self._in_words():
                self._start_runner(folder)

    def _terminate(self, folder: RunFolder) -> bool:
        runner_: Identity | None = views.fold(folder, self._manifest(folder)).runner
        return runner_ is not None and runner_.signal(signal.SIGTERM)

    def delete(self, run_id: str) -> None:
        """Remove the folder of a run that has ended; what it built stays in the work folder."""
        folder = self._existing(run_id)
        view = views.view(folder)
        if view.active or view.state is RunState.FOREIGN:
            raise Refused(f"run {view.id} is {view.state}", why=view.error, fix="cancel it first")
        with self._in_words():
            storage.discard(folder.path, MANIFEST)

    # -- helpers ------------------------------------------------------------------------

    def _existing(self, run_id: str) -> RunFolder:
        deployment, _, number = run_id.rpartition("-")
        try:
            folder = RunFolder(self.folder / f"{check_name(deployment)}-{check_name(number)}")
        except ValueError as error:
            raise UsageError(f"{clean(run_id)} is not a run's name", why=str(error)) from None
        if not folder.manifest.is_file():
            raise UsageError(f"no run {clean(run_id)}", fix="`tritondeck runs` lists them")
        return folder

    def _manifest(self, folder: RunFolder) -> Manifest:
        try:
            return load(folder)
        except Unreadable as problem:
            raise Refused("this run cannot be used", why=str(problem)) from problem

    def _plan(self, folder: RunFolder) -> Plan:
        with self._in_words():
            try:
                return Plan.model_validate_json(folder.plan.read_bytes())
            except ValueError as error:
                raise Refused(
                    "this run's plan cannot be read", why=clean(str(error))[:500]
                ) from error

    def _new_folder(self, deployment: str) -> tuple[RunFolder, int]:
        """A folder with a number that no run of this deployment has had, deleted ones included."""
        handle = storage.lock(self.folder / ".numbers.lock", "a run is being numbered", _PATIENCE)
        try:
            counts = storage.read_json(self.folder / NUMBERS) or {}
            number = max(self._highest(deployment), int(counts.get(deployment, 0))) + 1
            while (self.folder / f"{deployment}-{number}").exists():
                number += 1  # a run whose making was interrupted
            storage.write_json(self.folder / NUMBERS, {**counts, deployment: number})
            path = self.folder / f"{deployment}-{number}"
            path.mkdir(mode=0o700)
        finally:
            os.close(handle)
        return RunFolder(path), number

    def _highest(self, deployment: str) -> int:
        names = [run.path.name.rpartition("-") for run in views.folders(self.folder)]
        numbers = [int(n) for name, _, n in names if name == deployment and n.isdigit()]
        return max(numbers, default=0)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            named = error.filename if isinstance(error.filename, str) else ""
            raise storage.storage_error(error, Path(named or self.folder)) from error


def _check_step(plan: Plan, step: str) -> None:
    known = [one.id for one in plan.steps]
    if step and step not in known:
        raise UsageError(f"no step {clean(step)}", fix=f"steps: {', '.join(known)}")
