"""What is said of processes that end, or begin, while somebody looks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from console import keeper, storage
from console.processes import Identity
from console.runs import views
from console.runs.folder import Manifest, RunFolder
from console.runs.journal import Journal
from console.runs.model import RunState
from console.runs.store import RunStore
from tests.processes import plan, settings_at, shell


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as made:
        yield made
        made.kill()


def test_a_keeper_that_ends_after_the_look_was_not_lost(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    me = asdict(Identity.of(process.pid))
    value = {"version": keeper.VERSION, "keeper": me, "child": me, "mark": "a"}
    storage.write_json(tmp_path / "identity.json", value)
    kept = keeper.look(tmp_path)
    process.kill()
    process.wait()
    assert (kept.watched, kept.child_alive, kept.lost) == (True, True, False)
    kept = keeper.look(tmp_path)
    assert (kept.watched, kept.child_alive, kept.lost) == (False, False, True)


def test_a_runner_that_tells_its_end_after_its_journal_was_read_is_believed(
    process: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(settings_at(tmp_path))
    run = RunFolder(store.folder / store.create(plan(shell("build", "true")), ""))
    journal = Journal(run.journal)
    journal.append("start", attempt=1, runner=asdict(Identity.of(process.pid)))
    journal.append("step", step="build", state="running")
    assert views.view(run).state is RunState.RUNNING
    fold = views.fold

    def late(folder: RunFolder, manifest: Manifest) -> views.Fold:
        found = fold(folder, manifest)
        if process.poll() is None:
            journal.append("step", step="build", state="done", elapsed=1.0)
            journal.append("end", state="succeeded")
            process.kill()
            process.wait()
        return found

    monkeypatch.setattr(views, "fold", late)
    assert views.view(run).state is RunState.SUCCEEDED


def test_a_runner_that_dies_without_a_word_is_told_so(
    process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    store = RunStore(settings_at(tmp_path))
    run = RunFolder(store.folder / store.create(plan(shell("build", "true")), ""))
    Journal(run.journal).append("start", attempt=1, runner=asdict(Identity.of(process.pid)))
    process.kill()
    process.wait()
    assert views.view(run).state is RunState.INTERRUPTED
