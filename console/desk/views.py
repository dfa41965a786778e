"""Frozen views that the desk hands to the command line and to the screens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.facts import Verdict

if TYPE_CHECKING:
    from console.runs.model import RunView
    from console.services.model import ServiceView


@dataclass(frozen=True, slots=True)
class BackendView:
    """One export backend as the registry lists it; not imported for that."""

    name: str
    origin: str
    """Distribution and version that it comes from."""


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
    profile: str = ""
    """Profile of the settings that it was drafted with."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All verdicts of one check, in the order of severity."""

    verdicts: tuple[Verdict, ...]
    elapsed: float

    @property
    def blocks(self) -> bool:
        return any(v.blocks for v in self.verdicts)
