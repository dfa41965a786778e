"""`Trace`: a figure over time in equal slices that stand still.

Slices begin at whole multiples of their length, not at "so long ago": a curve then changes in its
last cell, and moves by one only when a slice is full. Over SSH that is most of what a curve costs.
"""

from __future__ import annotations

from collections.abc import Iterable

Cells = tuple[float | None, ...]


class Trace:
    """The largest value of each slice of `step` seconds; keeps `width` slices."""

    def __init__(self, step: float, width: int, interval: float) -> None:
        self.step = step
        self.width = width
        self._bins: dict[int, float] = {}
        # Slices shorter than the time between two samples take the value before them.
        self._carried = int(interval * 1.5 / step)

    def fill(self, points: Iterable[tuple[float, float | None]]) -> None:
        """Add what is known of the past: (seconds since the epoch, value)."""
        for time, value in points:
            self.add(time, value)

    def add(self, time: float, value: float | None) -> None:
        if value is None:
            return
        number = int(time // self.step)
        self._bins[number] = max(value, self._bins.get(number, value))
        if len(self._bins) > 2 * self.width:
            oldest = number - self.width
            self._bins = {n: v for n, v in self._bins.items() if n > oldest}

    def cells(self, now: float) -> Cells:
        """The values of the last `width` slices up to `now`; None where nothing is known."""
        last = int(now // self.step)
        found: list[float | None] = []
        carried, left = None, 0
        for number in range(last - self.width - self._carried, last + 1):
            value = self._bins.get(number)
            if value is not None:
                carried, left = value, self._carried
            elif left:
                value, left = carried, left - 1
            found.append(value)
        return tuple(found[-self.width :])

    def column(self, time: float, now: float) -> int:
        """The cell of a moment; negative before the first one."""
        return self.width - 1 - (int(now // self.step) - int(time // self.step))
