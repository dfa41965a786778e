"""Plan and Step: the ordered work that a deployment means on this host, as pure data.

Making a plan runs nothing and writes nothing. It is saved as JSON in the run folder, rendered as a
shell script (`planning.script`), shown on the screen, and executed by `console.runs`.

`${work}` is the deployment's own folder (artefacts outlive a run there, which is what lets a later
run skip unchanged steps), `${token_file}` the 0600 file of this launch's token, `${env_<name>}` an
environment's folder, `${image_<name>}` an image's reference; every other variable is declared by the
plan.

A command runs on the host, in a managed environment or in an image (`Command.runtime`). What a
command in an image needs beside its argv is a `Container`; `planning.containers` turns both into
the words of ``docker run`` or ``podman run``, for the script and for the run alike.

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
    """A tensor of a saved request; exactly one of `values` and `file` (template: path).

    A `shape` with -1 is that of the ``.npy`` file, which a step before makes.
    """

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
    near_file: str | None = None
    """Template: an ``.npy`` of float32 or float64 values. The 2-norm of the difference may be
    `tolerance` of their own; a file without values compares nothing."""
    tolerance: float = 1e-4
    shape: tuple[int, ...] | None = None
    finite: bool = True
    text: str = ""
    """What a text output must be, without the spaces around; empty: any."""
    never: str = ""
    """What no text of it may begin with: servers that answer with their errors."""


class Inference(Frozen):
    """A saved inference request and what its answer must be: the only proof that a model serves."""

    kind: Literal["inference"] = "inference"
    title: str
    model: str
    inputs: tuple[SavedTensor, ...]
    expect: tuple[Expected, ...]
    timeout: float = 60.0

    def indexed(self) -> tuple[dict[str, Any], list[str]]:
        """The request as the script's helper takes it: files by their places in a list."""
        files: list[str] = []

        def entry(one: SavedTensor | Expected, key: str) -> dict[str, Any]:
            said = one.model_dump(mode="json")
            if (file := said.pop(key)) is not None:
                said[key] = len(files)
                files.append(file)
            return said

        spec = {
            "model": self.model,
            "timeout": self.timeout,
            "inputs": [entry(tensor, "file") for tensor in self.inputs],
            "expect": [entry(expected, "near_file") for expected in self.expect],
        }
        return spec, files


class TextAnswered(Frozen):
    """A request for text and what its answer must be: the proof that a language model serves.

    `body` is sent as JSON to `path` of the service; `answer` is the dotted place of the text in what
    comes back (``choices.0.message.content``). `equals` is compared without the spaces around; empty
    means that any text counts, but one that begins with `never`.
    """

    kind: Literal["text"] = "text"
    title: str
    path: str = Field(pattern=r"^/")
    body: dict[str, Any]
    answer: str
    equals: str = ""
    never: str = ""
    """What the text may not begin with: servers that answer with their errors."""
    timeout: float = 120.0


Probe = Annotated[
    ExitCode | FileExists | JsonFile | LogMarker | UrlReady | Inference | TextAnswered,
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


class ImageStep(StepBase):
    """Make the image `image` (a name of `Plan.images`) exist in the engine: load, pull or build it.

    Nothing else ever pulls: commands run with ``--pull never``.
    """

    kind: Literal["image"] = "image"
    image: str


class WriteStep(StepBase):
    """Write files, each atomically."""

    kind: Literal["write"] = "write"
    files: tuple[FileSpec, ...]


class Mount(Frozen):
    """A bind mount, always rendered as ``--mount type=bind,…`` and never as ``-v``.

    `source` (template) is an absolute path of the host and must exist when the command starts;
    `create` makes it as a folder of the caller's. `target` (template) is a path in the container.
    Mounting a folder at its own path lets the argv name host paths.
    """

    source: str
    target: str
    read_only: bool = False
    create: bool = False


class PublishedPort(Frozen):
    """A TCP port of the container on an address of the host; `host` is a template.

    The server inside must listen on all of *its* addresses; only `address` is reachable.
    """

    host: str
    container: int = Field(ge=1, le=65535)
    address: str = "127.0.0.1"


Size = Annotated[str, Field(pattern=r"^([0-9]+[bkmg]?)?$")]
"""Bytes as the engines take them: ``512m``, ``4g``; empty for the engine's default."""


class Container(Frozen):
    """What a command in an image needs beside its argv; hardened by default.

    Every default is one that Triton's python backend was seen to run under. `/tmp` must stay
    writable (without it the server dies at its start) and `pids` must not go below 512.
    """

    mounts: tuple[Mount, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    gpus: str = Field(default="", pattern=r"^(all|[A-Za-z0-9-]+(,[A-Za-z0-9-]+)*)?$")
    """Empty for none, ``all``, or indices or UUIDs with commas between."""
    user: str = Field(default="", pattern=r"^([0-9]+:[0-9]+)?$")
    """``uid:gid``; empty for the caller's, which owns the files that are mounted."""
    workdir: str = ""
    """Template; a path in the container, empty for the image's. `Command.cwd` is not used."""
    shm_size: Size = "1g"
    memory: Size = ""
    """Limit; the swap limit is the same, so that it is one."""
    cpus: str = Field(default="", pattern=r"^([0-9]+(\.[0-9]+)?)?$")
    pids: int = Field(default=4096, ge=512)
    ulimits: tuple[str, ...] = ()
    """``memlock=-1``, ``stack=67108864``."""
    read_only: bool = True
    tmpfs: tuple[str, ...] = ("/tmp",)
    drop_capabilities: bool = True
    no_new_privileges: bool = True
    init: bool = True
    """A small init as process 1, which passes signals on and collects what models leave."""
    network: Literal["", "host", "none"] = ""
    """Empty for the engine's bridge."""
    entrypoint: str = ""
    """Empty for the image's."""

    @model_validator(mode="after")
    def _reachable(self) -> Container:
        if self.network and self.ports:
            raise ValueError(f"network {self.network} publishes no ports")
        if any(not m.target.startswith(("/", "$")) for m in self.mounts):
            raise ValueError("a mount's target is an absolute path in the container")
        return self


IMAGE = "image:"
"""Prefix of a `Command.runtime` that names an image of the plan."""


class Command(Frozen):
    """One process: argv list (templates), never a shell string.

    `runtime` is ``host``, ``environment:<name>`` (its `bin` is first on PATH and ``${env_<name>}``
    its folder) or ``image:<name>`` (a name of `Plan.images`; `argv` goes to the image's entry
    point, `container` says the rest). `env` adds to the allow-list of `console.runtimes`; a
    container gets `env` and `secrets` alone. `secrets` are names of environment variables passed
    through by name. Names in `env` and `secrets` of a container hold no newline in their values.
    """

    argv: tuple[str, ...] = Field(min_length=1)
    runtime: str = "host"
    env: dict[str, str] = Field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    nodes: int = Field(1, ge=1)
    """Machines that it is started on, once each. With several the plan has the variables
    ``node_rank`` (0 on the machine that serves) and ``master_addr``."""
    cwd: str = "${work}"
    container: Container | None = None
    """Only with ``image:``; None there means `Container()`."""

    @model_validator(mode="after")
    def _container_has_image(self) -> Command:
        if self.container is not None and not self.image:
            raise ValueError("a container needs the runtime image:<name>")
        return self

    @property
    def image(self) -> str:
        """Name of the image that it runs in; empty when it runs in none."""
        return self.runtime.removeprefix(IMAGE) if self.runtime.startswith(IMAGE) else ""

    @property
    def variables(self) -> frozenset[str]:
        """Every variable that filling it in takes, those that `runtime` stands for included."""
        used = _used(self.model_dump(mode="python"))
        return used | {"engine", image_variable(self.image)} if self.image else used


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

    `stop_timeout` is what the server gets after SIGTERM before SIGKILL. With the launcher ``attach``
    there is no command: the server is somebody else's, and is only known here.
    """

    name: str
    kind: Literal["triton", "openai"] = "triton"
    """What it speaks: Triton's protocol, or OpenAI's (vLLM's own server, Ray Serve, NeMo's)."""
    launcher: Literal["embedded", "local", "container", "attach"] = "embedded"
    command: Command | None = None
    http_url: str
    grpc_url: str = ""
    metrics_url: str = ""
    more_urls: tuple[str, ...] = ()
    """Templates: what else it listens on; ports are found or refused as those of the others."""
    token_file: str = ""
    """Template; empty when the server has no restricted endpoints."""
    token_env: str = ""
    """Name of the variable that holds the token of an attached server, where no file does."""
    token_header: str = "triton-access-token"
    ca_file: str = ""
    """Template: the certificates that an attached server's is checked against."""
    manage: bool = True
    """Whether models may be loaded and unloaded; False for servers that are only observed."""
    repository: str
    shm_prefix: str = ""
    """Prefix of this server's /dev/shm regions; the supervisor removes them at its end."""
    stop_timeout: float = 40.0
    models: tuple[str, ...] = ()
    version: str = ""
    """Template: of a server that loads everything when it starts, the version that it is to load; a
    new one is a reason to start it anew. Empty where models are loaded by request."""
    restart: Literal["no", "on-failure"] = "no"
    restart_limit: int = Field(default=5, ge=1)
    """Restarts within an hour, before it stays down."""
    probe_seconds: float = Field(default=0.0, ge=0)
    """Seconds between two requests that look whether its models still answer; 0: none are sent."""

    @model_validator(mode="after")
    def _started_or_attached(self) -> ServiceSpec:
        if (self.command is None) != (self.launcher == "attach"):
            raise ValueError("a server has a command unless it is attached")
        return self

    @property
    def process(self) -> Command:
        """The command of a server that is started; `ValueError` for an attached one."""
        if self.command is None:
            raise ValueError("an attached server has no command")
        return self.command


class JoinStep(StepBase):
    """Find the living server of another deployment, which takes our models; starts nothing.

    The plan's variables of kind ``joined`` are values of that server. The step fails when a model of
    ours has the name of one that another deployment put there.
    """

    kind: Literal["join"] = "join"
    service: str
    """What later steps call it."""
    deployment: str
    http_url: str
    models: tuple[str, ...]
    always: bool = True


class ServiceStep(StepBase):
    """Start (or adopt) a service and wait for its success probes."""

    kind: Literal["service"] = "service"
    service: ServiceSpec
    always: bool = True


class LoadStep(StepBase):
    """Load models through the model-control API of `service`, one request each.

    With `version` (template) the configuration that stands in each model's version folder is put in
    its place first. Where an older version serves, the new one is loaded beside it, under a name of
    its own, and `SwitchStep` takes it into use once it is verified. Models that others call come
    first.
    """

    kind: Literal["load"] = "load"
    service: str
    models: tuple[str, ...]
    version: str = ""
    model_timeout: float = 120.0
    always: bool = True


class VerifyStep(StepBase):
    """Send saved requests to `service`; nothing runs, the success probes are the work."""

    kind: Literal["verify"] = "verify"
    service: str
    always: bool = True


class SwitchStep(StepBase):
    """Let the verified version answer: the version policy names it, without a gap between the two.

    The older versions stay on disk, for a rollback, until they are pruned.
    """

    kind: Literal["switch"] = "switch"
    service: str
    models: tuple[str, ...]
    version: str
    model_timeout: float = 120.0
    always: bool = True


Step = Annotated[
    EnvironmentStep
    | ImageStep
    | WriteStep
    | CommandStep
    | JoinStep
    | ServiceStep
    | LoadStep
    | VerifyStep
    | SwitchStep,
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
    whole: bool = False
    """The lock names everything: nothing is resolved (``--no-deps``). For packages whose own
    requirements cannot be met together, or would bring what breaks them."""

    @property
    def digest(self) -> str:
        """Twelve hex digits over everything that decides what is installed."""
        words = (*self.pre, "--", *self.requirements, "--", *self.constraints, "--", self.python)
        if self.whole:
            words = (*words, "--no-deps")
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


class ImageSpec(Frozen):
    """A container image that commands of the plan run in; ``${image_<name>}`` is its `tag`.

    `reference` is what a registry knows (``nvcr.io/nvidia/tritonserver:24.10-py3``), `digest`
    (``sha256:…``) pins it. `tar` (absolute path) is an archive of ``docker save`` to load it from
    where no registry is reached; a registry's digest is lost in one, so `digest` is the image's id
    then (``docker image inspect --format '{{.Id}}'``). With `requirements` it is a derived image,
    built here: `base` (a reference that the engine has) with these Python requirements installed.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    reference: str = ""
    title: str = ""
    digest: str = Field(default="", pattern=r"^(sha256:[0-9a-f]{64})?$")
    tar: str = ""
    base: str = ""
    requirements: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> ImageSpec:
        if bool(self.base) != bool(self.requirements):
            raise ValueError("base and requirements go together")
        if not (self.reference or self.base):
            raise ValueError("give a reference or a base")
        if self.base and (self.digest or self.tar):
            raise ValueError("a derived image is built, neither pulled nor loaded")
        return self

    @property
    def tag(self) -> str:
        """What the engine is asked for: the pinned or plain reference, or the derived image's tag."""
        if self.base:
            words = "\n".join((self.base, *self.requirements))
            made = f"tritondeck/{self.name}:{hashlib.sha256(words.encode()).hexdigest()[:12]}"
            return self.reference or made
        if self.digest and not self.tar:
            plain = self.reference.partition("@")[0]
            head, colon, last = plain.rpartition(":")
            return f"{head if colon and '/' not in last else plain}@{self.digest}"
        return self.reference


def image_variable(name: str) -> str:
    """The plan variable that holds an image's reference: ``server`` → ``image_server``."""
    return f"image_{name.replace('-', '_')}"


class Plan(Frozen):
    """Everything a run needs, and everything the script needs.

    `engine` is the container engine of the plan's images; ``auto`` takes docker when its daemon
    answers, else podman. A run settles it once, at its start, as the variable ``${engine}``.
    """

    version: Literal[1] = 1
    deployment: str
    backend: str
    variables: tuple[Variable, ...] = ()
    environments: tuple[EnvironmentSpec, ...] = ()
    images: tuple[ImageSpec, ...] = ()
    engine: Literal["auto", "docker", "podman"] = "auto"
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
        known |= {image_variable(image.name) for image in self.images} | {"engine"}
        for step in self.steps:
            if (image := _image_of(step)) and image not in {i.name for i in self.images}:
                raise ValueError(f"step {step.id}: no such image: {image}")
            unknown = _used(step.model_dump(mode="python")) - known
            if unknown:
                raise ValueError(f"step {step.id}: no such variable: {', '.join(sorted(unknown))}")
        return self

    def step(self, step_id: str) -> Step:
        return next(step for step in self.steps if step.id == step_id)


def _image_of(step: Step) -> str:
    if isinstance(step, ImageStep):
        return step.image
    if isinstance(step, CommandStep):
        return step.command.image
    if isinstance(step, ServiceStep) and step.service.command is not None:
        return step.service.command.image
    return ""


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
