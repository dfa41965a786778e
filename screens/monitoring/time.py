"""Keys of time: pause, zoom, and of a replay the way through it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from textual.binding import Binding

from console.desk.monitor import MonitorSource
from screens.monitoring.ticker import Frame, Ticker
from screens.phrase import Phrase, join, say


def _binding(keys: str, action: str, label: str, name: str, tip: str, **more: Any) -> Binding:
    return Binding(keys, action, label, id=f"monitor.{name}", tooltip=tip, **more)


TIME_BINDINGS = [
    _binding("p", "pause", "Pause", "pause", "Hold the figures still, or go on; of a replay: play"),
    _binding("plus,equals_sign", "zoom(-1)", "Zoom", "nearer", "Curves of a shorter time", key_display="+ -"),
    _binding("minus", "zoom(1)", "Zoom out", "farther", "Curves of a longer time", show=False),
    _binding("left", "step(-1)", "Back", "earlier", "Of a replay: a moment earlier", show=False),
    _binding("right", "step(1)", "Scrub", "later", "Of a replay: a moment later", key_display="← →"),
    _binding("shift+left", "step(-20)", "", "much-earlier", "Of a replay: earlier", show=False),
    _binding("shift+right", "step(20)", "", "much-later", "Of a replay: later", show=False),
    _binding(
        "right_square_bracket", "mark(1)", "Next mark", "mark.next",
        "Of a replay: the next thing that happened", key_display="] [",
    ),
    _binding(
        "left_square_bracket", "mark(-1)", "Previous mark", "mark.previous",
        "Of a replay: the thing that happened before", show=False,
    ),
]  # fmt: skip


class Moment:
    """Mixed into the monitor's screen: which moment is shown, and whether it moves."""

    _source: MonitorSource | None
    _ticker: Ticker | None
    _frame: Frame | None
    paused: bool
    span: float

    def moment(self, frame: Frame) -> Iterable[Phrase]:
        """The moment in words: live or paused, or of a replay what it is and when."""
        view = frame.view
        if view.live:
            yield say("paused: p goes on", "warn") if self.paused else say("live", "ok")
            return
        when = time.strftime("%d %b %H:%M:%S", time.localtime(view.time))
        yield join(say("replay", "accent"), say(view.title, "dim"), between=" ")
        yield say(when, "strong")
        yield say("playing" if self.paused else "", "ok")

    def offered(self, action: str) -> bool:
        """Whether a key of time applies here."""
        replay = self._source is not None and not self._source.live
        return replay or action not in ("step", "mark")

    def action_pause(self) -> None:
        self.paused = not self.paused
        if self._ticker is None or self._source is None:
            return
        if self._source.live:
            self._ticker.pause(self.paused)
        else:
            self._ticker.play(self.paused)
        self.draw()

    def action_zoom(self, step: int) -> None:
        self.zoomed(step)

    def action_step(self, steps: int) -> None:
        if self._frame is None or self._source is None:
            return
        view = self._frame.view
        one = max(self._source.interval, (view.end - view.start) / 200)
        self.seek(view.time + steps * one)

    def action_mark(self, direction: int) -> None:
        if self._frame is None:
            return
        now = self._frame.view.time
        times = [mark.time for mark in self._frame.all_marks]
        ahead = [t for t in times if t > now + 0.5] if direction > 0 else []
        behind = [t for t in times if t < now - 1.5] if direction < 0 else []
        if ahead or behind:
            self.seek(min(ahead) if ahead else max(behind))

    def seek(self, to: float) -> None:
        """Of a replay: show this moment (seconds since the epoch)."""
        if self._ticker is not None and self._frame is not None:
            view = self._frame.view
            self._ticker.seek(max(view.start, min(to, view.end)))

    def draw(self) -> None:
        raise NotImplementedError

    def zoomed(self, step: int) -> None:
        """The next nearer or farther span."""
        raise NotImplementedError
