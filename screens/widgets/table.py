"""`DeckTable`: a DataTable that is told its rows and changes only what differs.

A cursor key in a DataTable costs 0.7 kB of terminal bytes where other lists cost 9–15 kB, so every
list of ours is one. Columns are fitted to the width: one flexible column takes what is left, and
columns of little weight go first when there is too little room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Input

from screens.phrase import Phrase, say
from screens.widgets.fields import TextField
from screens.widgets.words import Words

WIDE = 150
"""Cells from which a table gives its side columns more room."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `width` 0 marks the flexible one. `least`: hidden in tables narrower than this.
    `wide`: its width in tables of `WIDE` cells and more."""

    title: str
    width: int = 0
    right: bool = False
    least: int = 0
    wide: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `key` identifies it from one `show` to the next."""

    key: str
    cells: tuple[Phrase, ...]


class DeckTable(DataTable[Text], inherit_bindings=False):
    """Rows by key; the cursor stays on its row whatever happens around it."""

    # Textual's own would take `enter` away from the screen, and name no key in the footer.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor_down", "Down", show=False, id="list.down", tooltip="Next row"),
        Binding("up,k", "cursor_up", "Up", show=False, id="list.up", tooltip="Previous row"),
        Binding(
            "pagedown",
            "page_down",
            "Page down",
            show=False,
            id="list.page.down",
            tooltip="Page down",
        ),
        Binding("pageup", "page_up", "Page up", show=False, id="list.page.up", tooltip="Page up"),
        Binding("home,g", "scroll_top", "First", show=False, id="list.first", tooltip="First row"),
        Binding("end,G", "scroll_bottom", "Last", show=False, id="list.last", tooltip="Last row"),
    ]

    def __init__(self, *columns: Column, id: str | None = None) -> None:  # noqa: A002
        super().__init__(
            id=id, cursor_type="row", cell_padding=1, show_row_labels=False, zebra_stripes=False
        )
        self._specs = columns
        self._rows: tuple[Row, ...] = ()
        self._shown: list[int] = []
        self._widths: list[int] = []
        self._fitted = 0

    def show(self, rows: Sequence[Row]) -> None:
        """Make the table show `rows`; only cells that differ are touched."""
        before, self._rows = self._rows, tuple(rows)
        if not self._fitted or before == self._rows:
            return
        known = [row.key for row in before]
        wanted = [row.key for row in self._rows]
        if known != wanted[: len(known)]:
            self._fill()
            return
        with self.app.batch_update():
            for number, row in enumerate(self._rows):
                if number >= len(before):
                    self.add_row(*self._cells(row), key=row.key)
                elif row != before[number]:
                    self._change(number, row)

    @property
    def chosen(self) -> str:
        """Key of the row under the cursor, empty when there is none."""
        if 0 <= self.cursor_row < len(self._rows):
            return self._rows[self.cursor_row].key
        return ""

    def choose(self, key: str) -> None:
        """Put the cursor on a row, if it is there."""
        for number, row in enumerate(self._rows):
            if row.key == key and self._fitted:
                self.move_cursor(row=number, animate=False)

    def _change(self, number: int, row: Row) -> None:
        for column, cell in enumerate(self._cells(row)):
            place = Coordinate(number, column)
            if self.get_cell_at(place) != cell:
                self.update_cell_at(place, cell)

    def _cells(self, row: Row) -> list[Text]:
        colours = self.app.theme_variables
        return [
            row.cells[index].fit(width, right=self._specs[index].right).text(colours)
            for index, width in zip(self._shown, self._widths, strict=True)
        ]

    def _fill(self) -> None:
        chosen, position = self.chosen_before(), self.cursor_row
        with self.app.batch_update():
            self.clear(columns=True)
            for index, width in zip(self._shown, self._widths, strict=True):
                spec = self._specs[index]
                title = say(spec.title, "dim").fit(width, right=spec.right)
                self.add_column(title.text(self.app.theme_variables), width=width)
            for row in self._rows:
                self.add_row(*self._cells(row), key=row.key)
            keys = [row.key for row in self._rows]
            if keys:
                target = keys.index(chosen) if chosen in keys else min(position, len(keys) - 1)
                self.move_cursor(row=max(0, target), animate=False)

    def chosen_before(self) -> str:
        """Key under the cursor as the table was last drawn."""
        if self.row_count and self.is_valid_row_index(self.cursor_row):
            return str(self.coordinate_to_cell_key(Coordinate(self.cursor_row, 0)).row_key.value)
        return ""

    def on_resize(self, event: events.Resize) -> None:
        self._fit()

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._repaint())

    def _repaint(self) -> None:
        if self._fitted:
            self._fill()

    def _fit(self) -> None:
        # The scrollbar's two cells are always left free: rows must not jump when it appears.
        width = self.size.width + self.scrollbars_enabled[0] * self.scrollbar_size_vertical - 1
        if width == self._fitted or width < 8:
            return
        self._fitted = width
        self._shown = [i for i, spec in enumerate(self._specs) if width >= spec.least]
        specs = [self._specs[i] for i in self._shown]
        fixed = [(spec.wide if width >= WIDE else 0) or spec.width for spec in specs]
        taken = 2 * len(fixed) + sum(fixed)
        self._widths = [own or max(4, width - taken) for own in fixed]
        self._fill()


class Listing(Vertical):
    """A table with a filter, or two lines that say what it will show and the key that fills it."""

    HELP = "A list: `/` leaves only the rows with a text, `esc` shows all of them again."
    DEFAULT_CSS = """
    Listing { height: 1fr; }
    Listing > DeckTable { height: 1fr; }
    Listing > .empty { padding: 1 2; color: $text-dim; display: none; height: auto; }
    Listing > TextField { display: none; width: 32; margin: 0 1; }
    Listing.-filtering > TextField { display: block; }
    Listing.-empty > DeckTable { display: none; }
    Listing.-empty > .empty { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash",
            "filter",
            "Filter",
            show=False,
            id="filter",
            tooltip="Show only the rows that hold a text",
        ),
        Binding(
            "escape",
            "unfilter",
            "All rows",
            show=False,
            id="filter.clear",
            tooltip="Show every row again",
        ),
    ]

    def __init__(self, *columns: Column, empty: Phrase, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.table = DeckTable(*columns, id=f"{id}-table")
        self._empty = Words(empty, classes="empty")
        self._filter = TextField(placeholder="rows that hold this text")
        # Disabled while it is not shown: Textual would give it the focus of an empty list.
        self._filter.disabled = True
        self._rows: tuple[Row, ...] = ()

    def compose(self) -> ComposeResult:
        yield self._filter
        yield self.table
        yield self._empty

    def show(self, rows: Sequence[Row], empty: Phrase | None = None) -> None:
        """Show the rows; `empty` replaces the words for when there are none."""
        if empty is not None:
            self._empty.show(empty)
        self._rows = tuple(rows)
        self.set_class(not rows, "-empty")
        self._fill()

    def _fill(self) -> None:
        wanted = self._filter.value.casefold()
        self.table.show([row for row in self._rows if wanted in _words(row)])

    # -- the filter

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "unfilter" or self.has_class("-filtering")

    def action_filter(self) -> None:
        self.add_class("-filtering")
        self._filter.disabled = False
        self._filter.focus()

    def action_unfilter(self) -> None:
        self.remove_class("-filtering")
        self._filter.value = ""
        self.table.focus()
        self._filter.disabled = True

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._fill()

    @on(Input.Submitted)
    def _taken(self, event: Input.Submitted) -> None:
        event.stop()
        if self._filter.value:
            self.table.focus()
        else:
            self.action_unfilter()


def _words(row: Row) -> str:
    return " ".join(cell.plain for cell in row.cells).casefold()
