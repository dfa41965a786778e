"""Environment steps of a run: made by the real creator, under a keeper, cancelled and continued."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from console.planning.plan import Command, CommandStep, EnvironmentSpec, EnvironmentStep, Plan
from console.runs.model import RunState, StepState
from console.runs.store import RunStore
from console.settings import PackageSettings
from tests.processes import ended, running_with, settings_at, until
from tests.wheels import make_wheel

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    make_wheel(tmp_path / "wheels", "alpha", code="answer = 42")
    packages = PackageSettings(wheelhouse=str(tmp_path / "wheels"), offline=True)
    return RunStore(replace(settings_at(tmp_path / "home"), packages=packages))


def started(store: RunStore, requirement: str = "alpha==1.0") -> str:
    tiny = EnvironmentSpec(
        name="tiny", title="Tiny", requirements=(requirement,), imports=("alpha",)
    )
    use = Command(
        argv=("python", "-c", "import alpha; print(alpha.answer)"), runtime="environment:tiny"
    )
    steps = (
        EnvironmentStep(id="environment", title="Environment", environment="tiny"),
        CommandStep(id="use", title="Use", command=use),
    )
    run_id = store.create(
        Plan(deployment="digits", backend="test", environments=(tiny,), steps=steps), ""
    )
    store.start(run_id)
    return run_id


def test_an_environment_is_made_then_used_then_reused(store: RunStore) -> None:
    view = ended(store, started(store), 60)
    assert view.state is RunState.SUCCEEDED, view.error
    assert store.log_file(view.id, "use").read_text() == "42\n"
    again = ended(store, started(store), 60)
    assert [(s.state, s.reason) for s in again.steps[:1]] == [
        (StepState.SKIPPED, "the environment is ready")
    ]


def test_a_creation_survives_the_runner_and_is_adopted(store: RunStore) -> None:
    run_id = started(store)
    until(lambda: (now := store.view(run_id).current) and now.message)
    pid = store.view(run_id).runner_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: store.view(run_id).runner_pid is None)
    store.retry(run_id)
    view = ended(store, run_id, 60)
    assert view.state is RunState.SUCCEEDED, view.error
    assert "adopted" in view.steps[0].reason


def test_a_cancelled_creation_leaves_no_process_and_can_be_continued(store: RunStore) -> None:
    run_id = started(store)
    until(lambda: (now := store.view(run_id).current) and now.message)
    store.cancel(run_id)
    assert ended(store, run_id, 30).state is RunState.CANCELLED
    assert running_with(str(store.settings.folders.environments)) == []
    store.retry(run_id)
    assert ended(store, run_id, 60).state is RunState.SUCCEEDED


def test_a_package_that_does_not_exist_fails_the_step_in_the_creators_words(
    store: RunStore,
) -> None:
    view = ended(store, started(store, "no-such-package==9"), 60)
    assert view.state is RunState.FAILED
    assert (
        "the environment could not be made: exit code 1: no package source has no-such-package==9"
        in view.error
    )
    assert "no-such-package" in store.log_file(view.id, "environment").read_text()
    assert view.steps[1].state is StepState.PENDING
