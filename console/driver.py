"""What stands between Textual and the terminal: a driver that sends less, and a filter.

Over SSH the bytes are what hurts. Textual repaints whole widgets, so most rows of most frames are
the very rows that the terminal already shows. Writing the same things to a row twice gives the same
row, so a row whose writes equal its last ones is dropped; no model of the cells is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TextIO, cast

from rich.segment import Segment
from textual import events
from textual.app import App
from textual.color import Color
from textual.drivers.linux_driver import LinuxDriver
from textual.filter import LineFilter
from textual.message import Message

_MOVE = re.compile(r"\x1b\[(\d+);(\d+)H")
# Anything that changes rows without naming them: clear, alternate screen, reset, scroll.
_FORGET = re.compile(r"\x1b\[[0-3]?J|\x1b\[\?1049[hl]|\x1bc|\x1b\[\d*[ST]")
_CONTROLS = {
    **dict.fromkeys((*range(32), 127, *range(128, 160)), "�"),
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "�"),
}


class ControlFilter(LineFilter):
    """Replaces C0, DEL, C1 and bidirectional controls in everything that is drawn.

    `console.text.clean` is the first door; this is the last one, for every widget there is, ours or
    not: no text can retitle a window, write a clipboard or move the cursor.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.control or segment.text.isprintable()
            else Segment(segment.text.translate(_CONTROLS), segment.style)
            for segment in segments
        ]


class _Terminal:
    """A terminal that may go away: writes after a hang-up are dropped, not raised.

    The writer thread would die of the error, its queue would fill, and the console would hang for
    ever instead of ending.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with suppress(OSError):
            return self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class RowDriver(LinuxDriver):
    """A `LinuxDriver` that drops rows which the terminal already shows."""

    def __init__(
        self,
        app: App[Any],
        *,
        debug: bool = False,
        mouse: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._rows: dict[int, list[tuple[int, str]]] = {}
        if self._file is not None:
            self._file = cast(Any, _Terminal(self._file))

    def write(self, data: str) -> None:
        if not _MOVE.match(data) or _FORGET.search(data):
            if _FORGET.search(data):
                self._rows.clear()
            super().write(data)
            return
        if kept := "".join(self._changed(data)):
            super().write(kept)

    def _changed(self, frame: str) -> Iterator[str]:
        rows: dict[int, list[tuple[int, str]]] = {}
        moves = list(_MOVE.finditer(frame))
        for move, following in zip(moves, [*moves[1:], None], strict=True):
            end = following.start() if following else len(frame)
            payload = frame[move.end() : end].removesuffix("\n")
            rows.setdefault(int(move[1]), []).append((int(move[2]), payload))
        last = moves[-1]
        for y, writes in rows.items():
            painted = [(x, payload) for x, payload in writes if payload]
            if not painted or self._rows.get(y) == painted:
                continue
            self._rows[y] = painted
            yield from (f"\x1b[{y};{x}H{payload}" for x, payload in painted)
        yield last[0] + frame[last.end() :] if not frame[last.end() :] else ""

    def process_message(self, message: Message) -> None:
        if isinstance(message, events.Resize):
            self._rows.clear()
        super().process_message(message)

    def _get_terminal_size(self) -> tuple[int, int]:
        # Asked at every SIGWINCH: the terminal may have moved or lost rows.
        self._rows.clear()
        return super()._get_terminal_size()
