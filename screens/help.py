"""`?`: what the focused thing is, which keys it takes, and the words of this console."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap

from textual import on, work
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget
from textual.worker import get_current_worker

from console.desk.desk import Desk, Term
from screens.modal import DeckModal, part
from screens.phrase import Phrase, Role, paragraph, say
from screens.widgets.table import Column, DeckTable, Row

_KEY = 18


class HelpScreen(DeckModal[None]):
    """Help for what had the focus on `below` when it was asked for."""

    class Explained(Message):
        """The words of the place, as the glossary has them."""

        def __init__(self, terms: tuple[Term, ...]) -> None:
            super().__init__()
            self.terms = terms

    def __init__(
        self, below: Screen[None], desk: Desk, words: tuple[tuple[str, bool], ...] = ()
    ) -> None:
        super().__init__("Help")
        self._desk = desk
        self._words = words
        self._texts = _help_texts(below)
        self._rows = _key_rows(below)
        self._terms: list[Row] = []

    def body(self) -> Iterable[Widget]:
        for text in self._texts:
            yield part(paragraph(text), "value")
        yield DeckTable(Column("KEY, WORD", _KEY), Column("WHAT IT DOES, MEANS"), id="keys")

    def on_mount(self) -> None:
        self.query_one(DeckTable).focus()
        if self._words:
            self._ask()

    @work(thread=True, exclusive=True, exit_on_error=False, group="explain")
    def _ask(self) -> None:
        found = (self._desk.explain(word, check=check) for word, check in self._words)
        terms = tuple(dict.fromkeys(term for term in found if term))
        if not get_current_worker().is_cancelled:
            self.post_message(self.Explained(terms))

    @on(Explained)
    def _explained(self, message: Explained) -> None:
        self._terms = [
            Row(
                f"word:{term.name}",
                (say(term.name, "strong"), say(term.means.replace("`", ""), "dim")),
            )
            for term in message.terms
        ]
        self._show()

    @on(DeckTable.Resized)
    def _show(self) -> None:
        table = self.query_one(DeckTable)
        width = max(20, table.size.width - _KEY - 5)
        table.show([part for row in (*self._rows, *self._terms) for part in _wrapped(row, width)])


def _wrapped(row: Row, width: int) -> list[Row]:
    """A row whose text goes on below itself."""
    name, text = row.cells
    pieces = wrap(text.plain, width) or [""]
    role: Role = text.parts[0][1] if text.parts else ""
    return [
        Row(f"{row.key}:{number}", (name if number == 0 else Phrase(), say(piece, role)))
        for number, piece in enumerate(pieces)
    ]


def _help_texts(below: Screen[None]) -> list[str]:
    """`HELP` of the focused widget and of its ancestors, nearest first, each once."""
    node: Widget | None = below.focused
    texts: list[str] = []
    while node is not None:
        if node.HELP and node.HELP not in texts:
            texts.append(node.HELP)
        node = node.parent if isinstance(node.parent, Widget) else None
    if below.HELP and below.HELP not in texts:
        texts.append(below.HELP)
    return [text.replace("`", "") for text in texts]


def _key_rows(below: Screen[None]) -> list[Row]:
    """One row an action: all its keys, and what its tooltip says."""
    keys: dict[str, list[str]] = {}
    words: dict[str, str] = {}
    for active in below.active_bindings.values():
        if not active.tooltip or not active.enabled:
            continue
        name = f"{id(active.node)}:{active.binding.action}"
        keys.setdefault(name, []).append(below.app.get_key_display(active.binding))
        words.setdefault(name, active.tooltip)
    return [
        Row(name, (say(" ".join(dict.fromkeys(found)), "accent"), say(words[name])))
        for name, found in keys.items()
    ]
