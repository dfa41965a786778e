"""Deployment: everything the operator decided, one TOML file.

Options load raw here; the desk binds them to the backend's `Options`. Every error names the file,
the key, the line and what was expected. Edits keep the operator's comments (tomlkit).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from console.facts import UsageError
from console.text import clean
from console.tomllines import line_of, problems

__all__ = [
    "LOOPBACK",
    "NAME",
    "ChecksSection",
    "Deployment",
    "EnvironmentChoice",
    "ServerSection",
    "VerifyCase",
    "at_home",
    "check_name",
    "line_of",
    "load",
    "loads",
    "problems",
    "resolve",
]

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def check_name(name: str) -> str:
    """A name that is safe as a path component and as a Triton model name; `ValueError` otherwise."""
    if not NAME.match(name) or ".." in name:
        raise ValueError(
            "letters, digits, '.', '_' and '-', starting with a letter or digit, at most 128"
        )
    return name


Name = Annotated[str, AfterValidator(check_name)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSection(Section):
    """How the model is served. Port 0 means: find a free one when the server starts."""

    launcher: Literal["embedded", "local", "container", "attach"] = Field(
        "embedded",
        title="Launcher",
        description="What starts Triton: the server inside the nvidia-pytriton wheel, a local "
        "installation, a container; or nothing, for one that runs already.",
    )
    http_port: Port = Field(
        8000, title="HTTP port", description="Port for HTTP requests; 0 takes a free one."
    )
    grpc_port: Port = Field(
        8001, title="gRPC port", description="Port for gRPC requests; 0 takes a free one."
    )
    metrics_port: Port = Field(
        8002, title="Metrics port", description="Port for Prometheus figures; 0 takes a free one."
    )
    control: Literal["explicit", "none"] = Field(
        "explicit",
        title="Model control",
        description="explicit: models are loaded and unloaded by request. none: Triton loads "
        "everything in its repository when it starts.",
    )
    load_timeout: Annotated[float, Field(gt=0, le=86_400)] = Field(
        120.0,
        title="Load time limit",
        description="How long one model may take to load.",
        json_schema_extra={"unit": "s"},
    )
    log_verbose: Annotated[int, Field(ge=0, le=9)] = Field(
        0, title="Log verbosity", description="Triton's own verbose logging; 0 is off."
    )
    address: str = Field(
        "127.0.0.1",
        title="Address",
        description="Where it listens. Anything but loopback needs `expose`.",
    )
    expose: bool = Field(
        False,
        title="Expose",
        description="Allow an address that other machines reach. Triton asks nobody who they are.",
    )

    @model_validator(mode="after")
    def _loopback_or_said(self) -> ServerSection:
        if self.address not in LOOPBACK and not self.expose:
            raise ValueError(
                f"address {self.address} is not loopback: set expose = true to mean it"
            )
        ports = [p for p in (self.http_port, self.grpc_port, self.metrics_port) if p]
        if len(set(ports)) != len(ports):
            raise ValueError("http_port, grpc_port and metrics_port must differ")
        return self


class EnvironmentChoice(Section):
    """What the operator wants for one environment; empty means managed with the default Python."""

    python: str = Field(
        "",
        title="Python",
        description="An interpreter to create the managed environment with.",
    )
    use: str = Field(
        "",
        title="Existing environment",
        description="A folder of an environment that is used as it is, instead of a managed one.",
    )


class VerifyCase(Section):
    """One request whose answer is known: a file (sound, image, .npy) or a text, and the answer."""

    input: str = ""
    text: str = ""
    expect: str = ""
    """The exact answer; empty means any finite answer counts."""
    fields: dict[str, str] = Field(default_factory=dict)


class ChecksSection(Section):
    accept: tuple[str, ...] = ()
    """Names of checks whose failure the operator accepts."""


class Deployment(Section):
    """The operator's decisions. Paths are as written; `resolve` makes them absolute."""

    version: Literal[1] = 1
    name: Name
    backend: Name
    profile: str = ""
    """Profile of the settings that it was drafted with, for people; nothing is read from it."""
    checkpoints: dict[str, str]
    """Role (``model``, …) to path, ``hub:``, ``ngc:`` or ``nemo:`` id."""
    model_name: Name | None = None
    """Name of the served model; the deployment's name when absent."""
    options: dict[str, Any] = Field(default_factory=dict)
    server: ServerSection = ServerSection()
    environments: dict[str, EnvironmentChoice] = Field(default_factory=dict)
    checks: ChecksSection = ChecksSection()
    verify: tuple[VerifyCase, ...] = ()

    @property
    def served_name(self) -> str:
        return self.model_name or self.name


def load(path: Path) -> Deployment:
    """Read a deployment file; relative paths in it are relative to the file.

    Raises `UsageError` that names file, key, line and what was expected.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot read the deployment file {clean(str(path))}", why=error.strerror or str(error)
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{clean(str(path))} is not UTF-8 text", why=str(error)) from error
    return loads(text, path)


def loads(text: str, path: Path) -> Deployment:
    """Like `load`, from text that came (or will go) to `path`."""
    shown = clean(str(path))
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{shown}: not valid TOML", why=clean(str(error))) from error
    try:
        deployment = Deployment.model_validate(raw)
    except ValidationError as error:
        raise UsageError(
            f"{shown}: {error.error_count()} wrong value(s)",
            why="; ".join(problems(error, text)),
            fix="the deployment format is described in docs/deployment-file.md",
        ) from error
    return resolve(deployment, path.parent)


def at_home(path: Path) -> Path:
    """`path` with ``~`` and ``~user`` filled in; as it is where there is no such user."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def resolve(deployment: Deployment, folder: Path) -> Deployment:
    """Make checkpoint and verify paths absolute, relative to `folder`."""

    def absolute(value: str) -> str:
        if not value or value.startswith(("hub:", "ngc:", "nemo:")):
            return value
        return str((folder / at_home(Path(value))).absolute())

    return deployment.model_copy(
        update={
            "checkpoints": {r: absolute(p) for r, p in deployment.checkpoints.items()},
            "verify": tuple(
                c.model_copy(update={"input": absolute(c.input)}) for c in deployment.verify
            ),
        }
    )
