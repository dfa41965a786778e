"""Use case: watch this machine and servers, now (`live`) or as they were recorded (`replay`).

Both are a `MonitorSource`: the screen, the verb and the recorder ask the same questions of either.

A series is one figure over time, named ``KIND/WHICH/FIGURE``: ``host/cpu``, ``gpu/0/memory``,
``server/NAME/requests``, ``model/SERVER/MODEL/queue``. `console.desk.series` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from console.telemetry.reading import Reading
    from console.triton.reading import ServerReading


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened: what curves show as a line across them."""

    time: float
    """Seconds since the epoch."""
    kind: str
    """``step`` (of a run), ``model`` (a state of a model), ``server`` (a state of a server) or
    ``action`` (what an operator did)."""
    text: str
    target: str = ""
    """Run, server or model that it happened to; empty for the host."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A series over a span, evenly spaced: `values[i]` is the largest value of its part of the span.

    None where nothing is known: before the recording, in a gap, or a figure that could not be read.
    """

    series: str
    start: float
    """Seconds since the epoch."""
    end: float
    values: tuple[float | None, ...]

    @property
    def last(self) -> float | None:
        return next((value for value in reversed(self.values) if value is not None), None)

    @property
    def largest(self) -> float | None:
        return max((value for value in self.values if value is not None), default=None)


@dataclass(frozen=True, slots=True)
class MonitorView:
    """Everything at one moment."""

    time: float
    """Seconds since the epoch; 0 before the first sample."""
    reading: Reading | None = None
    """GPUs, host and processes; None before the first sample."""
    servers: tuple[ServerReading, ...] = ()
    start: float = 0.0
    """Seconds since the epoch of the oldest moment that can be asked for."""
    end: float = 0.0
    live: bool = True
    title: str = ""
    """Of a replay: what was recorded, on which host."""
    note: str = ""
    """Why something is missing, in words (a torn recording, a disk that is full)."""


class MonitorSource(Protocol):
    """A live source or a replay. Safe to ask from several threads; nothing here blocks for long."""

    @property
    def live(self) -> bool: ...

    @property
    def interval(self) -> float:
        """Seconds between samples."""
        ...

    def snapshot(self) -> MonitorView:
        """The newest moment, or of a replay the one that `seek` chose (its first at the start)."""
        ...

    def series(self) -> tuple[str, ...]:
        """Names of the series that have a history."""
        ...

    def history(self, series: str, span: float, points: int = 0) -> Curve:
        """A series over the `span` seconds before the moment of `snapshot`.

        `points` values (one for each sample when 0). An unknown series is a curve of Nones.
        """
        ...

    def marks(self, span: float) -> tuple[Mark, ...]:
        """What happened in the `span` seconds before the moment of `snapshot`, the oldest first."""
        ...

    def seek(self, time: float | None) -> MonitorView:
        """Go to the last sample at or before `time` (clamped; None: the newest); what it shows.

        A live source stays where it is: the past of a live source is in `history`.
        """
        ...

    def close(self) -> None:
        """Stop sampling, close connections and files."""
        ...
