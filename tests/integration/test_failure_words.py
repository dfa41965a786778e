"""What an operator reads when serving fails: what happened, why, what to do; and a retry that works.

Every case is a real run against the real embedded server. The damage is a step put into the plan;
a retry finds that step unchanged, mends the files and serves.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from onnx import TensorProto, helper

from console import settings as settings_file
from console.desk.desk import Desk
from console.planning.plan import Plan, ServiceStep
from console.runs.model import RunState, RunView
from console.runs.store import RunStore
from console.services.store import ServiceStore
from console.settings import Settings
from tests.processes import ended, fill, shell, small_disk, until
from tests.support import make_doubler, managed

pytestmark = pytest.mark.integration

DEPLOYMENT = """version = 1
name = "doubler"
backend = "onnx"
[checkpoints]
model = "{model}"
[server]
http_port = 0
grpc_port = 0
metrics_port = 0
load_timeout = {limit}
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("home")
    environments = str(managed("embedded").parent)
    made = settings_file.load(
        {"TRITONDECK_HOME": str(home), "TRITONDECK_ENVIRONMENTS": environments}
    )
    yield made
    services = ServiceStore(made)
    for view in services.views():
        services.stop(view.id)


@pytest.fixture(scope="module")
def doubler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_doubler(tmp_path_factory.mktemp("models"))


def planned(settings: Settings, model: Path, limit: int = 60, more: str = "") -> Plan:
    file = model.parent / f"{model.stem}.toml"
    file.write_text(DEPLOYMENT.format(model=model, limit=limit) + more)
    desk = Desk(settings)
    plan = desk.plan(desk.open(str(file)))
    # A server with a hanging load must be killed; its plan gives it longer than tests may take.
    steps = [
        step.model_copy(update={"service": step.service.model_copy(update={"stop_timeout": 3.0})})
        if isinstance(step, ServiceStep)
        else step
        for step in plan.steps
    ]
    return plan.model_copy(update={"steps": tuple(steps)})


def damaged(plan: Plan, before: str, script: str, *, always: bool = False) -> Plan:
    """`plan` with a bash script in front of the step `before`; a retry skips it unless `always`."""
    at = [step.id for step in plan.steps].index(before)
    steps = (*plan.steps[:at], shell("damage", script, always=always), *plan.steps[at:])
    return plan.model_copy(update={"steps": steps})


def executed(settings: Settings, plan: Plan) -> RunView:
    runs = RunStore(settings)
    run_id = runs.create(plan, "")
    runs.start(run_id)
    return ended(runs, run_id, 180)


def retried(settings: Settings, run: RunView) -> RunView:
    runs = RunStore(settings)
    runs.retry(run.id)
    return ended(runs, run.id, 180)


def assert_in_words(run: RunView, *words: str) -> None:
    """Failed, with all `words` in what it says, and neither a traceback nor a raw log line in it."""
    assert run.state is RunState.FAILED
    told = f"{run.error}\n{run.fix}"
    for word in words:
        assert word in told
    assert run.fix
    assert "Traceback" not in told
    assert not re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [EIWV] ", told), told


CASES = {
    "corrupted graph": (
        "head -c 40 1/model.onnx > 1/cut && mv 1/cut 1/model.onnx",
        ("model.onnx is not an ONNX model", "cut short"),
    ),
    "misspelt field": (
        "sed -i 's/^max_batch_size/max_batchsize/; $ a max_batchsize: 4' 1/config.pbtxt",
        ("configuration", "unknown field max_batchsize", "config.pbtxt"),
    ),
    "broken syntax": (
        "echo 'input [' >> 1/config.pbtxt",
        ("config.pbtxt line", "correct that line"),
    ),
    "initialize raises": (
        "sed -i 's/        import onnxruntime/        raise RuntimeError(\"no licence\")/' "
        "1/model.py",
        ("doubler", "no licence"),
    ),
    "missing module": (
        "sed -i 's/^import json/import nosuchmodule/' 1/model.py",
        ("needs the Python module nosuchmodule", "install"),
    ),
    "no model.py": ("rm 1/model.py", ("model.py", "write the file")),
}


SLOW = {"misspelt field", "broken syntax", "initialize raises"}
"""Told from the server's log like the others; each case starts a model twice."""


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, case in CASES.items()
    ],
)
def test_a_damaged_model_fails_to_load_in_words_and_a_retry_serves_it(
    settings: Settings, doubler: Path, script: str, words: tuple[str, ...]
) -> None:
    model = settings.folders.work / "doubler" / "repository" / "doubler"
    plan = damaged(planned(settings, doubler, limit=10), "load", f"cd {model} && {script}")
    failed = executed(settings, plan)
    assert_in_words(failed, *words)
    again = retried(settings, failed)
    assert again.state is RunState.SUCCEEDED, again.error


def executed_with(
    settings: Settings, plan: Plan, before: str, act: Callable[[int], None]
) -> RunView:
    """Run `plan`; when it comes to `before`, `act` is called with the server's process id."""
    runs, services = RunStore(settings), ServiceStore(settings)
    gate = settings.folders.state / "gate"
    gate.unlink(missing_ok=True)
    wait = f"until [ -e {gate} ]; do sleep 0.05; done"
    run_id = runs.create(damaged(plan, before, wait, always=True), "")
    runs.start(run_id)
    until(lambda: (now := runs.view(run_id).current) and now.id == "damage")
    pid = services.view(runs.view(run_id).service).pid
    assert pid is not None
    act(pid)
    gate.touch()
    return ended(runs, run_id, 180)


def kill_stubs(server: int) -> None:
    for child in psutil.Process(server).children(recursive=True):
        child.kill()
        # The server never reaps it.
        until(lambda child=child: child.status() == psutil.STATUS_ZOMBIE)  # type: ignore[misc]


def test_a_killed_stub_is_told_by_verify_and_a_retry_serves_again(
    settings: Settings, doubler: Path
) -> None:
    failed = executed_with(settings, planned(settings, doubler), "verify", kill_stubs)
    assert_in_words(failed, "has died", "dmesg")
    again = retried(settings, failed)
    assert again.state is RunState.SUCCEEDED, again.error


def test_a_killed_server_is_told_by_load_and_a_retry_serves_again(
    settings: Settings, doubler: Path
) -> None:
    failed = executed_with(
        settings, planned(settings, doubler), "load", lambda pid: os.kill(pid, signal.SIGKILL)
    )
    assert_in_words(failed, "the server has ended", "SIGKILL", "dmesg")
    assert "pb_stub" not in failed.error
    again = retried(settings, failed)
    assert again.state is RunState.SUCCEEDED, again.error


GRAPHS = {
    "operator": ("Frobnicate", 17, ("needs the operator Frobnicate", "standard operators")),
    "opset": ("Add", 99, ("newer than", "older opset")),
}


@pytest.mark.parametrize(("operator", "opset", "words"), GRAPHS.values(), ids=list(GRAPHS))
def test_a_graph_that_onnx_runtime_cannot_run_is_told_before_a_server_starts(
    settings: Settings, tmp_path: Path, operator: str, opset: int, words: tuple[str, ...]
) -> None:
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "XY"]
    graph = helper.make_graph(
        [helper.make_node(operator, ["X", "X"], ["Y"])], "graph", [sides[0]], [sides[1]]
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    (tmp_path / "graph.onnx").write_bytes(made.SerializeToString())
    failed = executed(settings, planned(settings, tmp_path / "graph.onnx"))
    assert_in_words(failed, *words)
    assert not failed.service
    make_doubler(tmp_path).rename(tmp_path / "graph.onnx")
    again = retried(settings, failed)
    assert again.state is RunState.SUCCEEDED, again.error


def test_another_answer_than_the_expected_one_shows_both(settings: Settings, doubler: Path) -> None:
    case = '[[verify]]\nexpect = "[2, 4, 6, 9]"\nfields = {X = "[[1, 2, 3, 4]]"}\n'
    failed = executed(settings, planned(settings, doubler, more=case))
    assert_in_words(failed, "Y: ", "value 3 is 8, expected 9")


def test_a_port_taken_after_the_check_is_told_with_its_holder(
    settings: Settings, doubler: Path
) -> None:
    plan = planned(settings, doubler)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        variables = [
            variable.model_copy(update={"default": str(port)})
            if variable.name == "http_port"
            else variable
            for variable in plan.variables
        ]
        failed = executed(settings, plan.model_copy(update={"variables": tuple(variables)}))
        assert_in_words(failed, f"port {port}", f"pid {os.getpid()}", "choose another")
    again = retried(settings, failed)
    assert again.state is RunState.SUCCEEDED, again.error


def test_a_metrics_port_lost_at_the_last_moment_is_told(settings: Settings, doubler: Path) -> None:
    """Triton goes on without metrics then: only its log says so."""
    services, runs = ServiceStore(settings), RunStore(settings)
    for view in services.views():
        services.stop(view.id)
    before = {view.id for view in services.views()}
    run_id = runs.create(planned(settings, doubler), "")
    runs.start(run_id)
    view = until(lambda: next((v for v in services.views() if v.id not in before), None))
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", int(services.values(view.id)["metrics_port"])))
        holder.listen()
        failed = ended(runs, run_id, 180)
    assert_in_words(failed, "Metrics port", "is in use")
    again = retried(settings, failed)
    assert again.state is RunState.SUCCEEDED, again.error


def test_a_full_disk_under_the_repository_is_told(doubler: Path, tmp_path: Path) -> None:
    environments = str(managed("embedded").parent)
    made = settings_file.load(
        {"TRITONDECK_HOME": str(tmp_path), "TRITONDECK_ENVIRONMENTS": environments}
    )
    with small_disk(made.folders.work / "doubler" / "repository", 64) as disk:
        ballast = fill(disk)
        failed = executed(made, planned(made, doubler))
        assert_in_words(failed, "disk", "full", "space")
        ballast.unlink()
        again = retried(made, failed)
        ServiceStore(made).stop(again.service)
    assert again.state is RunState.SUCCEEDED, again.error
