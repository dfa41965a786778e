"""Counters that only grow, as figures per second."""

from __future__ import annotations


class Rate:
    """Per second since the look before. Intervals are monotonic: a set clock changes nothing."""

    __slots__ = ("_at", "_value")

    def __init__(self) -> None:
        self._value: float | None = None
        self._at = 0.0

    def of(self, value: float | None, at: float) -> float | None:
        """None at the first look, and at one where the counter began anew or did not answer."""
        before, since = self._value, at - self._at
        self._value, self._at = value, at
        if value is None or before is None or value < before or since <= 0:
            return None
        return (value - before) / since

    def whole(self, value: float | None, at: float) -> int | None:
        rate = self.of(value, at)
        return None if rate is None else round(rate)
