"""What can be done with a server: models loaded, unloaded, rolled back, removed; a shell; its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message

from console.desk.desk import ServerView
from console.desk.shell import CONTAINER
from console.runtimes.host import Launch
from console.services.model import ServiceView
from screens import outside
from screens.base import DeckScreen
from screens.confirm import ConfirmScreen
from screens.phrase import Phrase, lines, say

CHANGING = ("load", "unload", "rollback", "remove", "stop", "shell")
"""Actions that do not exist with ``--readonly``."""


class ServingActs(DeckScreen):
    """Acts on one server; a screen shows it and says which model has the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "load", "Load", id="serve.load", tooltip="Load the model under the cursor"),
        Binding(
            "u", "unload", "Unload", id="serve.unload", tooltip="Unload the model under the cursor"
        ),
        Binding(
            "b",
            "rollback",
            "Roll back",
            id="serve.rollback",
            tooltip="Let the version before the live one answer again",
        ),
        Binding("x", "stop", "Stop", id="serve.stop", tooltip="Stop the server"),
        Binding(
            "exclamation_mark",
            "shell",
            "Shell",
            id="serve.shell",
            tooltip="A shell in its container, or in the environment that it runs in",
        ),
        Binding(
            "delete",
            "remove",
            "Remove",
            show=False,
            id="serve.remove",
            tooltip="Take the deployment's models out of the server",
        ),
    ]

    class Did(Message):
        """Something that was asked for is done, or how far it is."""

        def __init__(self, words: str, result: str = "") -> None:
            super().__init__()
            self.words = words
            self.result = result
            """What came of it; empty while it goes on."""

    class Entering(Message):
        """A shell, ready to be started."""

        def __init__(self, launch: Launch) -> None:
            super().__init__()
            self.launch = launch

    server: ServerView | None = None
    """The server as it was seen last."""
    busy = ""
    """What is being done with it."""

    @property
    def model(self) -> str:
        """Name of the model under the cursor."""
        raise NotImplementedError

    def draw(self) -> None:
        raise NotImplementedError

    def look(self) -> object:
        raise NotImplementedError

    def allowed(self, action: str) -> bool:
        """Whether one of `CHANGING` makes sense for the server as it is now."""
        seen = self.server
        if seen is None or self.context.readonly:
            return False
        match action:
            case "load" | "unload":
                there = seen.service.living and seen.control and bool(self.model)
                return there and self._ready(self.model) is (action == "unload")
            case "rollback":
                return seen.versions is not None and bool(seen.versions.previous)
            case "remove":
                return seen.versions is not None
            case "stop":
                return seen.service.living and not self.watched
            case _:
                return not self.watched and bool(seen.service.deployment)

    @property
    def watched(self) -> bool:
        """Whether it is somebody else's that is only looked at from here."""
        return self.server is not None and self.server.watched

    def _ready(self, model: str) -> bool:
        health = self.server.health if self.server else None
        return any(m.ready for m in (health.models if health else ()) if m.name == model)

    @property
    def deployment(self) -> str:
        """The deployment that this server is looked at for; another's server may serve it."""
        return self.flow.name or (self.server.service.deployment if self.server else "")

    def _ask(self, title: str, explanation: Phrase, act: Callable[[], object]) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                act()

        self.app.push_screen(ConfirmScreen(title, explanation), answered)

    def _begin(self, words: str) -> None:
        self.busy = words
        self.draw()

    def _progress(self, message: str, fraction: float | None = None) -> None:
        self.tell(self.Did(message))

    @on(Did)
    def _did(self, message: Did) -> None:
        self.busy = message.words
        if message.result:
            self.notify(message.result, markup=False, timeout=6)
        self.draw()
        self.look()

    # -- models

    def action_load(self) -> None:
        self._control(self.model, True)

    def action_unload(self) -> None:
        model = self.model
        explanation = say("Requests to it are refused until it is loaded again.")
        self._ask(f"Unload {model}", explanation, lambda: self._control(model, False))

    def _control(self, model: str, load: bool) -> None:
        assert self.server is not None, "the action is absent without a server"
        self._begin(f"{'loading' if load else 'unloading'} {model} …")
        self._ask_control(self.server.service, model, load)

    @work(thread=True, exclusive=True, exit_on_error=False, group="act")
    def _ask_control(self, view: ServiceView, model: str, load: bool) -> None:
        act = self.desk.load_model if load else self.desk.unload_model
        try:
            act(view.endpoint, model)
        finally:
            self.tell(self.Did(""))

    # -- versions

    def action_rollback(self) -> None:
        versions = self.server.versions if self.server else None
        if versions is None:
            return
        name, live, back = versions.deployment, versions.live, versions.previous
        explanation = say(
            f"Version {live} answers now. Version {back} is loaded beside it, takes over without a "
            "refused request, and is asked what verified it. The same key goes forward again."
        )
        title = f"Roll {name} back to version {back}"
        self._ask(title, explanation, lambda: self._roll(name))

    def _roll(self, name: str) -> None:
        self._begin(f"rolling {name} back …")
        self._rollback(name)

    @work(thread=True, exclusive=True, exit_on_error=False, group="act")
    def _rollback(self, name: str) -> None:
        said = ""
        try:
            now = self.desk.rollback(name, progress=self._progress)
            answer = f": {now.answer}" if now.answer else ""
            said = f"version {now.live} of {name} is live{answer}"
        finally:
            self.tell(self.Did("", said))

    def action_remove(self) -> None:
        name = self.deployment
        explanation = lines(
            say("Its models are unloaded, and every version goes to the trash folder."),
            say("The server itself goes on, with the models of others."),
        )
        self._ask(f"Remove the models of {name}", explanation, lambda: self._take_out(name))

    def _take_out(self, name: str) -> None:
        self._begin(f"removing {name} …")
        self._remove(name)

    @work(thread=True, exclusive=True, exit_on_error=False, group="act")
    def _remove(self, name: str) -> None:
        said = ""
        try:
            said = f"removed {', '.join(self.desk.remove(name, self._progress))}"
        finally:
            self.tell(self.Did("", said))

    # -- the server

    def action_stop(self) -> None:
        assert self.server is not None, "the action is absent without a server"
        service = self.server.service
        words = "Requests end here. A new run of the deployment starts it again."
        if not service.endpoint.ours:
            words = "The server goes on: it is somebody else's, and only forgotten here."
        title = f"Stop the server of {service.deployment}"
        self._ask(title, say(words), lambda: self._stop(service.id))

    @work(thread=True, exclusive=True, exit_on_error=False, group="act")
    def _stop(self, service: str) -> None:
        try:
            self.desk.stop(service, self._progress)
        finally:
            self.tell(self.Did(""))

    def action_shell(self) -> None:
        assert self.server is not None, "the action is absent without a server"
        self._enter(self.deployment, CONTAINER if self.server.container else "")

    @work(thread=True, exclusive=True, exit_on_error=False, group="shell")
    def _enter(self, name: str, environment: str) -> None:
        self.tell(self.Entering(self.desk.shell(name, environment)))

    @on(Entering)
    def _entering(self, message: Entering) -> None:
        self.lend(lambda: outside.become(self.app, message.launch))
