"""The verbs on a Ray cluster whose head gives recorded answers: deploy, look, scale, ask, stop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import shell
from tests.ray_head import Head, served
from tests.support import Operator, until_gone

FACTS = Path(__file__).parents[2] / "examples" / "facts"

pytestmark = pytest.mark.integration


@pytest.fixture
def head() -> Iterator[Head]:
    with served(Head()) as found:
        yield found


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    found = Operator(tmp_path)
    yield found
    found.leave()
    until_gone(str(tmp_path))


def deployment(folder: Path, head: Head, expect: str = "yellow") -> str:
    file = folder / "facts.toml"
    file.write_text(
        f'version = 1\nname = "facts"\nbackend = "ray-serve"\n[checkpoints]\nmodel = "{FACTS}"\n'
        f'[options]\ndevice = "cpu"\nhead = "{head.url}"\n[server]\nhttp_port = 0\n'
        f'[[verify]]\ntext = "What is the color of a banana?"\nexpect = "{expect}"\n'
    )
    return str(file)


def test_an_application_is_deployed_scaled_asked_and_stopped(
    operator: Operator, head: Head, tmp_path: Path
) -> None:
    operator.does("deploy", deployment(tmp_path, head))
    (service,) = operator.json("services")["services"]
    assert service["state"] == "running"
    assert operator.does("query", "facts", "--text", "And of grass?").strip() == "yellow"
    before = operator.json("scale", "facts")["cluster"]
    assert (before["target"], len(before["nodes"])) == (1, 2)
    operator.does("scale", "facts", "2")
    assert head.replicas == 2
    shown = operator.does("scale", "facts")
    assert "10.77.0.2" in shown and "2 of 2 replicas run" in shown
    operator.does("stop", "facts")
    assert head.job == "missing" and not head.deployed


def test_an_answer_that_is_an_error_in_words_is_no_success(
    operator: Operator, head: Head, tmp_path: Path
) -> None:
    head.says = "An error occurred: Torch not compiled with CUDA enabled"
    operator.does("deploy", deployment(tmp_path, head, ""), code=1)
    run = operator.json("runs", "show", "facts")["run"]
    assert "An error occurred" in json.dumps(run)


def test_a_question_that_is_answered_by_an_error_in_words_fails(
    operator: Operator, head: Head, tmp_path: Path
) -> None:
    operator.does("deploy", deployment(tmp_path, head))
    head.says = "An error occurred: Torch not compiled with CUDA enabled"
    told = operator.json("query", "facts", "--text", "And of grass?", code=1)["error"]
    assert told["title"] == "the model answered with an error"
    operator.does("stop", "facts")


def test_what_cannot_be_scaled_says_why(operator: Operator, head: Head, tmp_path: Path) -> None:
    head.scalable = False
    operator.does("deploy", deployment(tmp_path, head))
    told = operator.json("scale", "facts", "3", code=1)["error"]
    assert "was not deployed for scaling" in told["why"]
    assert operator.json("scale", "facts", "0", code=2)["error"]["fix"] == (
        "tritondeck stop takes them all away"
    )
    assert "no service" in operator.json("scale", "nothing", code=2)["error"]["title"]
    head.scalable, head.fails = True, "torch.OutOfMemoryError: CUDA out of memory"
    told = operator.json("scale", "facts", "2", code=1)["error"]
    assert told["title"] == "1 of 2 replicas run: the application is DEPLOY_FAILED"
    assert "Failed to update the deployments" in told["why"] and head.fails in told["why"]
    assert "tritondeck deploy facts" in told["fix"]


def test_the_script_does_what_the_run_does(operator: Operator, head: Head, tmp_path: Path) -> None:
    script = operator.does("plan", deployment(tmp_path, head), "--as", "script")
    done = shell.run(tmp_path, script, timeout=120)
    assert done.returncode == 0 and "yellow" in done.stdout, done.stdout + done.stderr
    entry = json.loads(head.requests("POST", "/api/jobs/")[0])["entrypoint"]
    assert entry.startswith("python ray_application.py --name=facts")
    assert head.job == "missing"
