"""`Desk`: the use cases that the command line and the screens both call.

A thin façade: each method imports its module when it is called, so that a verb pays only for what
it uses. Methods block (files, HTTP, processes); screens call them from workers. Every error that an
operator can cause is a `DeckError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.facts import (
    CancelCheck,
    Endpoint,
    EnvironmentFacts,
    Host,
    InferenceAnswer,
    InferenceRequest,
    ModelMetadata,
    Progress,
    PromptAdapter,
    Verdict,
)
from console.settings import Settings

if TYPE_CHECKING:
    from pydantic import BaseModel

    from console.checkpoints.model import Checkpoint
    from console.planning.deployment import Deployment
    from console.planning.plan import Plan
    from console.runs.model import RunView
    from console.services.model import ServiceView
    from console.telemetry.sample import Sample
    from console.triton.health import ServerHealth


@dataclass(frozen=True, slots=True)
class RouteView:
    """One backend's answer for the chosen checkpoints."""

    name: str
    title: str
    verdict: Verdict
    origin: str = ""
    """Distribution and version that it comes from."""


@dataclass(frozen=True, slots=True)
class OptionField:
    """One field of a backend's `Options`, ready for a form, a flag or a schema.

    `kind`: ``int``, ``float``, ``bool``, ``text``, ``choice``, ``int-list``, ``path``.
    """

    name: str
    title: str
    help: str
    group: str
    kind: str
    default: Any
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    flag: str = ""


@dataclass(frozen=True, slots=True)
class OptionProblem:
    """One invalid option: which field, what was expected."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """One line of Home: a saved deployment with its last run and its service."""

    name: str
    file: Path
    checkpoint: str
    backend: str
    run: RunView | None
    service: ServiceView | None
    problem: str = ""
    """Why the file could not be read, in words."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All verdicts of one check, in the order of severity."""

    verdicts: tuple[Verdict, ...]
    elapsed: float

    @property
    def blocks(self) -> bool:
        return any(v.blocks for v in self.verdicts)


class Desk:
    """The use cases. One object a process; holds settings and nothing else that changes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    # -- inspect ------------------------------------------------------------------------

    def inspect(self, path: Path) -> Checkpoint:
        """Facts of one checkpoint; raises `UsageError` in words for what is none."""
        raise NotImplementedError

    def browse(self, folder: Path, cancelled: CancelCheck | None = None) -> tuple[Checkpoint, ...]:
        """The checkpoints directly in `folder`, sub-folders as `Format.UNKNOWN` entries with task
        ``folder``; sorted by name."""
        raise NotImplementedError

    def routes(self, checkpoints: Mapping[str, Checkpoint]) -> tuple[RouteView, ...]:
        """Every backend with its verdict on these checkpoints, accepting ones first."""
        raise NotImplementedError

    # -- configure ----------------------------------------------------------------------

    def option_fields(self, backend: str) -> tuple[OptionField, ...]:
        """The backend's options in form order."""
        raise NotImplementedError

    def draft(self, checkpoint: Path, backend: str = "", name: str = "") -> Deployment:
        """A deployment with suggested options for a checkpoint, not yet saved."""
        raise NotImplementedError

    def with_options(
        self, deployment: Deployment, changes: Mapping[str, Any]
    ) -> tuple[Deployment, tuple[OptionProblem, ...]]:
        """`deployment` with changed options (texts from a form are parsed); problems if invalid,
        and then the deployment is returned unchanged."""
        raise NotImplementedError

    def options(self, deployment: Deployment) -> BaseModel:
        """The deployment's options bound to its backend; `UsageError` names what is wrong."""
        raise NotImplementedError

    def deployments(self) -> tuple[DeploymentView, ...]:
        """Saved deployments with their state, the most recent first."""
        raise NotImplementedError

    def open(self, name_or_file: str) -> Deployment:
        """A saved deployment by name, or a deployment file by path."""
        raise NotImplementedError

    def save(self, deployment: Deployment, file: Path | None = None) -> Path:
        """Write the deployment, keeping the comments of an existing file."""
        raise NotImplementedError

    def forget(self, name: str) -> None:
        """Move a saved deployment and its runs to the trash folder; refused while it serves."""
        raise NotImplementedError

    # -- check and plan -----------------------------------------------------------------

    def host(self) -> Host:
        """What this machine has, now."""
        raise NotImplementedError

    def check(self, deployment: Deployment, progress: Progress | None = None) -> CheckReport:
        """Every verdict on this deployment here; starts nothing."""
        raise NotImplementedError

    def doctor(self) -> CheckReport:
        """Verdicts on this machine alone: libpython, GPU, disk, shared memory, environments."""
        raise NotImplementedError

    def plan(self, deployment: Deployment) -> Plan:
        """The plan; runs nothing."""
        raise NotImplementedError

    def script(self, deployment: Deployment) -> str:
        """The plan as a shell script that works without tritondeck."""
        raise NotImplementedError

    # -- runs ---------------------------------------------------------------------------

    def deploy(self, deployment: Deployment, *, from_step: str = "", force: bool = False) -> str:
        """Check, save and start a detached run; returns its id. `Refused` when a check blocks.

        `from_step` runs that step and the following ones even when unchanged; `force` all of them.
        """
        raise NotImplementedError

    def runs(self, deployment: str = "") -> tuple[RunView, ...]:
        """Runs, the newest first."""
        raise NotImplementedError

    def run(self, run_id: str) -> RunView:
        """One run as its folder tells it now; cheap enough to call four times a second."""
        raise NotImplementedError

    def cancel(self, run_id: str) -> None:
        """Ask the runner to end the current step and stop; returns at once."""
        raise NotImplementedError

    def retry(self, run_id: str, from_step: str = "") -> str:
        """Continue a run that failed, was cancelled or lost its runner; returns the run's id."""
        raise NotImplementedError

    def delete_run(self, run_id: str) -> None:
        """Remove a finished run's folder."""
        raise NotImplementedError

    def log_file(self, run_id: str, step: str) -> Path:
        """The log of one step (it may not exist yet)."""
        raise NotImplementedError

    def telemetry(self, run_id: str) -> tuple[Sample, ...]:
        """Host and GPU memory as the run's recorder saw it, oldest first."""
        raise NotImplementedError

    def sample(self) -> Sample:
        """Host and GPU figures now (a few milliseconds; never from the event loop)."""
        raise NotImplementedError

    # -- services -----------------------------------------------------------------------

    def services(self) -> tuple[ServiceView, ...]:
        """Services of ours, living ones first."""
        raise NotImplementedError

    def service(self, name_or_id: str) -> ServiceView:
        """A service by id or by its deployment's name (the newest)."""
        raise NotImplementedError

    def health(self, endpoint: Endpoint) -> ServerHealth:
        """Live, ready and per-model state, as three different facts."""
        raise NotImplementedError

    def stop(self, name_or_id: str, progress: Progress | None = None) -> ServiceView:
        """Stop a service and wait for its end."""
        raise NotImplementedError

    def load_model(self, endpoint: Endpoint, model: str) -> None:
        raise NotImplementedError

    def unload_model(self, endpoint: Endpoint, model: str) -> None:
        raise NotImplementedError

    # -- query --------------------------------------------------------------------------

    def metadata(self, endpoint: Endpoint, model: str) -> ModelMetadata:
        raise NotImplementedError

    def adapter(self, endpoint: Endpoint, metadata: ModelMetadata) -> PromptAdapter:
        """The prompt form for a model: its backend's, or the tensor form."""
        raise NotImplementedError

    def infer(self, endpoint: Endpoint, request: InferenceRequest) -> InferenceAnswer:
        """Send one request over HTTP (the token is not needed for inference)."""
        raise NotImplementedError

    def as_curl(self, endpoint: Endpoint, request: InferenceRequest) -> str:
        """The request as a curl command."""
        raise NotImplementedError

    def as_python(self, endpoint: Endpoint, request: InferenceRequest) -> str:
        """The request as a Python program with tritonclient."""
        raise NotImplementedError

    # -- environments -------------------------------------------------------------------

    def environments(self, sizes: bool = True) -> tuple[EnvironmentFacts, ...]:
        """Managed environments on this host."""
        raise NotImplementedError

    def remove_environment(self, name: str) -> int:
        """Remove one by name; returns bytes freed. Refused while a run or service uses it."""
        raise NotImplementedError

    def follow(self, run_id: str, poll: float = 0.25) -> Iterator[RunView]:
        """Yield the run each time it changes, until it has ended."""
        raise NotImplementedError
