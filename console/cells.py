"""What a terminal shows, as cells, and the fewest bytes that make it show the next frame.

A frame is what Textual's compositor writes: cursor moves, each followed by pieces of text that carry
their own style and end with its reset. Only cells that differ from what was sent before are sent.

A row with characters whose width terminals do not agree on (combining marks, joined emoji) is never
compared cell by cell: it is sent as the compositor wrote it, or dropped when written the same again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rich.cells import get_character_cell_size

MOVE = re.compile(r"\x1b\[(\d+);(\d+)H")
_PIECE = re.compile(
    r"(?P<style>(?:\x1b\]8;[^\x1b\x07]+\x1b\\)?(?:\x1b\[[\d;]+m)?)"
    r"(?P<text>[^\x00-\x1f\x7f]+)(?:\x1b\[0m)?(?:\x1b\]8;;\x1b\\)?"
    r"|(?:\x1b\[[\d;]*m)+"
)
_SGR = re.compile(r"\x1b\[(\d+(?:;\d+)*)m\Z")
_RESET = "\x1b[0m"
_LINK_END = "\x1b]8;;\x1b\\"
_GAP = 4
"""Unchanged cells that are written again rather than skipped: a move costs about five bytes."""

Cell = tuple[str, str]
"""Style and character. The second cell of a wide character holds no character."""
Write = tuple[int, str]
"""Column, counted from 1, and what was written from there on."""


@lru_cache(maxsize=4096)
def _width(character: str) -> int:
    """Cells that every terminal gives this character; 0 when they do not agree."""
    code = ord(character)
    if 0x1F000 <= code < 0x20000 or unicodedata.category(character)[0] == "M":
        return 0
    width = get_character_cell_size(character)
    # Signs that became emoji: old terminals draw them narrow.
    return 0 if width == 2 and 0x2000 <= code < 0x2E80 else width


def parse(payload: str) -> list[Cell] | None:
    """The cells that a write fills; None when that cannot be told for sure."""
    cells: list[Cell] = []
    position = 0
    while position < len(payload):
        piece = _PIECE.match(payload, position)
        if piece is None:
            return None
        position = piece.end()
        style, text = piece["style"], piece["text"]
        if text is None:
            continue
        if text.isascii():
            cells += [(style, character) for character in text]
            continue
        for character in text:
            width = _width(character)
            if width == 0:
                return None
            cells.append((style, character))
            if width == 2:
                cells.append((style, ""))
    return cells


def overlay(row: Sequence[Cell | None], x: int, cells: Sequence[Cell]) -> list[Cell | None]:
    """`row` after a write at column `x`; a wide character that was cut in two is not known."""
    after = list(row)
    start, end = x - 1, x - 1 + len(cells)
    after.extend([None] * (end - len(after)))
    if start and (cut := after[start]) and not cut[1]:
        after[start - 1] = None
    if end < len(after) and (cut := after[end]) and not cut[1]:
        after[end] = None
    after[start:end] = cells
    return after


def _attributes(style: str) -> tuple[frozenset[str], str, str] | None:
    """Attributes, foreground and background of an SGR sequence; None for a style with a link."""
    match = _SGR.match(style)
    if match is None:
        return None
    parameters = iter(match[1].split(";"))
    attributes, colours = set(), {"3": "", "4": ""}
    for parameter in parameters:
        kind = "3" if parameter[0] in "39" else "4"
        if parameter in ("38", "48"):
            mode = next(parameters, "")
            values = [next(parameters, "") for _ in range(3 if mode == "2" else 1)]
            colours[kind] = ";".join((parameter, mode, *values))
        elif len(parameter) == 3 or (len(parameter) == 2 and parameter[0] in "349"):
            colours["4" if len(parameter) == 3 else kind] = parameter
        else:
            attributes.add(parameter)
    return frozenset(attributes), colours["3"], colours["4"]


@lru_cache(maxsize=4096)
def turn(before: str, after: str) -> str:
    """What changes the style `before` into `after`; the empty style is the terminal's own."""
    if before == after:
        return ""
    end = _RESET + (_LINK_END if "\x1b]8;" in before else "")
    old, new = _attributes(before), _attributes(after)
    if not before or not after or new is None:
        return after if not before else end + after
    if old is not None and old[0] <= new[0]:
        pairs = list(zip(old[1:], new[1:], strict=True))
        if all(is_ or not was for was, is_ in pairs):
            parts = [*sorted(new[0] - old[0]), *(is_ for was, is_ in pairs if was != is_)]
            return f"\x1b[{';'.join(parts)}m"
    return end + after if old is None else f"\x1b[0;{after[2:]}"


class Stream:
    """Collects what is sent; knows where the cursor is and which style is on."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._at = (0, 0)
        self._style = ""

    def cells(self, y: int, x: int, cells: Iterable[Cell]) -> None:
        """Write cells from row `y` and column `x` on, both counted from 1."""
        if self._at != (y, x):
            self.parts.append(f"\x1b[{x}G" if self._at[0] == y else f"\x1b[{y};{x}H")
        for style, character in cells:
            if style != self._style:
                self.parts.append(turn(self._style, style))
                self._style = style
            self.parts.append(character)
            x += 1
        self._at = (y, x)

    def writes(self, y: int, writes: Iterable[Write]) -> None:
        """Pass writes on as they are."""
        self.plain()
        self.parts.extend(f"\x1b[{y};{x}H{payload}" for x, payload in writes)
        self._at = (0, 0)

    def plain(self) -> None:
        """Leave no style on."""
        self.parts.append(turn(self._style, ""))
        self._style = ""


@dataclass(frozen=True, slots=True)
class _Row:
    writes: list[Write]
    cells: list[Cell | None] | None
    """None: the row has characters whose width is not certain."""


class Shown:
    """The rows of one terminal as they were sent."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}
        self._cursor = ""

    def forget(self) -> None:
        """Nothing is known any more: the terminal was cleared, resized or lent to another."""
        self._rows.clear()
        self._cursor = ""

    def update(self, frame: str) -> str:
        """What makes the terminal show `frame`, which begins with a cursor move; may be empty."""
        rows: dict[int, list[Write]] = {}
        moves = list(MOVE.finditer(frame))
        for move, following in zip(moves, [*moves[1:], None], strict=True):
            payload = frame[move.end() : following.start() if following else len(frame)]
            if payload := payload.removesuffix("\n"):
                rows.setdefault(int(move[1]), []).append((int(move[2]), payload))
        stream = Stream()
        for y, writes in rows.items():
            known = self._rows.get(y)
            if known is None or known.writes != writes:
                self._rows[y] = _paint(stream, y, known, writes)
        stream.plain()
        sent = "".join(stream.parts)
        # A frame ends with a move that says where an input method may open its window.
        cursor = moves[-1][0] if moves[-1].end() == len(frame) else ""
        if cursor and (sent or cursor != self._cursor):
            sent += cursor
        self._cursor = cursor
        return sent


def _paint(stream: Stream, y: int, known: _Row | None, writes: list[Write]) -> _Row:
    """Send what differs in row `y`; the row as it is then."""
    before: list[Cell | None] | None = known.cells if known else []
    parsed = [(x, parse(payload)) for x, payload in writes]
    after: list[Cell | None] = before or []
    for x, cells in parsed:
        if cells is None:
            stream.writes(y, writes)
            return _Row(writes, None)
        after = overlay(after, x, cells)
    if before is None:
        stream.writes(y, writes)
    else:
        _send(stream, y, before, after)
    return _Row(writes, after)


def _send(
    stream: Stream, y: int, before: Sequence[Cell | None], after: Sequence[Cell | None]
) -> None:
    """Send the cells of `after` that `before` does not have, in as few spans as is worth it."""
    span: list[Cell] = []
    start = gap = 0
    for column, cell in enumerate(after):
        same = cell is None or (column < len(before) and before[column] == cell)
        if not same and cell is not None:
            if not span:
                start = column
            span.append(cell)
            gap = 0
        elif span:
            gap += 1
            if cell is None or gap > _GAP or cell[0] != span[-1][0]:
                stream.cells(y, start + 1, span[: len(span) - gap + 1])
                span, gap = [], 0
            else:
                span.append(cell)
    if span:
        stream.cells(y, start + 1, span[: len(span) - gap])
