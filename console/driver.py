"""What stands between Textual and the terminal: a driver that sends less, and a filter.

Over SSH the bytes are what hurts. Textual repaints whole widgets, so most cells of most frames are
the very cells that the terminal already shows.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, TextIO, cast

from rich.segment import Segment
from textual import events
from textual._ansi_sequences import SYNC_END, SYNC_START
from textual.app import App
from textual.color import Color
from textual.drivers.linux_driver import LinuxDriver
from textual.filter import LineFilter
from textual.message import Message

from console.cells import MOVE, Shown

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


class CellDriver(LinuxDriver):
    """A `LinuxDriver` that sends only cells which the terminal does not show yet."""

    def __init__(
        self,
        app: App[Any],
        *,
        debug: bool = False,
        mouse: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._shown = Shown()
        self._held = ""
        if self._file is not None:
            self._file = cast(Any, _Terminal(self._file))

    def forget(self) -> None:
        """Send the next frame whole: the terminal may show something else than was sent."""
        self._shown.forget()

    def write(self, data: str) -> None:
        if data == SYNC_START:
            # Kept until something follows: a frame that changes nothing costs nothing.
            self._held = data
            return
        if data == SYNC_END and self._held:
            self._held = ""
            return
        if _FORGET.search(data):
            self.forget()
        elif MOVE.match(data):
            data = self._shown.update(data)
        if data:
            super().write(self._held + data)
            self._held = ""

    def process_message(self, message: Message) -> None:
        if isinstance(message, events.Resize):
            self.forget()
        super().process_message(message)

    def _get_terminal_size(self) -> tuple[int, int]:
        # Asked at every SIGWINCH: the terminal may have moved or lost rows.
        self.forget()
        return super()._get_terminal_size()
