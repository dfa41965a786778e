"""Plan and Step: the ordered work that a deployment means on this host, as pure data.

Making a plan runs nothing and writes nothing. It is saved as JSON in the run folder, rendered as a
shell script (`planning.script`), shown on the screen, and executed by `console.runs`.

`${work}` is the deployment's own folder (artefacts outlive a run there, which is what lets a later
run skip unchanged steps), `${token_file}` the 0600 file of this launch's token, `${env_<name>}` an
environment's folder; every other variable is declared by the plan.

Strings marked *template* may hold ``${variable}`` placeholders (see `planning.variables`); literal
text in them has been through `variables.literal`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from console.planning.variables import Variable, names


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}: {pattern!r}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_regular_expression)]
"""A regular expression of Python's `re`; a broken one is refused when the plan is made."""

# ---------------------------------------------------------------------------- probes of success


class ExitCode(Frozen):
    """The command ended with this code (never enough alone: upstream exit codes lie)."""

    kind: Literal["exit_code"] = "exit_code"
    code: int = 0


class FileExists(Frozen):
    """`path` (template) is a regular file of at least `min_bytes`."""

    kind: Literal["file"] = "file"
    path: str
    min_bytes: int = 1


class JsonFile(Frozen):
    """`path` (template) is a JSON object and `expect` holds: dotted key → required value.

    A dict value ``{"max": 1e-4}`` or ``{"min": 0.95}`` is a bound. This is how an export worker's
    own comparison (ONNX Runtime against PyTorch) becomes a fact of the run.
    """

    kind: Literal["json"] = "json"
    path: str
    expect: dict[str, Any]


class LogMarker(Frozen):
    """The step's log holds this regular expression (`absent`: must not hold it)."""

    kind: Literal["log"] = "log"
    pattern: Pattern
    absent: bool = False


class UrlReady(Frozen):
    """GET `url` (template) answers `status` within `timeout` seconds; the token header is sent."""

    kind: Literal["url"] = "url"
    url: str
    status: int = 200
    timeout: float = 60.0


class SavedTensor(Frozen):
    """A tensor of a saved request; exactly one of `values` and `file` (template: path)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: tuple[Any, ...] | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> SavedTensor:
        if (self.values is None) == (self.file is None):
            raise ValueError("give exactly one of values and file")
        return self


class Expected(Frozen):
    """What one output must be: `equals` flat values, or within `tolerance` of `near`, or only `shape`."""

    output: str
    equals: tuple[Any, ...] | None = None
    near: tuple[float, ...] | None = None
    tolerance: float = 1e-4
    shape: tuple[int, ...] | None = None
    finite: bool = True


class Inference(Frozen):
    """A saved inference request and what its answer must be: the only proof that a model serves."""

    kind: Literal["inference"] = "inference"
    title: str
    model: str
    inputs: tuple[SavedTensor, ...]
    expect: tuple[Expected, ...]
    timeout: float = 60.0


Probe = Annotated[
    ExitCode | FileExists | JsonFile | LogMarker | UrlReady | Inference,
    Field(discriminator="kind"),
]

# ---------------------------------------------------------------------------- steps


class InputFile(Frozen):
    """A file or folder that a step's outcome depends on (template path)."""

    path: str


class FileSpec(Frozen):
    """One file to write. `text` is literal (no template) unless `template` is set."""

    path: str
    text: str
    mode: int = 0o600
    template: bool = False


class StepBase(Frozen):
    id: str = Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")
    title: str
    why: str = ""
    """One sentence for a first-timer: what this step is for."""
    inputs: tuple[InputFile, ...] = ()
    outputs: tuple[str, ...] = ()
    """Template paths that exist afterwards; a step whose key is unchanged and whose outputs still
    exist is skipped."""
    success: tuple[Probe, ...] = ()
    timeout: float | None = None
    """Seconds after which the step is cancelled and failed."""
    always: bool = False
    """Never skipped, even when unchanged (starting a service, verifying)."""


class EnvironmentStep(StepBase):
    """Make the managed environment `environment` exist (a name of `Plan.environments`)."""

    kind: Literal["environment"] = "environment"
    environment: str


class WriteStep(StepBase):
    """Write files, each atomically."""

    kind: Literal["write"] = "write"
    files: tuple[FileSpec, ...]


class Command(Frozen):
    """One process: argv list (templates), never a shell string.

    `runtime` is ``host`` or ``environment:<name>`` (its `bin` is first on PATH and ``${env_<name>}``
    its folder). `env` adds to the allow-list of `console.runtimes`; `secrets` are names of
    environment variables passed through by name.
    """

    argv: tuple[str, ...] = Field(min_length=1)
    runtime: str = "host"
    env: dict[str, str] = Field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    cwd: str = "${work}"


class ProgressRule(Frozen):
    """How a log line becomes progress: `pattern` has groups ``fraction`` (0…100) and/or ``message``."""

    pattern: Pattern


class CommandStep(StepBase):
    """Run one command to its end; its output is the step's log."""

    kind: Literal["command"] = "command"
    command: Command
    progress: ProgressRule | None = None


class ServiceSpec(Frozen):
    """A long-lived server that `console.services` starts and supervises.

    `stop_timeout` is what the server gets after SIGTERM before SIGKILL. `pid_is_group`: the
    supervisor signals the whole process group.
    """

    name: str
    kind: Literal["triton"] = "triton"
    launcher: Literal["embedded", "local", "container", "attach"] = "embedded"
    command: Command
    http_url: str
    grpc_url: str = ""
    metrics_url: str = ""
    token_file: str = ""
    """Template; empty when the server has no restricted endpoints."""
    repository: str
    shm_prefix: str = ""
    """Prefix of this server's /dev/shm regions; the supervisor removes them at its end."""
    stop_timeout: float = 40.0
    models: tuple[str, ...] = ()


class ServiceStep(StepBase):
    """Start (or adopt) a service and wait for its success probes."""

    kind: Literal["service"] = "service"
    service: ServiceSpec
    always: bool = True


class LoadStep(StepBase):
    """Load models through the model-control API of `service`, one request each."""

    kind: Literal["load"] = "load"
    service: str
    models: tuple[str, ...]
    model_timeout: float = 120.0
    always: bool = True


class VerifyStep(StepBase):
    """Send saved requests to `service`; nothing runs, the success probes are the work."""

    kind: Literal["verify"] = "verify"
    service: str
    always: bool = True


Step = Annotated[
    EnvironmentStep | WriteStep | CommandStep | ServiceStep | LoadStep | VerifyStep,
    Field(discriminator="kind"),
]

# ---------------------------------------------------------------------------- environments, plan


class EnvironmentSpec(Frozen):
    """A Python environment that steps run in.

    `requirements` are the lines of its lock (from `backends/catalog/environments.toml`), `pre` the
    lines installed before them in a call of their own (torch's pinned wheel). `python` names an
    interpreter that the operator chose; `existing` an environment of the operator's, used as it is.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    title: str
    requirements: tuple[str, ...]
    pre: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    python: str = ""
    python_range: str = ">=3.10"
    existing: str = ""
    imports: tuple[str, ...] = ()
    """Modules that must import for the environment to count as finished."""

    @property
    def digest(self) -> str:
        """Twelve hex digits over everything that decides what is installed."""
        words = (*self.pre, "--", *self.requirements, "--", *self.constraints, "--", self.python)
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


class Plan(Frozen):
    """Everything a run needs, and everything the script needs."""

    version: Literal[1] = 1
    deployment: str
    backend: str
    variables: tuple[Variable, ...] = ()
    environments: tuple[EnvironmentSpec, ...] = ()
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    """Decisions worth a sentence: which serving form was chosen and why."""

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        ids = [step.id for step in self.steps]
        if len(set(ids)) != len(ids):
            raise ValueError("two steps have the same id")
        known = {v.name for v in self.variables} | {"work", "token_file"}
        known |= {f"env_{e.name.replace('-', '_')}" for e in self.environments}
        for step in self.steps:
            unknown = _used(step.model_dump(mode="python")) - known
            if unknown:
                raise ValueError(f"step {step.id}: no such variable: {', '.join(sorted(unknown))}")
        return self

    def step(self, step_id: str) -> Step:
        return next(step for step in self.steps if step.id == step_id)


def _used(value: Any) -> frozenset[str]:
    """Variables used anywhere in a dumped step, literal file texts aside."""
    if isinstance(value, str):
        return names(value)
    if isinstance(value, dict):
        if "text" in value and "template" in value and not value["template"]:
            return names(value["path"])
        return frozenset().union(*(_used(v) for v in value.values()), frozenset())
    if isinstance(value, list | tuple):
        return frozenset().union(*(_used(v) for v in value), frozenset())
    return frozenset()


def join(*parts: str) -> str:
    """Join template path parts with slashes."""
    return str(PurePosixPath(*parts))
