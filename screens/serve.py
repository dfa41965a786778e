"""Step 6: a server: live, ready and each model apart; load, unload, stop; its log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar
from urllib.parse import urlsplit

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from console.services.model import ServiceState, ServiceView
from console.text import human_seconds
from console.triton.health import ServerHealth
from screens import outside, states
from screens.base import DeckScreen
from screens.confirm import ConfirmScreen
from screens.flow import Flow, ScreenContext, Stage
from screens.phrase import Phrase, join, lines, say
from screens.widgets.logpane import LogPane
from screens.widgets.table import Column, DeckTable, Listing, Row
from screens.widgets.words import Words

_LIVING = (ServiceState.STARTING, ServiceState.RUNNING, ServiceState.STOPPING)
_EMPTY = lines(
    say("No model is known to this server.", "strong"),
    say("Models of the repository appear here once the server answers."),
)


class ServeScreen(DeckScreen):
    """One service of ours and what its server says about itself."""

    STAGE = Stage.SERVE
    LIVE = True
    AREA = "serve"
    HELP = (
        "live: the process answers. ready: the server takes requests. A model's own state is a "
        "third thing, and only an answered request (7 Try) proves that it serves."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "forward", "Try", id="forward", tooltip="Send this model a request"),
        Binding("l", "load", "Load", id="serve.load", tooltip="Load the model under the cursor"),
        Binding(
            "u", "unload", "Unload", id="serve.unload", tooltip="Unload the model under the cursor"
        ),
        Binding("x", "stop", "Stop", id="serve.stop", tooltip="Stop the server"),
        Binding(
            "y",
            "copy",
            "Tunnel",
            id="copy",
            tooltip="Show and copy the ssh tunnel and addresses",
        ),
        Binding("e", "outside", "Pager", show=False, id="edit", tooltip="The log in your pager"),
    ]

    WORDS = ("live", "readiness", "server", "explicit model control", "loopback", "token (access)")

    class Seen(Message):
        """The service, and what its server says (None while no process runs)."""

        def __init__(self, view: ServiceView, health: ServerHealth | None) -> None:
            super().__init__()
            self.view = view
            self.health = health

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, ServeScreen.Seen)

    class Did(Message):
        """Something that was asked for is done, or how far it is."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    def __init__(self, context: ScreenContext, flow: Flow) -> None:
        super().__init__(context, flow)
        self._view: ServiceView | None = None
        self._health: ServerHealth | None = None
        self._busy = ""

    def body(self) -> Iterable[Widget]:
        yield Words(id="serve-title", classes="title")
        yield Words(id="serve-facts")
        yield Listing(
            Column("MODEL", 28),
            Column("STATE", 15),
            Column("VERSION", 8, right=True),
            Column("REASON"),
            empty=_EMPTY,
            id="models",
        )
        yield LogPane(id="log")

    def on_mount(self) -> None:
        self.query_one(Listing).table.focus()
        self.every(1.0, self.look)

    @work(thread=True, exclusive=True, exit_on_error=False, group="look")
    def look(self) -> None:
        view = self.desk.service(self.flow.service)
        health = self.desk.health(view.endpoint) if view.state in _LIVING else None
        if _told(view) != _told(self._view) or health != self._health:
            self.tell(self.Seen(view, health))

    @on(Seen)
    def _seen(self, message: Seen) -> None:
        self._view, self._health = message.view, message.health
        self.move(replace(self.flow, name=message.view.deployment))
        self._draw()
        self.query_one(LogPane).open(message.view.launcher, message.view.log)
        self.refresh_keys()

    def _draw(self) -> None:
        if self._view is None:
            return
        title = _title(self._view, self._health, self._busy)
        self.query_one("#serve-title", Words).show(title)
        facts = _facts(self._view, self._health, self.context.hostname)
        self.query_one("#serve-facts", Words).show(facts)
        models = self._health.models if self._health else ()
        self.query_one(Listing).show(
            [
                Row(
                    m.name,
                    (
                        say(m.name, "strong"),
                        states.model(m),
                        say(m.version or "–", "dim"),
                        say(m.reason, "dim"),
                    ),
                )
                for m in models
            ]
        )

    # -- acting on it

    @property
    def _model(self) -> str:
        return self.query_one(Listing).table.chosen

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        living = self._view is not None and self._view.state in _LIVING
        if action in ("load", "unload"):
            ours = self._view is not None and self._view.endpoint.token_file is not None
            allowed = living and ours and bool(self._model) and not self.context.readonly
            return allowed and self._ready(self._model) is (action == "unload")
        if action == "stop":
            return living and not self.context.readonly
        if action == "forward":
            return living
        return True

    def _ready(self, model: str) -> bool:
        models = self._health.models if self._health else ()
        return any(m.ready for m in models if m.name == model)

    @on(DeckTable.RowHighlighted)
    def _moved(self) -> None:
        self.refresh_keys()

    @on(DeckTable.RowSelected)
    def _selected(self) -> None:
        self.action_forward()

    def action_forward(self) -> None:
        if self._view is not None and self._view.state in _LIVING:
            self.go(Stage.TRY, replace(self.flow, option=self._model))

    def action_load(self) -> None:
        self._control(self._model, True)

    def action_unload(self) -> None:
        model = self._model

        def answered(yes: bool | None) -> None:
            if yes:
                self._control(model, False)

        explanation = say("Requests to it are refused until it is loaded again.")
        self.app.push_screen(ConfirmScreen(f"Unload {model}", explanation), answered)

    def _control(self, model: str, load: bool) -> None:
        assert self._view is not None, "the action is absent without a server"
        self._busy = f"{'loading' if load else 'unloading'} {model} …"
        self._draw()
        self._ask_control(self._view, model, load)

    @work(thread=True, exclusive=True, exit_on_error=False, group="act")
    def _ask_control(self, view: ServiceView, model: str, load: bool) -> None:
        act = self.desk.load_model if load else self.desk.unload_model
        try:
            act(view.endpoint, model)
        finally:
            self.tell(self.Did(""))

    def action_stop(self) -> None:
        def answered(yes: bool | None) -> None:
            if yes and self._view is not None:
                self._stop(self._view.id)

        explanation = say("Requests end here. A new run of the deployment starts it again.")
        name = self._view.deployment if self._view else ""
        self.app.push_screen(ConfirmScreen(f"Stop the server of {name}", explanation), answered)

    @work(thread=True, exclusive=True, exit_on_error=False, group="act")
    def _stop(self, service: str) -> None:
        def progress(message: str, fraction: float | None = None) -> None:
            self.tell(self.Did(message))

        try:
            self.desk.stop(service, progress)
        finally:
            self.tell(self.Did(""))

    @on(Did)
    def _did(self, message: Did) -> None:
        self._busy = message.words
        self._draw()
        self.look()

    def action_outside(self) -> None:
        if self._view is not None:
            self.open_outside(outside.pager, self._view.log)

    def action_back(self) -> None:
        self.go(Stage.BUILD if self.flow.run else Stage.HOME)

    def action_copy(self) -> None:
        if self._view is not None:
            tunnel = tunnel_line(self._view, self.context.hostname)
            addresses = "\n".join(f"{name:8}{url}" for name, url in _addresses(self._view))
            self.show_copy("From your laptop", ("ssh tunnel", tunnel), ("addresses", addresses))


def _told(view: ServiceView | None) -> object:
    """The view without what changes every second and is not shown by the second."""
    return view and replace(view, uptime=None)


def _addresses(view: ServiceView) -> list[tuple[str, str]]:
    end = view.endpoint
    found = [("http", end.url), ("grpc", end.grpc_url), ("metrics", end.metrics_url)]
    return [(name, url) for name, url in found if url]


def _port(url: str) -> int | None:
    return urlsplit(url if "//" in url else f"//{url}").port


def tunnel_line(view: ServiceView, hostname: str, *, every: bool = True) -> str:
    """The ssh command that brings the server's ports, or only HTTP's, to the operator's machine."""
    addresses = _addresses(view) if every else _addresses(view)[:1]
    ports = [port for _, url in addresses if (port := _port(url))]
    forwards = " ".join(f"-L {port}:127.0.0.1:{port}" for port in ports)
    return f"ssh -N {forwards} {hostname}"


def _title(view: ServiceView, health: ServerHealth | None, busy: str) -> Phrase:
    up = say(
        f"up {human_seconds(int(view.uptime) // 60 * 60)}"
        if view.uptime and view.uptime >= 60
        else "",
        "dim",
    )
    return join(
        say(view.deployment, "strong"),
        say(f"{view.launcher} Triton"),
        states.service(view.state),
        states.fact("live", health.live) if health else Phrase(),
        states.fact("ready", health.ready) if health else Phrase(),
        say(f"version {health.version}" if health and health.version else "", "dim"),
        up,
        say(busy, "accent"),
    )


def _facts(view: ServiceView, health: ServerHealth | None, hostname: str) -> Phrase:
    host = urlsplit(view.endpoint.url).hostname or ""
    ports = [(name, f":{port}") for name, url in _addresses(view) if (port := _port(url))]
    shown = [
        say(name, "dim") + say(f" {host if name == 'http' else ''}{port}") for name, port in ports
    ]
    tunnel = tunnel_line(view, hostname, every=False)
    said = [join(*shown), say("from your laptop  ", "dim") + say(tunnel, "accent")]
    if view.reason:
        bad = view.state in (ServiceState.FAILED, ServiceState.LOST)
        said.append(say(view.reason, "bad" if bad else "dim"))
    elif health is not None and health.problem:
        said.append(say(health.problem, "warn"))
    return lines(*said)
