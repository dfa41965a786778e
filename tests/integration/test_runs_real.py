"""The whole job with real NeMo and the real Triton server, and kill -9 in the middle of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from console import settings as settings_file
from console.desk.desk import Desk
from console.keeper import look
from console.runs.folder import RunFolder
from console.runs.model import RunState, RunView, StepState
from console.runs.store import RunStore
from console.services.model import ServiceState
from console.services.store import ServiceStore
from console.settings import Settings
from tests.processes import ended, running_with, until
from tests.support import managed

pytestmark = pytest.mark.integration

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "deployment.toml"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("home")
    environments = {managed(name).parent for name in ("nemo", "embedded")}
    assert len(environments) == 1, "both environments must lie in one folder"
    made = settings_file.load(
        {"TRITONDECK_HOME": str(home), "TRITONDECK_ENVIRONMENTS": str(environments.pop())}
    )
    yield made
    services = ServiceStore(made)
    for view in services.views():
        services.stop(view.id)


def deploy(settings: Settings) -> str:
    desk = Desk(settings)
    plan = desk.plan(desk.open(str(DIGITS)))
    runs = RunStore(settings)
    run_id = runs.create(plan, DIGITS.read_text())
    runs.start(run_id)
    return run_id


def export_running(settings: Settings, run_id: str) -> RunView:
    """Wait until the export's NeMo process runs."""
    runs = RunStore(settings)
    folder = RunFolder(runs.view(run_id).folder)
    until(lambda: look(folder.kept("1-export")).child_alive)
    return runs.view(run_id)


@pytest.fixture(scope="module")
def cancelled(settings: Settings) -> RunView:
    """A run that was cancelled in the middle of NeMo's export."""
    runs = RunStore(settings)
    run_id = deploy(settings)
    export_running(settings, run_id)
    until(lambda: (now := runs.view(run_id).current) and now.fraction and now.fraction > 0.1, 180)
    runs.cancel(run_id)
    return ended(runs, run_id)


@pytest.fixture(scope="module")
def adopted(settings: Settings, cancelled: RunView) -> RunView:
    """A run whose runner was killed in the middle of the export, continued by another one."""
    runs = RunStore(settings)
    run_id = deploy(settings)
    pid = export_running(settings, run_id).runner_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: runs.view(run_id).state is RunState.ORPHANED)
    runs.retry(run_id)
    return ended(runs, run_id, 300)


def test_cancel_in_the_middle_of_an_export_leaves_no_process(
    settings: Settings, cancelled: RunView
) -> None:
    states = {step.id: step.state for step in cancelled.steps}
    assert cancelled.state is RunState.CANCELLED
    assert states["export"] is StepState.CANCELLED and states["service"] is StepState.PENDING
    assert running_with(str(settings.folders.work)) == []


def test_an_export_whose_runner_was_killed_is_adopted_and_serves_right_answers(
    adopted: RunView,
) -> None:
    assert adopted.state is RunState.SUCCEEDED, adopted.error
    assert adopted.answer.startswith("nine two eight")
    export = next(step for step in adopted.steps if step.id == "export")
    assert export.state is StepState.DONE and "≤" in export.message


def test_the_recorder_saw_the_exports_memory(settings: Settings, adopted: RunView) -> None:
    seen = [s.tree_rss or 0 for s in RunStore(settings).samples(adopted.id)]
    assert max(seen) > 200 << 20  # torch alone takes more


def test_kill_9_of_triton_is_told_and_leaves_nothing_and_a_new_run_serves_again(
    settings: Settings, adopted: RunView
) -> None:
    services = ServiceStore(settings)
    view = services.view(adopted.service)
    tree = [psutil.Process(view.pid), *psutil.Process(view.pid).children(recursive=True)]
    assert view.pid is not None and len(tree) > 1  # the server and the model's stub
    os.kill(view.pid, signal.SIGKILL)
    until(lambda: services.view(adopted.service).state is ServiceState.FAILED)
    assert "SIGKILL" in services.view(adopted.service).reason
    assert psutil.wait_procs(tree, timeout=60)[1] == []
    assert regions(settings, adopted.service) == []
    again = ended(RunStore(settings), deploy(settings), 180)
    assert again.state is RunState.SUCCEEDED, again.error
    assert again.service != adopted.service and again.answer == adopted.answer
    assert {s.id: s.state for s in again.steps}["export"] is StepState.SKIPPED


def test_a_second_run_adopts_the_server_and_an_idle_stop_waits_for_no_connection(
    settings: Settings, adopted: RunView, patient: None
) -> None:
    """One that waited would be killed before its minute is over."""
    services, runs = ServiceStore(settings), RunStore(settings)
    first = ended(runs, deploy(settings), 180)
    second = ended(runs, deploy(settings), 180)
    assert second.state is RunState.SUCCEEDED and second.service == first.service
    view = services.stop(second.service)
    assert (view.state, view.exit_status) == (ServiceState.STOPPED, 0)
    assert regions(settings, second.service) == []
    assert running_with(str(settings.folders.work)) == []


def regions(settings: Settings, service: str) -> list[str]:
    """Shared memory regions of a service's server."""
    from console.services import record

    prefix = record.load(settings.folders.services / service).shm_prefix
    assert prefix
    return [region.name for region in Path("/dev/shm").glob(f"{prefix}*")]
