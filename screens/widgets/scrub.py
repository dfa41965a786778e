"""`ScrubBar`: a recording as a whole, and the moment of it that is shown."""

from __future__ import annotations

import time as clock
from collections.abc import Sequence

from textual import events
from textual.message import Message

from screens.phrase import say
from screens.widgets.chart import place
from screens.widgets.painted import Painted

_EIGHTHS = "▁▂▃▄▅▆▇█"


class ScrubBar(Painted):
    """Two lines: a curve with the moment marked on it, and what happened when. A click goes there."""

    DEFAULT_CSS = (
        "ScrubBar { height: 2; padding: 0 1; display: none; dock: bottom; margin: 0 0 1 0; }"
    )

    class Chosen(Message):
        """A moment was clicked, in seconds since the epoch."""

        def __init__(self, time: float) -> None:
            super().__init__()
            self.time = time

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._span = (0.0, 1.0)

    def show(
        self,
        span: tuple[float, float],
        now: float,
        values: Sequence[float | None],
        marks: Sequence[tuple[float, str]],
    ) -> None:
        """Draw the recording from `span[0]` to `span[1]` (seconds since the epoch)."""
        self._span = span
        width = max(8, self.size.width)
        at = self._cell(now, width)
        top = max((v for v in values if v is not None), default=0.0) or 1.0
        line = "".join(self._mark(values, cell, width, top) for cell in range(width))
        curve = say(line[:at], "accent") + say("┃", "warn") + say(line[at + 1 :], "dim")
        start, end = (clock.strftime("%H:%M:%S", clock.localtime(t)) for t in span)
        moment = clock.strftime("▲ %H:%M:%S", clock.localtime(now))
        begin = min(at, max(0, width - len(moment)))
        words = [(begin, moment), (0, start), (width - len(end), end)]
        words += [(self._cell(time, width), f"╵{word}") for time, word in reversed(marks)]
        self.paint([curve, place(width, words)])

    def _mark(self, values: Sequence[float | None], cell: int, width: int, top: float) -> str:
        part = (
            values[cell * len(values) // width : (cell + 1) * len(values) // width]
            or values[cell * len(values) // width :][:1]
        )
        known = [v for v in part if v is not None]
        return _EIGHTHS[min(7, int(max(known) / top * 7.99))] if known else "·"

    def _cell(self, time: float, width: int) -> int:
        start, end = self._span
        return min(width - 1, max(0, round((time - start) / max(1e-9, end - start) * (width - 1))))

    def on_click(self, event: events.Click) -> None:
        start, end = self._span
        width = max(2, self.size.width)
        self.post_message(self.Chosen(start + (end - start) * (event.x - 1) / (width - 1)))
