"""Choosing a checkpoint for one role of a deployment whose route takes several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from textual import on, work
from textual.message import Message

from console.checkpoints.model import Checkpoint
from console.desk.desk import RouteView
from console.facts import UsageError
from console.planning.deployment import Deployment
from screens.base import DeckScreen
from screens.flow import Stage
from screens.phrase import Phrase, say

_KEY = "checkpoints."


class RoleChoice(DeckScreen):
    """A screen that chooses checkpoints: the one of a new deployment, or of a role of a drafted one."""

    class Filled(Message):
        """The deployment with the checkpoint in its role."""

        def __init__(self, deployment: Deployment) -> None:
            super().__init__()
            self.deployment = deployment

    @property
    def role(self) -> str:
        """The role that a checkpoint is looked for; empty for a new deployment."""
        wanted = self.flow.deployment is not None and self.flow.option.startswith(_KEY)
        return self.flow.option.removeprefix(_KEY) if wanted else ""

    @property
    def looking_for(self) -> Phrase:
        """``looking for language of pair``, where it is one role."""
        if not self.role or self.flow.deployment is None:
            return Phrase()
        return say("looking for ", "dim") + say(f"{self.role} of {self.flow.deployment.name}")

    def routes_for(self, whole: Checkpoint) -> tuple[RouteView, ...]:
        """The routes that take it; in a role only what the deployment's own says of all of them."""
        deployment = self.flow.deployment
        if not self.role or deployment is None:
            return self.desk.routes({"model": whole})
        chosen = {r: self.desk.inspect(Path(p)) for r, p in deployment.checkpoints.items()}
        routes = self.desk.routes({**chosen, self.role: whole})
        return tuple(route for route in routes if route.name == deployment.backend)

    @work(thread=True, exclusive=True, exit_on_error=False, group="fill")
    def fill_role(self, checkpoint: Checkpoint) -> None:
        """Put the checkpoint in its role, and go back to the form."""
        assert self.flow.deployment is not None, "a role is one of a deployment"
        changes = {self.flow.option: str(checkpoint.path)}
        changed, problems = self.desk.with_options(self.flow.deployment, changes)
        if problems:
            raise UsageError(problems[0].message)
        self.tell(self.Filled(changed))

    @on(Filled)
    def _filled(self, message: Filled) -> None:
        self.go(Stage.OPTIONS, replace(self.flow, deployment=message.deployment))
