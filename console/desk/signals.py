"""Use case: end one process of ours. Processes of others are looked at, never touched."""

from __future__ import annotations

import os
import signal

import psutil

from console.desk.readonly import require_writable
from console.facts import Refused
from console.settings import Settings
from console.telemetry.reading import GpuProcess

_CLOCK = 1.0
"""Seconds by which a start time may differ: it is wall time, and clocks are set."""


def end_process(settings: Settings, process: GpuProcess, *, force: bool = False) -> None:
    """Send SIGTERM (with `force` SIGKILL) to a process of one of our runs or services.

    Raises `Refused` in the read-only mode, for a process that is not ours, and when the pid belongs
    to another process by now.
    """
    require_writable(settings, f"end process {process.pid}")
    if not process.owner:
        raise Refused(
            f"process {process.pid} is not one of ours",
            why="it belongs to none of the runs and servers that were started from here",
            fix="whoever started it can end it",
        )
    gone = Refused(f"process {process.pid} has ended already", why="its pid is free or taken again")
    try:
        now = psutil.Process(process.pid)
        if process.created is None or abs(now.create_time() - process.created) > _CLOCK:
            raise gone
        os.kill(process.pid, signal.SIGKILL if force else signal.SIGTERM)
    except (psutil.NoSuchProcess, ProcessLookupError):
        raise gone from None
    except (psutil.AccessDenied, PermissionError):
        raise Refused(
            f"process {process.pid} belongs to another user",
            why="only its user and root may end it",
            fix=f"as that user: kill {process.pid}",
        ) from None
