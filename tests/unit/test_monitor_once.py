"""`monitor --once`: which of the first looks is printed."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from console.desk.monitor import MonitorView
from console.telemetry.reading import Reading
from console.triton.reading import ServerReading
from console.verbs import monitor

WELL = ServerReading("digits", "http://127.0.0.1:8000", time=1.0, live=True)
FIRST = ServerReading("digits", "http://127.0.0.1:8000", time=1.0, live=True, gap=True)
SILENT = ServerReading("digits", "http://127.0.0.1:8000", time=1.0, gap=True, problem="no answer")
UNASKED = ServerReading("digits", "http://127.0.0.1:8000")


def printed(*servers: tuple[ServerReading, ...], looked: float) -> MonitorView:
    """What is printed of one view a second, with these servers, when they were looked for at `looked`."""
    views = [
        MonitorView(float(second), Reading(float(second), float(second)), found)
        for second, found in enumerate(servers)
    ]

    def source(interval: float, each: Callable[[MonitorView], None]) -> Any:
        for view in views:
            each(view)
        return SimpleNamespace(looked=looked, close=lambda: None)

    args = argparse.Namespace(once=True, interval=0.0, record="", prometheus=None)
    with contextlib.ExitStack() as stack:
        (view,) = monitor._now(args, SimpleNamespace(monitor=source), stack)  # type: ignore[arg-type]
    return view


def test_servers_that_are_found_late_are_waited_for() -> None:
    """On a busy machine the list of servers takes longer than three looks at the processors."""
    assert printed((), (), (), (), (FIRST,), (WELL,), looked=3.5).servers == (WELL,)


@pytest.mark.parametrize("answer", [WELL, SILENT])
def test_a_server_is_waited_for_until_it_has_answered_or_is_known_not_to(
    answer: ServerReading,
) -> None:
    assert printed((), (UNASKED,), (UNASKED,), (answer,), looked=0.5).servers == (answer,)


def test_a_machine_without_servers_is_printed_at_the_third_look() -> None:
    assert printed((), (), (), (), looked=0.5).time == 2.0
