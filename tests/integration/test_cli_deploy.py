"""The whole job through the command line: real processes, a real Triton, exit codes and JSON."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import until
from tests.support import ANY_PORTS, Operator, make_doubler

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    operator = Operator(tmp_path_factory.mktemp("home"))
    yield operator
    operator.leave()


@pytest.fixture(scope="module")
def doubler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_doubler(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def served(operator: Operator, doubler: Path) -> dict[str, Any]:
    """The run that deployed the doubler, as JSON."""
    run: dict[str, Any] = operator.json("deploy", str(doubler), *ANY_PORTS)["run"]
    return run


def test_a_deployed_checkpoint_is_verified_and_its_run_says_so(served: dict[str, Any]) -> None:
    assert served["state"] == "succeeded"
    assert served["answer"]
    assert {step["state"] for step in served["steps"]} <= {"done", "skipped"}
    assert set(served) >= {"id", "deployment", "number", "folder", "started", "elapsed", "service"}


@pytest.mark.usefixtures("served")
def test_query_prints_the_answer_of_the_served_model(operator: Operator) -> None:
    assert "2, 4, 6, 8" in operator.does("query", "doubler", "--input", "X=[[1, 2, 3, 4]]")
    document = operator.json("query", "doubler", "--input", "X=[[1, 2, 3, 4]]")
    (output,) = document["outputs"]
    assert (output["name"], output["shape"], output["values"]) == ("Y", [1, 4], [2, 4, 6, 8])
    assert document["latency"] > 0


@pytest.mark.usefixtures("served")
def test_the_printed_curl_and_python_give_the_same_answer(operator: Operator) -> None:
    words = ("query", "doubler", "--input", "X=[[1, 2, 3, 4]]")
    curl = operator.does(*words, "--curl")
    answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True).stdout
    assert json.loads(answer)["outputs"][0]["data"] == [2, 4, 6, 8]
    program = operator.does(*words, "--python")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "8." in done.stdout


@pytest.mark.usefixtures("served")
def test_a_server_is_asked_by_its_url_too(operator: Operator) -> None:
    (service,) = operator.json("services")["services"]
    url = service["endpoint"]["url"]
    shown = operator.does("query", url, "--model", "doubler", "--input", "X=[[0, 1, 0, 1]]")
    assert "0, 2, 0, 2" in shown


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    "words", [["--text", "hello"], ["--input", "Z=1"], ["--input", "X=abc"], ["--model", "other"]]
)
def test_a_wrong_request_is_wrong_usage_or_an_error_in_words(
    operator: Operator, words: list[str]
) -> None:
    process = operator.start("query", "doubler", *words)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (1, 2)
    assert err.startswith("error: ")


@pytest.mark.usefixtures("served")
def test_the_token_of_the_server_is_in_no_output(operator: Operator) -> None:
    (service,) = operator.json("services")["services"]
    token = Path(service["endpoint"]["token_file"]).read_text().strip()
    shown = operator.does("services", "--json") + operator.does("logs", "doubler")
    shown += operator.does("logs", "--service", service["id"])
    shown += operator.does("query", "doubler", "--input", "X=[[1, 2, 3, 4]]", "--curl")
    assert len(token) >= 20
    assert token not in shown


def test_logs_are_those_of_the_newest_run(operator: Operator, served: dict[str, Any]) -> None:
    assert "loaded doubler" in operator.does("logs", "doubler", "--step", "load")
    assert "loaded doubler" in operator.does("logs", "-f", "--run", served["id"])
    operator.does("logs", "doubler", "--step", "no-such-step", code=2)
    lines = [json.loads(li) for li in operator.does("logs", "doubler", "--json").splitlines()]
    assert all(line["version"] == 1 and line["log"] and "line" in line for line in lines)


@pytest.mark.usefixtures("served")
def test_deploying_again_skips_what_is_unchanged_and_keeps_the_server(operator: Operator) -> None:
    before = operator.json("services")["services"][0]["pid"]
    run = operator.json("deploy", "doubler")["run"]
    states = {step["id"]: step["state"] for step in run["steps"]}
    assert states["graph"] == "skipped"
    assert operator.json("services")["services"][0]["pid"] == before


def test_a_taken_port_is_refused_with_its_holder(operator: Operator, doubler: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        words = ("deploy", str(doubler), "--name", "refused", *ANY_PORTS)
        refused = operator.json(*words, "--set", f"server.http_port={port}", code=3)
    assert f"pid {os.getpid()}" in refused["error"]["why"]
    assert operator.json("runs", "list", "refused")["runs"] == []


def test_a_check_that_is_accepted_does_not_block_and_the_run_fails_truthfully(
    operator: Operator, doubler: Path
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        words = ("deploy", str(doubler), "--name", "stubborn", *ANY_PORTS)
        run = operator.json(
            *words, "--set", f"server.http_port={port}", "--accept", "port-http", code=1
        )["run"]
    assert run["state"] == "failed"
    assert run["error"]


def test_ctrl_c_leaves_the_run_going_and_says_how_to_come_back(
    operator: Operator, doubler: Path
) -> None:
    process = operator.start("deploy", str(doubler), "--name", "left", *ANY_PORTS)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("run left-1")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "logs -f left" in err
    assert "Traceback" not in err
    operator.does("logs", "-f", "left")
    assert operator.json("runs", "show", "left")["run"]["state"] == "succeeded"
    operator.does("stop", "left")


@pytest.fixture(scope="module")
def detached(operator: Operator, doubler: Path) -> dict[str, Any]:
    """The run that a detached deploy has named, as it said then."""
    words = ("deploy", str(doubler), "--name", "detached", *ANY_PORTS, "--detach")
    run: dict[str, Any] = operator.json(*words)["run"]
    return run


def test_detach_returns_at_once_and_names_the_run(
    operator: Operator, detached: dict[str, Any]
) -> None:
    assert detached["state"] in ("starting", "running")
    operator.does("logs", "-f", "--run", detached["id"])
    assert operator.json("runs", "show", detached["id"])["run"]["state"] == "succeeded"


def test_what_serves_cannot_be_forgotten_and_what_is_forgotten_is_in_the_trash(
    operator: Operator, detached: dict[str, Any]
) -> None:
    operator.does("logs", "-f", "--run", detached["id"])
    operator.does("forget", "detached", code=3)
    operator.does("stop", "detached")
    operator.does("forget", "detached")
    assert "detached" not in [d["name"] for d in operator.json("deployments")["deployments"]]
    (trash,) = (operator.home / "state" / "trash").glob("detached-*")
    assert (trash / "detached.toml").is_file()
    assert (trash / "detached-1" / "journal.jsonl").is_file()


@pytest.mark.slow
def test_a_run_cancelled_in_its_export_ends_with_4_and_leaves_no_process(
    tmp_path: Path,
) -> None:
    operator = Operator(tmp_path)
    deploy = operator.start("deploy", str(ROOT / "examples" / "digits" / "deployment.toml"))
    until(lambda: any("nemo_to_onnx.py" in str(p.info) for p in operator.processes()), 60)
    assert operator.json("runs", "cancel", "digits")["run"]["state"] == "cancelled"
    deploy.communicate(timeout=60)
    assert deploy.returncode == 4
    until(lambda: not operator.processes())
