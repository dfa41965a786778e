"""Step 6: a server's whole life: where it stands, its models and versions, its log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from console.desk.desk import ServerView
from screens import outside, serving
from screens.flow import Flow, ScreenContext, Stage
from screens.phrase import Phrase, lines, say
from screens.serve_acts import CHANGING, ServingActs
from screens.widgets.logpane import LogPane
from screens.widgets.table import Column, DeckTable, Listing, Row
from screens.widgets.words import Words

_EMPTY = lines(
    say("No model is known to this server.", "strong"),
    say("Models of the repository appear here once the server answers."),
)


class ServeScreen(ServingActs):
    """One server, ours or watched, and what it says about itself."""

    STAGE = Stage.SERVE
    LIVE = True
    AREA = "serve"
    HELP = (
        "live: the process answers. ready: the server takes requests. A model's own state is a "
        "third thing, and serving means that a real request was answered. `b` goes back to the "
        "version before the live one, `!` opens a shell where the server runs, `delete` takes the "
        "models out."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "forward", "Try", id="forward", tooltip="Send this model a request"),
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
        """The server as it stands now."""

        def __init__(self, view: ServerView) -> None:
            super().__init__()
            self.view = view

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, ServeScreen.Seen)

    def __init__(self, context: ScreenContext, flow: Flow) -> None:
        super().__init__(context, flow)
        self._told: object = None

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
        view = self.desk.server(self.flow.service, self.flow.name)
        if serving.told(view) != self._told:
            self.tell(self.Seen(view))

    @on(Seen)
    def _seen(self, message: Seen) -> None:
        self.server = message.view
        # Here and not where it is asked: what a later look has replaced was never shown.
        self._told = serving.told(message.view)
        service = message.view.service
        if not self.flow.name:
            self.move(replace(self.flow, name=service.deployment))
        self.draw()
        # One that has ended knows no models; why it ended is worth the room.
        self.query_one(Listing).display = service.living
        pane = self.query_one(LogPane)
        pane.display = not self.watched
        if not self.watched:
            pane.open(service.launcher, service.log)
        self.refresh_keys()

    @on(DeckTable.Resized)
    def draw(self) -> None:
        if self.server is None:
            return
        self.query_one("#serve-title", Words).show(serving.title(self.server, self.busy))
        self.query_one(Listing).show([Row(*row) for row in serving.cells(self.server)])
        table = self.query_one(Listing).table
        # Before the first layout no column has a width; the table says when it has.
        why: Iterable[Phrase] = ()
        if room := table.width_of(3):
            why = serving.reason(self.server, table.chosen, self.size.width - 2, room)
        self.query_one("#serve-facts", Words).show(lines(serving.facts(self.server), *why))

    # -- acting on it

    @property
    def model(self) -> str:
        return self.query_one(Listing).table.chosen

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in CHANGING:
            return self.allowed(action)
        if action == "forward":
            return self.server is not None and self.server.service.living
        if action == "outside":
            return not self.watched
        return True

    @on(DeckTable.RowHighlighted)
    def _moved(self) -> None:
        self.draw()
        self.refresh_keys()

    @on(DeckTable.RowSelected)
    def _selected(self) -> None:
        self.action_forward()

    def action_forward(self) -> None:
        if self.server is not None and self.server.service.living:
            self.go(Stage.TRY, replace(self.flow, option=self.model))

    def action_outside(self) -> None:
        if self.server is not None:
            self.open_outside(outside.pager, self.server.service.log)

    def action_back(self) -> None:
        self.go(Stage.BUILD if self.flow.run else Stage.HOME)

    def action_copy(self) -> None:
        if self.server is None:
            return
        urls = "\n".join(f"{name:8}{url}" for name, url in serving.addresses(self.server.service))
        tunnel = self.server.tunnel or "# it is reached without a tunnel"
        self.show_copy("From your laptop", ("ssh tunnel", tunnel), ("addresses", urls))
