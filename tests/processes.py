"""What the tests of keeper, runs and services share: waiting for states, small real plans, full disks."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from console import settings
from console.planning.plan import Command, CommandStep, ExitCode, Plan, Step
from console.runs.folder import RunFolder, load
from console.runs.model import RunState, RunView
from console.runs.store import RunStore
from console.runs.views import fold
from console.settings import Settings

T = TypeVar("T")


def until(done: Callable[[], T], seconds: float = 60.0) -> T:
    """Wait until `done` answers something true and return it; fails the test when it does not."""
    deadline = time.monotonic() + seconds
    while True:
        if found := done():
            return found
        assert time.monotonic() < deadline, f"{done} did not come true in {seconds} s"
        time.sleep(0.02)


def settings_at(home: Path) -> Settings:
    return settings.load({"TRITONDECK_HOME": str(home)})


def shell(step: str, script: str, **fields: Any) -> CommandStep:
    """A step that runs a bash script (tests only: plans carry argv lists of real tools)."""
    fields.setdefault("success", (ExitCode(),))
    command = Command(argv=("bash", "-c", script.replace("$", "$$")))
    return CommandStep(id=step, title=step.capitalize(), command=command, **fields)


def plan(*steps: Step, deployment: str = "digits") -> Plan:
    return Plan(deployment=deployment, backend="test", steps=steps)


def started(store: RunStore, *steps: Step, **options: Any) -> str:
    run_id = store.create(plan(*steps), "", **options)
    store.start(run_id)
    return run_id


def ended(store: RunStore, run_id: str, seconds: float = 60.0) -> RunView:
    """The run's view when it has ended."""
    until(lambda: not store.view(run_id).active, seconds)
    return store.view(run_id)


def executed(store: RunStore, *steps: Step, **options: Any) -> RunView:
    return ended(store, started(store, *steps, **options))


def gone(view: RunView) -> RunView:
    """The view of a run that has ended, when its runner has gone too: until then its files come and go."""
    folder = RunFolder(view.folder)
    runner = fold(folder, load(folder)).runner
    until(lambda: runner is None or not runner.alive)
    return view


def state_of(store: RunStore, run_id: str, state: RunState) -> RunView:
    until(lambda: store.view(run_id).state is state)
    return store.view(run_id)


def running_with(word: str) -> list[int]:
    """Processes whose command line holds `word`: what a test started is told by a unique word."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(word in one for one in words):
            found.append(process.pid)
    return found


@contextmanager
def small_disk(path: Path, kilobytes: int = 512) -> Iterator[Path]:
    """A tmpfs of its own at `path`. Fails, and says so, where the user may not mount one."""
    if os.geteuid() != 0:
        pytest.fail("this test mounts a small tmpfs to fill it up, which needs root")
    path.mkdir(parents=True, exist_ok=True)
    size = f"size={kilobytes}k,mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> Path:
    """Take every free byte of the disk under `path`; the file to remove to have them back."""
    ballast = path / "ballast"
    with ballast.open("ab", buffering=0) as stream:
        for size in (65536, 4096, 1):
            try:
                while True:
                    stream.write(b"x" * size)
            except OSError:
                continue
    return ballast
