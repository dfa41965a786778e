"""From a hub id to a served model: a hub of our own, the real fetch, export and Triton."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.hub_server import COMMIT, Hub, Repository
from tests.support import ANY_PORTS, Operator, make_doubler

pytestmark = pytest.mark.integration

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    operator = Operator(tmp_path_factory.mktemp("home"))
    yield operator
    operator.leave()


@pytest.fixture(scope="module")
def hub(operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    graph = make_doubler(tmp_path_factory.mktemp("models")).read_bytes()
    digits = (DIGITS / "digits.nemo").read_bytes()
    repositories = {
        "doubler": Repository({"README.md": b"doubles", "doubler.onnx": graph}),
        "digits": Repository({"README.md": b"digits", "digits.nemo": digits}),
        "words": Repository({"README.md": b"no model at all"}),
    }
    with Hub(**repositories) as hub:
        operator.env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(operator.home / "hf")}
        yield hub


@pytest.fixture(scope="module")
def served(operator: Operator, hub: Hub) -> dict[str, Any]:
    """The second run of a graph that was named by its id, as JSON."""
    assert hub.url
    script = operator.does("plan", "hub:acme/doubler", "--script")
    assert "fetch_hub.py" in script
    assert "# the first of two plans" in script
    run: dict[str, Any] = operator.json("deploy", "hub:acme/doubler", *ANY_PORTS)["run"]
    return run


def test_one_deploy_fetches_then_builds_and_serves(
    operator: Operator, served: dict[str, Any]
) -> None:
    assert (served["state"], served["number"]) == ("succeeded", 2)
    first = operator.json("runs", "show", "doubler-1")["run"]
    assert first["state"] == "succeeded"
    assert [step["id"] for step in first["steps"]][-1] == "fetch-model"
    assert "2, 4, 6, 8" in operator.does("query", "doubler", "--input", "X=[[1, 2, 3, 4]]")


@pytest.mark.usefixtures("served")
def test_the_deployment_keeps_the_id_and_its_script_the_commit(operator: Operator) -> None:
    saved = (operator.home / "state" / "deployments" / "doubler.toml").read_text()
    assert 'model = "hub:acme/doubler"' in saved
    script = operator.does("plan", "doubler", "--script")
    assert f"--revision={COMMIT}" in script
    assert "onnx_to_repository.py" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.usefixtures("served")
def test_deploying_again_neither_fetches_nor_builds(operator: Operator, hub: Hub) -> None:
    hub.requests.clear()
    run = operator.json("deploy", "doubler")["run"]
    states = {step["id"]: step["state"] for step in run["steps"]}
    assert (states["fetch-model"], states["graph"]) == ("skipped", "skipped")
    assert hub.requests == []


@pytest.mark.usefixtures("served")
def test_what_is_in_the_cache_is_planned_whole_at_once(operator: Operator) -> None:
    words = ("deploy", "hub:acme/doubler", "--name", "again", *ANY_PORTS)
    run = operator.json(*words)["run"]
    assert (run["state"], run["number"]) == ("succeeded", 1)
    states = {step["id"]: step["state"] for step in run["steps"]}
    assert states["fetch-model"] == "done"


@pytest.mark.usefixtures("hub")
def test_a_repository_without_a_checkpoint_is_told_after_the_fetch(operator: Operator) -> None:
    process = operator.start("deploy", "hub:acme/words", "--backend", "onnx", *ANY_PORTS)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "not a checkpoint" in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("hub")
def test_an_id_that_the_hub_does_not_know_fails_in_its_words(operator: Operator) -> None:
    words = ("deploy", "hub:acme/nothing", "--backend", "onnx", *ANY_PORTS)
    run = operator.json(*words, code=1)["run"]
    assert run["state"] == "failed"
    assert "the hub has no model acme/nothing" in operator.does("logs", "nothing")


@pytest.mark.usefixtures("hub")
@pytest.mark.slow
def test_a_speech_checkpoint_of_a_hub_answers_with_the_right_words(
    operator: Operator, tmp_path: Path
) -> None:
    shutil.copytree(DIGITS / "wavs", tmp_path / "wavs")
    file = tmp_path / "deployment.toml"
    file.write_text(
        (DIGITS / "deployment.toml")
        .read_text()
        .replace('model = "digits.nemo"', 'model = "hub:acme/digits"')
    )
    run = operator.json("deploy", str(file))["run"]
    assert (run["state"], run["number"]) == ("succeeded", 2)
    states = {step["id"]: step["state"] for step in run["steps"]}
    assert states["export"] == "done"
    report = operator.home / "state" / "work" / run["deployment"] / "export" / "1" / "report.json"
    assert json.loads(report.read_text())["text_equal"] is True
