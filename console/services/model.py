"""What a service looks like to those who watch it: frozen views, read from its folder and probes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from console.facts import Endpoint


class ServiceState(StrEnum):
    """Process states. What the server itself says (live, ready, models) is `triton.health`'s."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    """It crashed, and is started again after a pause."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"
    """Its supervisor and its process are gone without an exit status (reboot, kill -9 of both)."""
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class ServiceView:
    id: str
    deployment: str
    launcher: str
    state: ServiceState
    folder: Path
    log: Path
    endpoint: Endpoint
    repository: Path
    models: tuple[str, ...]
    """Models that the deployment loads."""
    pid: int | None = None
    started: float = 0.0
    uptime: float | None = None
    exit_status: int | None = None
    reason: str = ""
    """Why it failed or stopped, in words."""

    @property
    def living(self) -> bool:
        """Whether it may answer; an attached server has no process of ours."""
        return self.state in (
            ServiceState.STARTING,
            ServiceState.RUNNING,
            ServiceState.RESTARTING,
            ServiceState.STOPPING,
        )
