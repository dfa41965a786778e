"""Step 1: browse folders and see at once what each thing is, without loading it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input
from textual.worker import Worker, get_current_worker

from console.checkpoints.model import Checkpoint, Format, Risk, Severity
from console.desk.desk import RouteView
from console.facts import DeckError, Level
from console.text import human_bytes
from screens.flow import Flow, ScreenContext, Stage
from screens.phrase import Phrase, Role, join, lines, say
from screens.roles import RoleChoice
from screens.scanning import Scan, TreeScan, counted
from screens.widgets.fields import PathSuggester, TextField
from screens.widgets.overflow import Overflow
from screens.widgets.table import Column, DeckTable, Listing, Row
from screens.widgets.words import Words

_FORMATS = {
    Format.NEMO: "NeMo",
    Format.NEMO2: "NeMo 2",
    Format.QNEMO: "qnemo",
    Format.HUGGING_FACE: "HF",
    Format.ADAPTER: "adapter",
    Format.TRTLLM_CHECKPOINT: "TRT-LLM",
    Format.TRTLLM_ENGINE: "engine",
    Format.TENSORRT: "TRT",
    Format.MEGATRON: "Mcore",
    Format.ONNX: "ONNX",
    Format.HUB: "hub",
    Format.UNKNOWN: "?",
}
_SEVERITIES: Mapping[Severity, tuple[str, Role]] = {
    Severity.DANGER: ("✕", "bad"),
    Severity.WARN: ("▲", "warn"),
    Severity.NOTE: ("·", "dim"),
}
_TAKEN: Mapping[Level, tuple[str, Role]] = {
    Level.PASS: ("✓", "ok"),
    Level.WARN: ("✓", "warn"),
    Level.UNKNOWN: ("?", "dim"),
}
_EMPTY = lines(
    say("No checkpoint in this folder.", "strong"),
    say("Folders and .nemo, .onnx and Hugging Face checkpoints are shown here."),
    join(
        say("o", "accent"),
        say("opens another folder,"),
        say("backspace", "accent"),
        say("goes up."),
        between=" ",
    ),
)

_SCANNING = say("Nothing found yet.", "dim")
_NONE_BELOW = lines(
    say("No checkpoint below this folder.", "strong"),
    join(say("esc", "accent"), say("shows the folder again."), between=" "),
)


class CheckpointScreen(TreeScan, RoleChoice):
    """A folder's checkpoints on the left, what the chosen one is on the right."""

    STAGE = Stage.CHECKPOINT
    AREA = "checkpoint"
    WORDS = ("checkpoint", "pickle", "tokenizer", "quantisation")
    HELP = (
        "Every checkpoint of this folder, read without loading its weights or running its code. "
        "`enter` takes the one under the cursor or opens the folder, `s` looks through every "
        "folder below."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter", "take", "Take", id="checkpoint.take", tooltip="Take it, or open the folder"
        ),
        Binding("backspace", "up", "Up", id="checkpoint.up", tooltip="The folder above"),
        Binding(
            "s",
            "scan",
            "Search",
            id="checkpoint.scan",
            tooltip="Every checkpoint below this folder",
        ),
        Binding(
            "o",
            "folder",
            "Path",
            id="checkpoint.path",
            tooltip="Type a folder, a file or a hub id (hub:owner/name)",
        ),
    ]

    class Listed(Message):
        """What a folder holds."""

        def __init__(self, folder: Path, found: tuple[Checkpoint, ...]) -> None:
            super().__init__()
            self.folder = folder
            self.found = found

    class Read(Message):
        """A checkpoint read in full, with the routes that take it, or why it cannot be read."""

        def __init__(
            self, checkpoint: Checkpoint, routes: tuple[RouteView, ...], problem: str = ""
        ) -> None:
            super().__init__()
            self.checkpoint = checkpoint
            self.routes = routes
            self.problem = problem

    class Inspected(Message):
        """A path that was typed turned out to be a checkpoint."""

        def __init__(self, checkpoint: Checkpoint) -> None:
            super().__init__()
            self.checkpoint = checkpoint

    def __init__(self, context: ScreenContext, flow: Flow) -> None:
        super().__init__(context, flow)
        self._folder = Path(flow.folder or context.start or Path.cwd())
        self._found: dict[str, Checkpoint] = {}
        self._read: dict[Path, CheckpointScreen.Read] = {}
        self._reader: Worker[None] | None = None
        self._asked: tuple[Path, ...] = ()
        """What the reader was asked to read, in this order."""
        self._wanted = flow.checkpoint.path if flow.checkpoint else None

    def body(self) -> Iterable[Widget]:
        with Horizontal(id="checkpoint-path"):
            yield TextField(str(self._folder), id="folder", suggester=PathSuggester())
        yield Words(id="checkpoint-note")
        with Horizontal(id="checkpoint-body"):
            yield Listing(
                Column("NAME"),
                Column("FORMAT", 7),
                Column("SIZE", 9, right=True),
                Column("DTYPE", 6, least=64),
                empty=_EMPTY,
                id="checkpoints",
            )
            with Overflow(id="checkpoint-detail"):
                yield Words(id="detail")

    def on_mount(self) -> None:
        self.query_one(Listing).table.focus()
        self.open_folder(self._folder)

    # -- browsing

    @work(thread=True, exclusive=True, exit_on_error=False, group="browse")
    def open_folder(self, folder: Path) -> None:
        worker = get_current_worker()
        self.tell(self.Listed(folder, self.desk.browse(folder, lambda: worker.is_cancelled)))

    @on(Listed)
    def _listed(self, message: Listed) -> None:
        came_from, self._folder = self._folder, message.folder
        self._found = {str(c.path): c for c in message.found}
        self.scanning = None
        self._note()
        self.query_one("#folder", TextField).value = str(message.folder)
        listing = self.query_one(Listing)
        if came_from != message.folder and listing.has_class("-filtering"):
            listing.action_unfilter()
        kept = Flow(
            folder=str(message.folder), checkpoint=self.flow.checkpoint, tour=self.flow.tour
        )
        self.move(replace(self.flow, folder=str(message.folder)) if self.role else kept)
        listing.show([Row(key, _cells(c)) for key, c in self._found.items()])
        self.query_one(Listing).table.choose(str(self._wanted or came_from))
        self._wanted = None
        self._show_detail()

    def show_scan(self, scan: Scan) -> None:
        self._found = {str(c.path): c for c in scan.found}
        listing, base = self.query_one(Listing), f"{self._folder}/"
        rows = [Row(key, _cells(c, key.removeprefix(base))) for key, c in self._found.items()]
        listing.show(rows, _NONE_BELOW if scan.ended else _SCANNING)
        self._note()
        self._show_detail()
        self.refresh_keys()

    def _note(self) -> None:
        """What is being looked for, and how far a search is."""
        scan = counted(self.scanning) if self.scanning else Phrase()
        note = join(self.looking_for, scan, between=" · ")
        self.query_one("#checkpoint-note", Words).show(note)
        self.set_class(bool(note), "-noted")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.query_one(Listing).table.focus()
        if event.input.id == "folder":
            self._open_path(Path(event.value.strip()).expanduser())

    def _open_path(self, path: Path) -> None:
        # What is no folder is a file, a hub id, or a mistake that reading it tells in words.
        self.open_folder(path) if path.is_dir() else self._inspect(path)

    @work(thread=True, exclusive=True, exit_on_error=False, group="browse")
    def _inspect(self, path: Path) -> None:
        self.tell(self.Inspected(self.desk.inspect(path)))

    @on(Inspected)
    def _inspected(self, message: Inspected) -> None:
        self._take(message.checkpoint)

    def action_scan(self) -> None:
        self.scan(self._folder)

    def action_folder(self) -> None:
        self.query_one("#folder", TextField).focus()

    def action_up(self) -> None:
        self.open_folder(self._folder.parent)

    def action_back(self) -> None:
        if isinstance(self.focused, Input):
            self.query_one("#folder", TextField).value = str(self._folder)
            self.query_one(Listing).table.focus()
        elif self.scanning is not None and not self.scanning.ended:
            self.stop_scan()
        elif self.scanning is not None:
            self.open_folder(self._folder)
        elif self.role:
            self.go(Stage.OPTIONS)
        else:
            super().action_back()

    # -- the chosen one

    @property
    def _chosen(self) -> Checkpoint | None:
        return self._found.get(self.query_one(Listing).table.chosen)

    @on(DeckTable.RowHighlighted)
    def _show_detail(self) -> None:
        chosen = self._chosen
        shown = Phrase()
        if chosen is not None:
            read = self._read.get(chosen.path)
            if read is None and chosen.format is not Format.UNKNOWN:
                self._read_once((chosen,))
            else:
                self.call_after_refresh(self._read_ahead)
            width = self.query_one("#checkpoint-detail").scrollable_content_region.width
            routes = read.routes if read else None
            shown = details(read.checkpoint if read else chosen, routes, width)
            if read and read.problem:
                shown = lines(shown, say(read.problem, "bad"))
        self.query_one("#detail", Words).show(shown)

    def _read_ahead(self) -> None:
        """Read what the next key may lead to, so that its facts are there with its first frame."""
        near = (self._found.get(key) for key in self.query_one(Listing).table.near())
        unread = [c for c in near if c and c.format is not Format.UNKNOWN]
        if wanted := tuple(c for c in unread if c.path not in self._read):
            self._read_once(wanted)

    def _read_once(self, wanted: tuple[Checkpoint, ...]) -> None:
        """Read these, unless the first of them is being read just now: a search shows its list again
        and again, and a read that is begun anew each time would not end before the search does."""
        reading = next((path for path in self._asked if path not in self._read), None)
        if self._reader is None or self._reader.is_finished or reading != wanted[0].path:
            self._asked = tuple(checkpoint.path for checkpoint in wanted)
            self._reader = self._read_whole(wanted)

    @work(thread=True, exclusive=True, exit_on_error=False, group="read")
    def _read_whole(self, listed: tuple[Checkpoint, ...]) -> None:
        # The list holds what the first bytes say; routes need all that the headers say.
        worker = get_current_worker()
        for checkpoint in listed:
            if worker.is_cancelled:
                return
            try:
                whole = self.desk.inspect(checkpoint.path)
                self.tell(self.Read(whole, self.routes_for(whole)))
            except DeckError as error:
                # In the pane: the cursor only passes by, a modal would stop it at each broken file.
                self.tell(self.Read(checkpoint, (), str(error)))

    @on(Read)
    def _was_read(self, message: Read) -> None:
        self._read[message.checkpoint.path] = message
        if self._chosen and self._chosen.path == message.checkpoint.path:
            self._show_detail()

    @on(DeckTable.RowSelected)
    def _selected(self) -> None:
        self.action_take()

    def action_take(self) -> None:
        chosen = self._chosen
        if chosen is None:
            return
        if _is_folder(chosen):
            self.open_folder(chosen.path)
        elif read := self._read.get(chosen.path):
            self._take(read.checkpoint)
        else:
            self._inspect(chosen.path)

    def _take(self, checkpoint: Checkpoint) -> None:
        if self.role:
            self.fill_role(checkpoint)
        else:
            chosen = Flow(folder=str(self._folder), checkpoint=checkpoint, tour=self.flow.tour)
            self.go(Stage.ROUTE, chosen)


def _is_folder(checkpoint: Checkpoint) -> bool:
    return checkpoint.format is Format.UNKNOWN and checkpoint.task == "folder"


def _cells(checkpoint: Checkpoint, shown: str = "") -> tuple[Phrase, ...]:
    if _is_folder(checkpoint):
        return (say(f"▸ {checkpoint.path.name}/", "accent"), Phrase(), Phrase(), Phrase())
    marked = any(risk.severity is Severity.DANGER for risk in checkpoint.risks)
    name = say("✕ ", "bad") if marked else say("▲ ", "warn") if _warns(checkpoint) else say("  ")
    known = checkpoint.format is not Format.UNKNOWN
    return (
        name + say(shown or checkpoint.path.name, "" if known else "dim"),
        say(_FORMATS[checkpoint.format], "" if known else "dim"),
        say(human_bytes(checkpoint.size)),
        say(checkpoint.dtype, "dim"),
    )


def _warns(checkpoint: Checkpoint) -> bool:
    return any(risk.severity is Severity.WARN for risk in checkpoint.risks)


def details(
    checkpoint: Checkpoint, routes: tuple[RouteView, ...] | None, width: int = 60
) -> Phrase:
    """What a checkpoint is, which routes take it, and what is risky about it; `width` in cells."""
    if _is_folder(checkpoint):
        return lines(say(checkpoint.path.name, "strong"), say("folder: enter opens it", "dim"))
    head = [say(checkpoint.path.name, "strong"), say(checkpoint.title), say("")]
    facts: list[tuple[str, str]] = list(checkpoint.details)
    labels = {label for label, _ in facts}
    if checkpoint.parameters is not None and "parameters" not in labels:
        facts.insert(0, ("parameters", _count(checkpoint.parameters)))
    if checkpoint.nemo_version and not {"NeMo", "nemo", "saved by", "made with"} & labels:
        facts.append(("saved by", f"NeMo {checkpoint.nemo_version}"))
    wide = min(18, max((len(label) for label, _ in facts), default=10) + 2)
    body = [row for label, value in facts for row in _fact(label, value, wide, width)]
    if body:
        body.append(say(""))
    body += _routes(routes or (), wide, width)
    if routes is None and checkpoint.format is not Format.UNKNOWN:
        body.append(say("reading …", "dim"))
    for risk in checkpoint.risks:
        body.append(say(""))
        body += _risk(risk, max(20, width - 2))
    return lines(*head, *body)


def _fact(label: str, value: str, wide: int, width: int) -> list[Phrase]:
    """A label and its value; a long value goes on below itself, not below the label."""
    pieces = wrap(value, max(20, width - wide)) or [""]
    return [
        say(label if number == 0 else "", "dim").fit(wide) + say(piece)
        for number, piece in enumerate(pieces)
    ]


def _risk(risk: Risk, width: int) -> list[Phrase]:
    """What is risky and what to do; long texts go on below themselves, not below the glyph."""
    glyph, role = _SEVERITIES[risk.severity]
    first, *more = wrap(risk.summary, width) or [""]
    fixes = [say(f"  {piece}", "dim") for piece in wrap(risk.fix, width)]
    return [say(f"{glyph} {first}", role), *(say(f"  {piece}", role) for piece in more), *fixes]


def _routes(routes: tuple[RouteView, ...], wide: int, width: int) -> Iterator[Phrase]:
    """What takes it, a line a route; what does not in one line, or why not where nothing does."""
    room = max(20, width - wide - 2)
    fits = [r for r in routes if r.verdict.level is not Level.FAIL]
    for number, route in enumerate(fits):
        label = say("" if number else "route", "dim").fit(wide)
        glyph, role = _TAKEN[route.verdict.level]
        why = "" if route.verdict.level is Level.PASS else route.verdict.summary
        first, *more = wrap(why, room - len(route.name) - 1) or [""]
        part = say(f"as {route.role}" if route.role else "", "accent")
        yield label + join(say(f"{glyph} {route.name}", role), part, say(first, "dim"))
        yield from (say(" " * (wide + 2) + piece, "dim") for piece in more)
    others = [r for r in routes if r.verdict.level is Level.FAIL]
    if fits and others:
        names = wrap(", ".join(route.name for route in others), room)
        for number, piece in enumerate(names):
            head, glyph = ("", " ") if number else ("not by", "✕")
            yield say(head, "dim").fit(wide) + say(f"{glyph} {piece}", "dim")
        return
    for number, route in enumerate(others):
        label = say("" if number else "route", "dim").fit(wide)
        yield label + say(f"✕ {route.name}", "dim")
        yield from (
            say(" " * (wide + 2) + piece, "dim") for piece in wrap(route.verdict.summary, room)
        )


def _count(parameters: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if parameters >= size:
            return f"{parameters / size:.2f} {unit}"
    return str(parameters)
