"""Deployment: everything the operator decided, one TOML file.

Options load raw here; the desk binds them to the backend's `Options`. Every error names the file,
the key, the line and what was expected. Edits keep the operator's comments (tomlkit).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from console.facts import UsageError
from console.planning.server import LOOPBACK, Section, ServerSection
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

SERVER_PATHS = ("image_tar", "path", "backend_directory", "ca_file", "token_file", "repository")
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")


def check_name(name: str) -> str:
    """A name that is safe as a path component and as a Triton model name; `ValueError` otherwise."""
    if not NAME.match(name) or ".." in name:
        raise ValueError(
            "letters, digits, '.', '_' and '-', starting with a letter or digit, at most 128"
        )
    return name


Name = Annotated[str, AfterValidator(check_name)]


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
    """Make checkpoint, verify and server paths absolute, relative to `folder`."""

    def absolute(value: str) -> str:
        if not value or value.startswith(("hub:", "ngc:", "nemo:")):
            return value
        return str((folder / at_home(Path(value))).absolute())

    server = deployment.server
    places = {name: absolute(getattr(server, name)) for name in SERVER_PATHS}
    if "/" not in server.path:
        places["path"] = server.path  # a program's name, looked up on PATH
    changed = {name: value for name, value in places.items() if value != getattr(server, name)}
    return deployment.model_copy(
        update={
            "server": server.model_copy(update=changed) if changed else server,
            "checkpoints": {r: absolute(p) for r, p in deployment.checkpoints.items()},
            "verify": tuple(
                c.model_copy(update={"input": absolute(c.input)}) for c in deployment.verify
            ),
        }
    )
