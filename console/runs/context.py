"""What a step's work gets: values, folders, and the runner's ears for cancel and timeout."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from console import storage
from console.facts import DeckError
from console.planning.plan import CommandStep, EnvironmentSpec, ImageSpec, Plan, Step
from console.planning.variables import expand
from console.runs.folder import RunFolder
from console.runs.journal import Journal
from console.runs.keys import Key
from console.runtimes import engines
from console.runtimes.engine import Engine
from console.runtimes.environments import Environments
from console.settings import Settings
from console.text import clean, human_seconds, redact

T = TypeVar("T")
_PROGRESS_INTERVAL = 0.25


class Cancelled(Exception):
    """Somebody asked to cancel; raised out of the step's work."""


@dataclass
class Run:
    """One attempt at a plan: what all its steps share."""

    id: str
    deployment: str
    folder: RunFolder
    plan: Plan
    values: dict[str, str]
    settings: Settings
    journal: Journal
    attempt: int
    asked_to_stop: Callable[[], bool]
    services: dict[str, str] = field(default_factory=dict)
    """Name of a `ServiceSpec` to the id of the service that runs it."""
    staged: dict[str, str] = field(default_factory=dict)
    """Models whose new version is loaded beside the one that answers: to the name that it has there
    until it is verified."""
    watch_memory_of: Callable[[int | None], None] = lambda pid: None
    """Tells the telemetry recorder which process tree is the step's."""

    def save_values(self) -> None:
        storage.write_json(self.folder.values, {"version": 1, "values": self.values})


@dataclass
class Context:
    """One step at work."""

    run: Run
    step: Step
    reason: str = ""
    """Why it was not skipped."""
    message: str = ""
    """What there is to say when it is done: figures of its probes."""
    before: float = 0.0
    """Seconds that an adopted command had run before this runner saw it."""
    deadline: float | None = None
    _last_write: float = 0.0

    def __post_init__(self) -> None:
        if self.step.timeout is not None:
            self.deadline = time.monotonic() + self.step.timeout

    def path(self, template: str) -> Path:
        return Path(self.expand(template))

    def expand(self, template: str) -> str:
        """Fill in the variables; `DeckError` for one that has no value yet."""
        try:
            return expand(template, self.run.values)
        except KeyError as error:
            raise self.unknown(str(error.args[0])) from None

    def unknown(self, name: str) -> DeckError:
        return DeckError(
            f"the value of {clean(name)} is not known at this step",
            why="ports and the token exist once the service has started",
        )

    @cached_property
    def environments(self) -> Environments:
        return Environments(self.run.settings)

    def environment_spec(self, name: str) -> EnvironmentSpec:
        for spec in self.run.plan.environments:
            if spec.name == name:
                return spec
        raise DeckError(f"the plan has no environment {clean(name)}")

    @cached_property
    def engine(self) -> Engine:
        """The engine of the plan's images."""
        return engines.engine(self.run.values["engine"])

    def image_spec(self, name: str) -> ImageSpec:
        for spec in self.run.plan.images:
            if spec.name == name:
                return spec
        raise DeckError(f"the plan has no image {clean(name)}")

    def secret_values(self) -> tuple[str, ...]:
        """Values that must not be shown: the secrets that this step's command gets by name."""
        if not isinstance(self.step, CommandStep):
            return ()
        return tuple(os.environ[name] for name in self.step.command.secrets if name in os.environ)

    @property
    def log(self) -> Path:
        return self.run.folder.log(self.step.id)

    # -- the journal --------------------------------------------------------------------

    def note_kept(self, folder: str, key: Key | None) -> None:
        """A keeper's folder belongs to this step, and what the step's key was when it started."""
        self._note("kept", folder=folder, key=asdict(key) if key else None)

    def note_probe(self, kind: str, met: bool, text: str) -> None:
        self._note("probe", kind=kind, met=met, text=text)

    def note_service(self, name: str, service_id: str, values: dict[str, str]) -> None:
        """The service runs: its ports and token file are values from now on, its log is ours."""
        self.run.services[name] = service_id
        self.run.values |= values
        self.run.save_values()
        self._note("service", name=name, id=service_id)
        log = self.run.settings.folders.services / service_id / "server.log"
        self._note("log", path=str(log))

    def note_answer(self, text: str) -> None:
        self._note("answer", text=text)

    def _note(self, event: str, **fields: Any) -> None:
        self.run.journal.append(event, step=self.step.id, **fields)

    # -- what people see ----------------------------------------------------------------

    def say(self, line: str) -> None:
        """Add a line to the step's log (work of ours that has no process with an output)."""
        handle = storage.open_log(self.log)
        try:
            os.write(handle, redact(clean(line)).encode() + b"\n")
        finally:
            os.close(handle)

    def progress(self, message: str, fraction: float | None = None) -> None:
        """Show what is being done; at most four times a second reaches the disk."""
        self.shown(message, fraction)

    def shown(self, message: str, fraction: float | None = None) -> bool:
        """Like `progress`; False when it was too soon after the one before."""
        now = time.monotonic()
        if now - self._last_write < _PROGRESS_INTERVAL:
            return False
        self._last_write = now
        value: dict[str, Any] = {
            "step": self.step.id,
            "attempt": self.run.attempt,
            "fraction": fraction,
            "message": clean(message)[:300],
        }
        data = storage.json_bytes(value)
        with suppress(OSError):  # for display only; a full disk is told by what has to be written
            storage.write_private(self.run.folder.progress, data, durable=False)
        return True

    # -- cancel and timeout -------------------------------------------------------------

    def check(self) -> None:
        """Raise `Cancelled` when asked to stop, `DeckError` when the step's time is over."""
        if self.run.asked_to_stop():
            raise Cancelled
        if self.deadline is not None and time.monotonic() > self.deadline:
            limit = human_seconds(self.step.timeout or 0)
            raise DeckError(
                f"it took longer than its limit of {limit}",
                fix="see in its log how far it came; retry when the machine is less busy",
            )

    def patiently(self, call: Callable[[], T], each: Callable[[], object] | None = None) -> T:
        """Do a blocking call and still hear cancel and timeout.

        The call runs in a thread of its own that is left behind when the step ends before it; it
        ends with the runner. `each` is asked in between and may raise.
        """
        box: list[T] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                box.append(call())
            except BaseException as error:  # noqa: BLE001 - raised again in the runner's thread
                failed.append(error)

        thread = threading.Thread(target=work, name=f"step-{self.step.id}", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            if thread.is_alive():
                self.check()
                if each:
                    each()
        if failed:
            raise failed[0]
        return box[0]
