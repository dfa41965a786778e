"""`DeckTable`: rows under a head, one of them chosen, drawn line by line.

Textual's DataTable renders every cell through Rich's console: a third of what the first screen took
to appear, and most of what a page of rows costs. Here a row is a phrase a column and a line is made
from those alone; a cursor key draws two lines. Columns are fitted to the width: one flexible column
takes what is left, and columns of little weight go first when there is too little room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.dom import NoScreen
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widgets import Input

from screens.phrase import Phrase, Role, rich_styles, say
from screens.widgets.fields import TextField
from screens.widgets.placed import Kept, PlacedView
from screens.widgets.words import Words

WIDE = 150
"""Cells from which a table gives its side columns more room."""
HEAD = 1
"""Lines above the first row."""


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


class DeckTable(PlacedView, can_focus=True):
    """Rows by key; the cursor stays on its row whatever happens around it."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"deck-table--cursor"}
    DEFAULT_CSS = "DeckTable { overflow-x: hidden; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor(1)", "Down", show=False, id="list.down", tooltip="Next row"),
        Binding("up,k", "cursor(-1)", "Up", show=False, id="list.up", tooltip="Previous row"),
        Binding(
            "pagedown", "page(1)", "Page down", show=False, id="list.page.down", tooltip="Page down"
        ),
        Binding("pageup", "page(-1)", "Page up", show=False, id="list.page.up", tooltip="Page up"),
        Binding("home,g", "first", "First", show=False, id="list.first", tooltip="First row"),
        Binding("end,G", "last", "Last", show=False, id="list.last", tooltip="Last row"),
    ]

    class RowHighlighted(Message):
        """The cursor came to another row, or the last one went."""

        def __init__(self, table: DeckTable) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> DeckTable:
            return self.table

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, DeckTable.RowHighlighted) and message.table is self.table

    class Resized(Message):
        """There is room for other columns or rows than before."""

    class RowSelected(Message):
        """The row under the cursor was clicked."""

        def __init__(self, table: DeckTable) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> DeckTable:
            return self.table

    def __init__(self, *columns: Column, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._specs = columns
        self._rows: tuple[Row, ...] = ()
        self._shown: list[int] = []
        self._widths: list[int] = []
        self._fitted = 0
        self._looks: tuple[dict[Role, Style], dict[Role, Style]] = ({}, {})
        self._drawn = Kept()
        self._told = ""
        self.cursor_row = 0

    # -- what is shown

    @property
    def row_count(self) -> int:
        return len(self._rows)

    @property
    def chosen(self) -> str:
        """Key of the row under the cursor, empty when there is none."""
        if 0 <= self.cursor_row < len(self._rows):
            return self._rows[self.cursor_row].key
        return ""

    def near(self) -> list[str]:
        """Keys of the rows that the next key may lead to: a line or a page away, as they come."""
        page = max(1, self.size.height - HEAD)
        places = (self.cursor_row + step for step in (1, page, -1, -page))
        rows = dict.fromkeys(max(0, min(place, len(self._rows) - 1)) for place in places)
        return [self._rows[row].key for row in rows if row != self.cursor_row and self._rows]

    def width_of(self, column: int) -> int:
        """Cells of a column by its place; 0 while it is hidden."""
        if column not in self._shown:
            return 0
        return self._widths[self._shown.index(column)]

    def get_row_at(self, number: int) -> tuple[str, ...]:
        """The words of a row, as they are fitted to the columns that are shown."""
        return tuple(cell.plain for cell in self._cells(self._rows[number].cells))

    def show(self, rows: Sequence[Row]) -> None:
        """Make the table show `rows`; only lines that differ are drawn."""
        before, chosen, self._rows = self._rows, self.chosen, tuple(rows)
        if before == self._rows:
            return
        self._drawn.clear()
        keys = [row.key for row in self._rows]
        if chosen in keys:
            self.cursor_row = keys.index(chosen)
        self.cursor_row = max(0, min(self.cursor_row, len(keys) - 1))
        if len(before) != len(self._rows):
            self.virtual_size = Size(0, HEAD + len(self._rows))
            self.refresh()
        else:
            for number, row in enumerate(self._rows):
                if row != before[number] or chosen in (row.key, before[number].key):
                    self._refresh_row(number)
        self._reveal()
        self._tell()

    def choose(self, key: str) -> None:
        """Put the cursor on a row, if it is there."""
        for number, row in enumerate(self._rows):
            if row.key == key:
                self.move_cursor(row=number)

    def move_cursor(self, *, row: int) -> None:
        """Put the cursor on a row by its number, or on the nearest that there is."""
        row = max(0, min(row, len(self._rows) - 1))
        if row != self.cursor_row:
            self._refresh_row(self.cursor_row)
            self.cursor_row = row
            self._refresh_row(row)
        self._reveal()
        self._tell()

    def _tell(self) -> None:
        if self.chosen != self._told:
            self._told = self.chosen
            # Straight to the screen: while it rose through what holds the table, the cursor's frame
            # would be drawn without what follows from it, and that in a second one.
            with suppress(NoScreen):  # on its way out of one
                self.screen.post_message(self.RowHighlighted(self))

    def _reveal(self) -> None:
        """Scroll until the cursor is seen: half a page at once, a line a key would send a page a key."""
        room = self.size.height - HEAD
        if room < 1:
            return
        top, row = round(self.scroll_y), self.cursor_row
        if not top <= row < top + room:
            step = room // 2
            wanted = row - step if row < top else row - room + 1 + step
            last = max(0, len(self._rows) - room)
            self._show_from(max(0, min(wanted, last)))

    def _show_from(self, top: int) -> None:
        # Forced: rows that just came have no scrollbar before the next layout.
        self.scroll_to(y=top, animate=False, force=True, immediate=True)

    # -- keys and mouse

    def action_cursor(self, step: int) -> None:
        self.move_cursor(row=self.cursor_row + step)

    def action_page(self, direction: int) -> None:
        step = direction * max(1, self.size.height - HEAD)
        self._show_from(round(self.scroll_y) + step)
        self.move_cursor(row=self.cursor_row + step)

    def action_first(self) -> None:
        self.move_cursor(row=0)

    def action_last(self) -> None:
        self.move_cursor(row=len(self._rows) - 1)

    def on_click(self, event: events.Click) -> None:
        row = round(self.scroll_y) + event.y - HEAD
        if event.y < HEAD or row >= len(self._rows):
            return
        event.stop()
        if row == self.cursor_row:
            self.post_message(self.RowSelected(self))
        else:
            self.move_cursor(row=row)

    # -- drawing

    def on_resize(self, event: events.Resize) -> None:
        # The scrollbar's cell is always left free: rows must not jump when it appears.
        width = self.size.width + self.scrollbars_enabled[0] * self.scrollbar_size_vertical - 1
        if width != self._fitted and width >= 8:
            self._fitted = width
            self._shown = [i for i, spec in enumerate(self._specs) if width >= spec.least]
            specs = [self._specs[i] for i in self._shown]
            fixed = [(spec.wide if width >= WIDE else 0) or spec.width for spec in specs]
            taken = 2 * len(fixed) + sum(fixed)
            self._widths = [own or max(4, width - taken) for own in fixed]
            self.refresh()
        self._reveal()
        self.post_message(self.Resized())

    def _refresh_row(self, number: int) -> None:
        self.refresh(Region(0, HEAD + number - round(self.scroll_y), self.size.width, 1))

    def render_lines(self, crop: Region) -> list[Strip]:
        plain = rich_styles(self.rich_style, self.app.theme_variables)
        cursor = self.get_component_rich_style("deck-table--cursor")
        # The theme's colours for the chosen row, but what is bold stays bold.
        over = Style.from_color(cursor.color, cursor.bgcolor)
        self._looks = (plain, {role: style + over for role, style in plain.items()})
        self._drawn.begin(self._looks, self.size.width, self._widths)
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        number = -1 if y < HEAD else min(round(self.scroll_y) + y - HEAD, len(self._rows))
        chosen = number == self.cursor_row
        return self._drawn.line((number, chosen), lambda: self._row_line(number, chosen))

    def _row_line(self, number: int, chosen: bool) -> Strip:
        """The line of a row; the head's before the first, a blank one behind the last."""
        plain, under_cursor = self._looks
        if number < 0:
            return self._line([say(spec.title, "dim") for spec in self._specs], plain)
        if number == len(self._rows):
            return Strip.blank(self.size.width, plain[""])
        return self._line(self._rows[number].cells, under_cursor if chosen else plain)

    def _line(self, cells: Sequence[Phrase], looks: Mapping[Role, Style]) -> Strip:
        space = Segment(" ", looks[""])
        segments = []
        for cell in self._cells(cells):
            segments += [space, *(Segment(text, looks[role]) for text, role in cell.parts), space]
        # Said, and not counted again: every cell is as wide as its column.
        strip = Strip(segments, sum(self._widths) + 2 * len(self._widths))
        return strip.adjust_cell_length(self.size.width, looks[""])

    def _cells(self, cells: Sequence[Phrase]) -> list[Phrase]:
        return [
            cells[index].fit(width, right=self._specs[index].right)
            for index, width in zip(self._shown, self._widths, strict=True)
        ]


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
    Listing.-empty > .empty, Listing.-unfound > .empty { display: block; }
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
            id="filter.clear",
            tooltip="Show every row again",
        ),
    ]

    def __init__(self, *columns: Column, empty: Phrase, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.table = DeckTable(*columns, id=f"{id}-table")
        self._nothing = empty
        self._empty = Words(empty, classes="empty")
        self._filter = TextField(placeholder="rows that hold this text")
        # Disabled while it is not shown: Textual would give it the focus of an empty list.
        self._filter.disabled = True
        self._rows: tuple[Row, ...] = ()
        self._left = False
        """Whether the table lost the cursor when its last row went."""

    def compose(self) -> ComposeResult:
        yield self._filter
        yield self.table
        yield self._empty

    def show(self, rows: Sequence[Row], empty: Phrase | None = None) -> None:
        """Show the rows; `empty` replaces the words for when there are none."""
        if empty is not None:
            self._nothing = empty
        self._rows = tuple(rows)
        if not rows and self.table.has_focus:
            # Hidden, it would hand the cursor to whatever field comes next.
            self._left = True
            self.screen.set_focus(None)
        self.set_class(not rows, "-empty")
        self._fill()
        if rows and self._left:
            self._left = False
            if self.screen.focused is None:
                self.table.focus()

    def _fill(self) -> None:
        wanted = self._filter.value.casefold()
        found = [row for row in self._rows if wanted in _words(row)] if wanted else self._rows
        unfound = bool(self._rows) and not found
        self.set_class(unfound, "-unfound")
        self._empty.show(say("No row holds this text.", "dim") if unfound else self._nothing)
        self.table.show(found)

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
