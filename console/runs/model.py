"""What a run looks like to those who watch it: frozen views, read from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class StepState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunState(StrEnum):
    """`interrupted`: the runner is gone and no step's keeper is left; it can be continued.
    `orphaned`: the runner is gone but a step still runs under its keeper; it can be adopted."""

    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    ORPHANED = "orphaned"
    FOREIGN = "foreign"
    """Another host's run: view only."""


@dataclass(frozen=True, slots=True)
class StepView:
    id: str
    title: str
    kind: str
    state: StepState
    why: str = ""
    started: float | None = None
    """Seconds since the epoch, for display; durations come from `elapsed`."""
    elapsed: float | None = None
    """Seconds, monotonic where one runner saw both ends."""
    fraction: float | None = None
    message: str = ""
    reason: str = ""
    """Why it was skipped, why it was not skipped, or why it failed."""
    fix: str = ""
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class RunView:
    id: str
    deployment: str
    number: int
    """1 for the deployment's first run."""
    state: RunState
    folder: Path
    steps: tuple[StepView, ...]
    started: float
    elapsed: float
    error: str = ""
    fix: str = ""
    service: str = ""
    """Id of the service that the run started, where it did."""
    answer: str = ""
    """What the verified request answered, in words."""
    runner_pid: int | None = None

    @property
    def current(self) -> StepView | None:
        return next((s for s in self.steps if s.state is StepState.RUNNING), None)

    @property
    def fetches_only(self) -> bool:
        """Whether it brings checkpoints here and nothing else: another run builds from them."""
        return bool(self.steps) and self.steps[-1].id.startswith("fetch-")

    @property
    def active(self) -> bool:
        return self.state in (RunState.STARTING, RunState.RUNNING, RunState.ORPHANED)
