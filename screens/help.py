"""`?`: what the focused thing is, which keys it takes, and the words of this console."""

from __future__ import annotations

from collections.abc import Iterable

from textual.screen import Screen
from textual.widget import Widget

from screens.modal import DeckModal, part
from screens.phrase import paragraph, say
from screens.widgets.table import Column, DeckTable, Row


class HelpScreen(DeckModal[None]):
    """Help for what had the focus on `below` when it was asked for."""

    def __init__(self, below: Screen[None]) -> None:
        super().__init__("Help")
        self._texts = _help_texts(below)
        self._rows = _key_rows(below)

    def body(self) -> Iterable[Widget]:
        for text in self._texts:
            yield part(paragraph(text), "value")
        yield DeckTable(Column("KEY", 12), Column("WHAT IT DOES"), id="keys")

    def on_mount(self) -> None:
        table = self.query_one(DeckTable)
        table.show(self._rows)
        table.focus()


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
