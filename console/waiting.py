"""Waiting for what nobody tells: looks with pauses between."""

from __future__ import annotations

import time
from collections.abc import Iterator

_LONGEST = 0.5
"""Seconds that one pause and the look before it may count for."""


def looks(seconds: float, pause: float = 0.05) -> Iterator[None]:
    """One look now and one after each pause, the last when `seconds` are over.

    A machine that stood still meanwhile, or gave its processors to others, takes half a second at most:
    whoever is waited for stood still too, and its answer shows only in the looks that follow.
    """
    spent, before = 0.0, time.monotonic()
    while True:
        yield
        if spent >= seconds:
            return
        time.sleep(pause)
        now = time.monotonic()
        spent += min(now - before, max(pause, _LONGEST))
        before = now
