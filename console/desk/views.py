"""Frozen views that the desk hands to the command line and to the screens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.facts import Verdict

if TYPE_CHECKING:
    from console.runs.model import RunView
    from console.services.lifecycle import Lifecycle
    from console.services.model import ServiceView
    from console.triton.health import ServerHealth


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
    role: str = ""
    """What a single checkpoint would be in it, where the route takes several."""


@dataclass(frozen=True, slots=True)
class OptionField:
    """One field of a backend's `Options`, ready for a form, a flag or a schema.

    `kind`: ``int``, ``float``, ``bool``, ``text``, ``choice``, ``int-list``, ``path``,
    ``checkpoint``. `choices` of a ``text`` are suggestions; an empty choice is "none".
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
    launchers: tuple[str, ...] = ()
    """Launchers that read it; empty for every one."""


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
    seen: bool = True
    """False: nothing is known yet of its service, or its file could not be read at a glance."""
    trouble: str = ""
    """What is wrong with its running server that the server does not say, in words."""


@dataclass(frozen=True, slots=True)
class VersionView:
    """One verified version of a deployment's models. `verified` in seconds since the epoch."""

    number: int
    models: tuple[str, ...]
    run: str
    verified: float
    live: bool


@dataclass(frozen=True, slots=True)
class VersionsView:
    """The versions that are on disk, the oldest first."""

    deployment: str
    live: int
    previous: int
    """Where a rollback goes; 0 for nowhere."""
    versions: tuple[VersionView, ...]
    service: str
    """Id of the server that they are served by; empty for none."""
    answer: str = ""
    """What the live version answered when it was asked just now, in words."""


@dataclass(frozen=True, slots=True)
class ContainerView:
    """The container that a server runs in."""

    engine: str
    """``docker`` or ``podman``."""
    name: str
    image: str
    id: str
    """Empty until it was started."""
    unreachable: str = ""
    """Why the engine does not answer, in words; the container may live on."""
    oom_kills: int = 0
    """Processes in it that the kernel ended for want of memory."""


@dataclass(frozen=True, slots=True)
class ServerView:
    """One server, as its folder and one look at it tell."""

    service: ServiceView
    life: Lifecycle
    health: ServerHealth | None = None
    """What it says of itself; None where it was not asked."""
    versions: VersionsView | None = None
    """Of the deployment that it is looked at for; None where none was verified."""
    container: ContainerView | None = None
    tunnel: str = ""
    """The ssh command for the operator's own machine; empty where none is needed."""
    control: bool = False
    """Whether models may be loaded and unloaded there."""
    watched: bool = False
    """Whether it is an attached server, of which nothing but its name is kept here."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All verdicts of one check, in the order of severity."""

    verdicts: tuple[Verdict, ...]
    elapsed: float

    @property
    def blocks(self) -> bool:
        return any(v.blocks for v in self.verdicts)


@dataclass(frozen=True, slots=True)
class DiffEntry:
    """One thing that differs, in words; an empty side does not have it.

    `section`: ``deployment``, ``options``, ``versions``, ``keys``, ``timings``, ``outcome``.
    """

    section: str
    key: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class DiffView:
    """What differs between two deployments or runs."""

    left: str
    right: str
    entries: tuple[DiffEntry, ...]
    text: str
    """Unified difference of the two deployment files."""


@dataclass(frozen=True, slots=True)
class CleanItem:
    """One thing of ours that takes space. `size` in bytes, `age` in seconds since its last change."""

    kind: str
    name: str
    path: Path
    size: int
    age: float
    safe: bool
    reason: str
    """Why it is safe to remove, or why it stays."""
    removed: bool = False


@dataclass(frozen=True, slots=True)
class CleanReport:
    items: tuple[CleanItem, ...]

    @property
    def removable(self) -> int:
        """Bytes of what is safe to remove and still there."""
        return sum(item.size for item in self.items if item.safe and not item.removed)

    @property
    def freed(self) -> int:
        return sum(item.size for item in self.items if item.removed)
