"""The console itself, shell completion and the version."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from typing import TYPE_CHECKING

from console.facts import UsageError

if TYPE_CHECKING:
    from console.desk.desk import Desk
    from console.desk.monitor import MonitorSource


def console(args: argparse.Namespace) -> int:
    """Open the console; needs a terminal."""
    from console.verbs.common import desk

    return show(desk(args))


def show(on: Desk, monitor: MonitorSource | None = None) -> int:
    """Open the console at Home, or at the monitor of a source; needs a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "the console needs a terminal",
            fix="use a verb in scripts: tritondeck --help lists them",
        )
    # What is made while starting stays until the end: looking for garbage in it finds none, takes a
    # twentieth of the start, and would hold up a key now and then.
    gc.disable()
    # A worker that computes holds up a key for so long each time that the screen wants to go on.
    sys.setswitchinterval(0.001)
    # The wait for a frame that follows another, as what was read for a key follows the cursor: up to
    # two of these steps, 33 ms at Textual's own 60. Nothing here is drawn frame by frame.
    os.environ.setdefault("TEXTUAL_FPS", "250")
    from console.app import TritonDeckApp

    app = TritonDeckApp(on, monitor=monitor)
    app.run()
    return app.return_code or 0


def completion(args: argparse.Namespace) -> int:
    import shtab

    from console.cli import parser

    print(shtab.complete(parser(), shell=args.shell))
    return 0


def version(args: argparse.Namespace) -> int:
    from console.cli import version as ours

    print(json.dumps({"version": 1, "tritondeck": ours()}) if args.json else f"tritondeck {ours()}")
    return 0
