"""The detached process that runs the operator's command when a run has ended.

A process of its own: the runner's locks are free meanwhile. Whatever goes wrong with the command is
in the run's ``messages.log`` and changes nothing about the run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from console import detach
from console.facts import DeckError
from console.runs.model import RunState
from console.runtimes.host import child_environment
from console.settings import NotifySettings
from console.text import clean

TIME_LIMIT = 30.0
"""Seconds after which the command is killed."""
_DESKTOP = ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "XAUTHORITY")


def tell(
    settings: NotifySettings,
    folder: Path,
    *,
    deployment: str,
    state: RunState,
    seconds: float,
    error: str,
) -> None:
    """Start the command detached, if there is one and the run took long enough."""
    if not settings.command or seconds < settings.after:
        return
    env = child_environment()
    env |= {name: os.environ[name] for name in _DESKTOP if name in os.environ}
    env |= {
        "TRITONDECK_RUN": folder.name,
        "TRITONDECK_RUN_DEPLOYMENT": deployment,
        "TRITONDECK_RUN_STATE": state.value,
        "TRITONDECK_RUN_SECONDS": f"{seconds:.0f}",
        "TRITONDECK_RUN_ERROR": clean(error),
    }
    request = {"folder": str(folder), "argv": list(settings.command), "env": env}
    try:
        detach.start("console.runs.notice", request)
    except DeckError as problem:
        print(f"notice: {clean(str(problem))}", file=sys.stderr, flush=True)


def carry_out(argv: list[str], env: Mapping[str, str], limit: float = TIME_LIMIT) -> str:
    """Run the command to its end or `limit` seconds; what went wrong, empty when nothing did."""
    shown = clean(argv[0])
    try:
        process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        return f"cannot start {shown}: {error.strerror}"
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"{shown} was ended after {limit:g} s"
    return f"{shown} ended with {code}" if code else ""


def main() -> NoReturn:
    def work(raw: dict[str, Any], ready: detach.Ready) -> None:
        ready()
        if problem := carry_out(raw["argv"], raw["env"]):
            print(f"notice: {problem}", file=sys.stderr, flush=True)

    detach.detached(work)


if __name__ == "__main__":
    main()
