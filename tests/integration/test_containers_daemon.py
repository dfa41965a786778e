"""dockerd killed and started again under a running container, with and without live-restore."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from console.keeper import look
from console.runs.model import RunState
from console.runs.store import RunStore
from console.runtimes import containers
from tests.containers import Daemon
from tests.integration.test_containers_runs import begun, folder_of, inside, log
from tests.processes import ended, settings_at, until


@pytest.fixture(scope="module")
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that may be killed; the session's own is left alone."""
    return make_daemon("--live-restore")


@pytest.fixture
def store(tmp_path: Path, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    for name, value in daemon.environ.items():
        monkeypatch.setenv(name, value)
    return RunStore(settings_at(tmp_path / "home"))


WAITING = "n=0; while ! test -e WORK/go; do n=$((n+1)); echo line $n; sleep 0.1; done; echo went on"


def unreachable(folder: Path) -> bool:
    view = containers.look(folder)
    return view is not None and bool(view.following.unreachable)


def let_go(store: RunStore, run_id: str) -> str:
    """Let the container end by itself; its log."""
    (store.settings.folders.work / "digits" / "go").touch()
    view = ended(store, run_id, 120)
    assert view.state is RunState.SUCCEEDED, (view.error, log(store, run_id))
    return log(store, run_id)


def numbers(text: str) -> list[int]:
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith("line ")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_with_live_restore_the_container_lives_on_and_no_line_is_lost(
    store: RunStore, daemon: Daemon, number: int
) -> None:
    run_id = begun(store, daemon, inside("build", WAITING))
    folder = folder_of(store, run_id)
    until(lambda: "line 3" in log(store, run_id))
    daemon.stop(number)
    until(lambda: unreachable(folder))
    view = containers.look(folder)
    assert view is not None and view.ended is None
    assert Path(f"/proc/{view.following.pid}").exists()
    until(lambda: "docker does not answer" in log(store, run_id))
    daemon.start("--live-restore")
    until(lambda: not unreachable(folder))
    text = let_go(store, run_id)
    found = numbers(text)
    assert found == list(range(1, len(found) + 1)) and "went on" in text
    assert daemon.containers() == []


def test_everything_killed_at_once_is_found_again(store: RunStore, daemon: Daemon) -> None:
    run_id = begun(store, daemon, inside("build", WAITING))
    folder = folder_of(store, run_id)
    until(lambda: "line 3" in log(store, run_id))
    runner = store.view(run_id).runner_pid
    kept = look(folder)
    assert runner and kept.keeper and kept.child
    for pid in (runner, kept.keeper.pid, kept.child.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ends with its keeper
    daemon.stop(signal.SIGKILL)
    until(lambda: not store.view(run_id).active)
    daemon.start("--live-restore")
    store.retry(run_id)
    text = let_go(store, run_id)
    found = numbers(text)
    assert found == list(range(1, len(found) + 1))
    assert daemon.containers() == []


def test_without_live_restore_the_engines_stop_is_told(store: RunStore, daemon: Daemon) -> None:
    script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done"
    run_id = begun(store, daemon, inside("build", script, success=()))
    folder_of(store, run_id)
    until(lambda: "up\n" in log(store, run_id))
    daemon.stop(signal.SIGKILL)
    daemon.start()  # it ends the containers that it finds
    view = ended(store, run_id, 120)
    assert view.state is RunState.FAILED and "exit code 7" in view.error, view.error
    assert daemon.containers() == []
