"""Runs on full disks, in folders that cannot be written and in folders of somebody else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.facts import DeckError, UsageError
from console.planning.plan import FileSpec, WriteStep
from console.runs.model import RunState, RunView, StepState
from console.runs.store import RunStore
from tests.processes import (
    ended,
    executed,
    fill,
    plan,
    running_with,
    settings_at,
    shell,
    small_disk,
    started,
    until,
)

PAGE = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", kilobytes=2048) as path:
        yield path


def free_pages(ballast: Path, count: int) -> None:
    size = ballast.stat().st_size
    os.truncate(ballast, size - size % PAGE - count * PAGE)


def no_traceback(view: RunView) -> None:
    messages = view.folder / "messages.log"
    assert not messages.exists() or "Traceback" not in messages.read_text()


@pytest.mark.parametrize("pages", [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 24, 28, 32])
def test_however_little_room_is_left_the_end_is_told(disk: Path, pages: int) -> None:
    """Each write in turn is the one that does not fit."""
    store = RunStore(settings_at(disk / "home"))
    free_pages(fill(disk), pages)
    files = WriteStep(id="files", title="Files", files=(FileSpec(path="${work}/a", text="a"),))
    steps = (files, shell("build", "echo made > out; echo said", outputs=("${work}/out",)))
    try:
        run_id = started(store, *steps)
    except DeckError as error:
        assert "is full" in error.title and "free" in error.fix
        (disk / "ballast").unlink()
        assert [view.state for view in store.views()] in ([], [RunState.INTERRUPTED])
        return
    view = ended(store, run_id)
    no_traceback(view)
    if view.state is RunState.FAILED:
        assert "full" in view.error or "No space left" in view.error
        (disk / "ballast").unlink()
        store.retry(run_id)
        view = ended(store, run_id)
    assert view.state is RunState.SUCCEEDED
    assert (disk / "home/state/work/digits/out").read_text() == "made\n"


def test_a_step_that_fills_the_disk_fails_truthfully_and_can_be_retried(disk: Path) -> None:
    store = RunStore(settings_at(disk / "home"))
    hog = "test -e ../../../freed || cat /dev/zero > hog; exit 0"
    run_id = started(store, shell("build", hog), shell("after", "exit 0"))
    view = ended(store, run_id)
    no_traceback(view)
    assert view.state is RunState.FAILED and "is full" in view.error and "0 B free" in view.error
    assert [s.state for s in view.steps] == [StepState.FAILED, StepState.PENDING]
    assert "free some space" in view.fix
    (disk / "home/state/work/digits/hog").unlink()
    (disk / "home/freed").touch()
    store.retry(run_id)
    assert ended(store, run_id).state is RunState.SUCCEEDED


def test_a_file_that_does_not_fit_is_not_left_half_written(disk: Path) -> None:
    store = RunStore(settings_at(disk / "home"))
    big = FileSpec(path="${work}/big", text="x" * (4 << 20))
    run_id = store.create(plan(shell("build", "exit 0")), "")
    with pytest.raises(DeckError, match="is full"):
        store.create(plan(WriteStep(id="files", title="Files", files=(big,))), "")
    assert [view.id for view in store.views()] == [run_id]
    runs = (disk / "home/state/runs").iterdir()
    assert [p.name for p in runs if not p.name.startswith(".numbers")] == [run_id]


def test_cancel_works_on_a_full_disk(disk: Path) -> None:
    store = RunStore(settings_at(disk / "home"))
    run_id = started(store, shell("build", "sleep 61.25"))
    until(lambda: store.view(run_id).current)
    until(lambda: running_with("61.25"))
    fill(disk)
    store.cancel(run_id)
    view = ended(store, run_id)
    assert view.state is RunState.CANCELLED and running_with("61.25") == []
    assert view.steps[0].state is StepState.CANCELLED


def test_a_state_folder_of_another_user_is_refused_in_words(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test gives a folder to another user, which needs root")
    state = tmp_path / "home" / "state"
    state.mkdir(parents=True)
    os.chown(state, 65534, 65534)
    store = RunStore(settings_at(tmp_path / "home"))
    with pytest.raises(UsageError, match="belongs to user id 65534") as caught:
        store.create(plan(shell("build", "exit 0")), "")
    assert "TRITONDECK_HOME" in caught.value.fix
    assert list(state.iterdir()) == []


def test_a_work_folder_of_another_user_is_refused_in_words(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test gives a folder to another user, which needs root")
    settings = settings_at(tmp_path / "home")
    store = RunStore(settings)
    run_id = store.create(plan(shell("build", "exit 0")), "")
    settings.folders.work.mkdir(mode=0o700)
    os.chown(settings.folders.work, 65534, 65534)
    with pytest.raises(UsageError, match="belongs to user id 65534"):
        store.start(run_id)


def test_a_folder_that_cannot_be_written_is_told_and_still_viewed(disk: Path) -> None:
    store = RunStore(settings_at(disk / "home"))
    run_id = executed(store, shell("build", "exit 0")).id
    remount = ["mount", "-o", "remount,ro", str(disk)]
    until(lambda: subprocess.run(remount, capture_output=True).returncode == 0)
    assert store.view(run_id).state is RunState.SUCCEEDED
    for act in (
        lambda: store.create(plan(shell("build", "exit 0")), ""),
        lambda: store.retry(run_id),
        lambda: store.delete(run_id),
    ):
        with pytest.raises(DeckError) as caught:
            act()
        assert "Read-only file system" in str(caught.value)


def test_a_symlink_planted_for_a_log_is_not_followed(tmp_path: Path) -> None:
    store = RunStore(settings_at(tmp_path / "home"))
    victim = tmp_path / "victim"
    victim.write_text("mine")
    run_id = store.create(plan(shell("build", "echo overwritten")), "")
    for name in ("messages.log", "journal.jsonl"):
        (store.view(run_id).folder / name).symlink_to(victim)
        with pytest.raises(DeckError, match="symbolic link"):
            store.start(run_id)
        (store.view(run_id).folder / name).unlink()
        assert victim.read_text() == "mine"
