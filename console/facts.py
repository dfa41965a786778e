"""Frozen types and Protocols that several rooms share. Imports nothing of ours but `console.prompts`.

They carry data from one room to the next; none of them does anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from console.prompts import TextAnswer, TextRequest


class DeckError(Exception):
    """An error that an operator can act on: what happened, why, and what to do next.

    `title` is one line in words; `why` the cause with its figure; `fix` the next action; `raw` the
    foreign text behind it (already cleaned), one key away on the screen. `exit_code` is what the
    command line ends with (see `docs/command-line.md`).
    """

    exit_code = 1

    def __init__(self, title: str, *, why: str = "", fix: str = "", raw: str = "") -> None:
        super().__init__(title)
        self.title = title
        self.why = why
        self.fix = fix
        self.raw = raw

    def __str__(self) -> str:
        text = f"{self.title}: {self.why}" if self.why else self.title
        return f"{text} ({self.fix})" if self.fix else text


class UsageError(DeckError):
    """The operator's words or files are wrong: unknown names, invalid TOML, missing files."""

    exit_code = 2


class Refused(DeckError):
    """A check failed, so nothing was started."""

    exit_code = 3


class Level(StrEnum):
    """How a check ended. `fail` blocks a deployment unless accepted by name; `unknown` warns."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of one check, with its number, its source and a one-line fix."""

    check: str
    """Stable kebab-case name, the one that `[checks] accept` lists: ``disk``, ``port-http``."""
    level: Level
    summary: str
    figure: str = ""
    """The number behind it, with unit: ``3.1 GiB free, 2.4 GiB needed``."""
    source: str = ""
    """Where the number or rule comes from."""
    fix: str = ""
    option: str = ""
    """Dotted deployment key that `fix` is about (``server.http_port``), where there is one."""
    accepted: bool = False
    """A failure that the operator accepted by name: shown, does not block."""

    @property
    def blocks(self) -> bool:
        return self.level is Level.FAIL and not self.accepted


# ---------------------------------------------------------------------------- host and tools


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU as NVML tells it; memory in bytes, v2 figures (`used` without `reserved`)."""

    index: int
    uuid: str
    name: str
    memory_total: int
    memory_used: int
    memory_reserved: int = 0
    compute_capability: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """What this machine has; bytes throughout."""

    hostname: str
    system: str
    """``Debian GNU/Linux 12 (bookworm)``"""
    kernel: str
    machine: str
    """``x86_64`` or ``aarch64``"""
    glibc: tuple[int, int] | None
    cpus: int
    memory_total: int
    memory_available: int
    shm_total: int
    shm_free: int
    python: str
    gpus: tuple[Gpu, ...] = ()
    gpu_note: str = ""
    """Why there is no GPU figure, in words: ``no NVIDIA driver on this host``."""
    driver: str = ""
    cuda: str = ""


@dataclass(frozen=True, slots=True)
class EnvironmentFacts:
    """What is really installed in one managed or named environment."""

    name: str
    python: Path
    python_version: str
    packages: Mapping[str, str]
    """Normalised distribution name to version."""
    size: int | None = None
    """Bytes on disk, None when not counted."""


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """What probing found: environments, the flags that tools accept, Triton backends present."""

    environments: Mapping[str, EnvironmentFacts] = field(default_factory=dict)
    flags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Tool name to its accepted long flags (``tritonserver`` → ``--http-port`` …)."""
    triton_version: str = ""
    triton_backends: frozenset[str] = frozenset()
    """Triton backends of the chosen launcher: ``python``, ``onnxruntime`` …"""
    triton_program: str = ""
    """The program or image that was asked; empty when nothing was, and data was taken instead."""
    triton_problem: str = ""
    """Why the chosen launcher's server cannot be used, in words."""
    stub_python: str = ""
    """Python (``3.10``) of the server's model processes, where it was asked."""
    server_packages: Mapping[str, str] | None = None
    """Packages that models find in the server's own Python (an image's); None where not asked."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Path to text of the installed scripts that a route asked for, those that could be read."""


# ---------------------------------------------------------------------------- tensors and answers


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A model's input or output. `dtype` is Triton's wire name (``FP32``, ``INT64``, ``BYTES``).

    `shape` holds -1 for dynamic dimensions and *includes* the batch dimension where there is one,
    as Triton's metadata endpoint reports it. `optional` inputs may be left out.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """One served model, from ``GET /v2/models/M`` and ``/config``."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The configuration's ``parameters``: ours carry ``tritondeck_*`` keys that name the adapter."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where something answers. Never holds a token: `token_file` names the 0600 file that does."""

    url: str
    """``http://127.0.0.1:8000``"""
    kind: str = "triton"
    grpc_url: str = ""
    metrics_url: str = ""
    token_file: Path | None = None
    token_env: str = ""
    """Name of the environment variable that holds the token, where no file does."""
    token_header: str = "triton-access-token"
    ca_file: Path | None = None
    """Certificates to trust over https in place of the system's."""
    ours: bool = False
    manage: bool = True
    """Whether models may be loaded and unloaded there."""


@dataclass(frozen=True, slots=True)
class TensorValue:
    """A concrete tensor of a request. Exactly one of `values` and `file` is given.

    `values`: flat, row-major (numbers, booleans or strings for BYTES). `file`: its raw content is
    the single element of a BYTES tensor, or for numeric dtypes an ``.npy`` array, whose shape it then
    is where -1 stands in `shape`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: tuple[Any, ...] | None = None
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """One request to one model; `outputs` empty means all of them."""

    model: str
    inputs: tuple[TensorValue, ...]
    version: str = ""
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TensorAnswer:
    """One output tensor: flat values (BYTES decoded as UTF-8, replacement characters kept)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class InferenceAnswer:
    """What the server said. `latency` is seconds from sending to the whole answer."""

    model: str
    version: str
    outputs: tuple[TensorAnswer, ...]
    latency: float


Request = InferenceRequest | TextRequest
Answer = InferenceAnswer | TextAnswer


class FieldKind(StrEnum):
    """What the Try screen offers for one field of a prompt form."""

    TEXT = "text"
    SOUND = "sound"
    IMAGE = "image"
    VIDEO = "video"
    """A video, or a picture as one frame."""
    TENSOR = "tensor"
    CHOICE = "choice"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class PromptField:
    """One field of the form that a prompt adapter asks for."""

    name: str
    kind: FieldKind
    title: str
    help: str = ""
    required: bool = True
    default: str = ""
    choices: tuple[str, ...] = ()


@runtime_checkable
class PromptAdapter(Protocol):
    """Turns what a person types or picks into a request, and an answer into what they read."""

    @property
    def fields(self) -> Sequence[PromptField]: ...

    def request(self, values: Mapping[str, str]) -> Request:
        """Build the request; raises `UsageError` naming the field that is wrong. A `TextRequest`
        is answered with text that the screen shows as it arrives."""
        ...

    def answer(self, answer: InferenceAnswer) -> str:
        """The answer as text for a person (already cleaned)."""
        ...


class Progress(Protocol):
    """How long work reports: what it does, how far it is (0…1, or None when unknown)."""

    def __call__(self, message: str, fraction: float | None = None) -> None: ...


CancelCheck = Callable[[], bool]
"""Asked between units of work; True means: stop, clean up and return what is there."""
