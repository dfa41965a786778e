"""Where the operator is on the guided path, and what they have chosen so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from console.checkpoints.model import Checkpoint
    from console.desk.desk import Desk
    from console.planning.deployment import Deployment


class Stage(IntEnum):
    """The steps of the guided path, by the digit that goes there; 0 is Home."""

    HOME = 0
    CHECKPOINT = 1
    ROUTE = 2
    OPTIONS = 3
    CHECK = 4
    BUILD = 5
    SERVE = 6
    TRY = 7

    @property
    def title(self) -> str:
        return self.name.capitalize()


@dataclass(frozen=True, slots=True)
class Flow:
    """What has been chosen; handed from screen to screen."""

    folder: str = ""
    """Where the checkpoint browser was."""
    checkpoint: Checkpoint | None = None
    deployment: Deployment | None = None
    name: str = ""
    """The deployment's name, also where only its name is known."""
    run: str = ""
    """Run id."""
    service: str = ""
    """Service id."""
    option: str = ""
    """Dotted deployment key that the next screen should put the cursor on."""
    tour: bool = False
    """Whether each screen explains its step."""

    def reaches(self, stage: Stage) -> bool:
        """Whether there is something to show at `stage` yet."""
        match stage:
            case Stage.HOME | Stage.CHECKPOINT:
                return True
            case Stage.ROUTE | Stage.OPTIONS:
                return bool(self.checkpoint or self.deployment)
            case Stage.CHECK:
                return self.deployment is not None
            case Stage.BUILD:
                return bool(self.run)
            case Stage.SERVE | Stage.TRY:
                return bool(self.service)


@dataclass(frozen=True, slots=True)
class ScreenContext:
    """What every screen is given: the use cases, and the two things that tests hold still."""

    desk: Desk
    clock: Callable[[], float]
    """Seconds since the epoch."""
    hostname: str
    start: str = field(default="")
    """Folder that the checkpoint browser opens first."""

    @property
    def readonly(self) -> bool:
        return self.desk.settings.readonly


class GoTo(Message):
    """A screen asks for another stage; the app answers it."""

    def __init__(self, stage: Stage, flow: Flow) -> None:
        super().__init__()
        self.stage = stage
        self.flow = flow
