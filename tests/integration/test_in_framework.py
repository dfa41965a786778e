"""The facts model in PyTorch through PyTriton, by the example's own deployment file, on the CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.support import Operator, managed, until_gone

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "examples" / "facts" / "deployment.toml"
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    managed("inframework")
    person = Operator(tmp_path_factory.mktemp("home"))
    try:
        yield person
    finally:
        person.leave()
    until_gone(str(person.home))


@pytest.fixture(scope="module")
def served(operator: Operator) -> dict[str, Any]:
    run = operator.json("deploy", str(EXAMPLE))["run"]
    assert (run["state"], run["answer"]) == ("succeeded", "yellow; 7")
    (service,) = operator.json("services")["services"]
    assert isinstance(service, dict)
    return service


@pytest.mark.usefixtures("served")
def test_a_question_is_answered_piece_by_piece(operator: Operator) -> None:
    told = operator.json("query", "facts", "--text", "Count from one to ten.")
    assert told["answer"] == "one two three four five six seven eight nine ten"
    assert told["first_text"] <= told["latency"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("completions", {"prompt": QUESTION}),
        ("chat/completions", {"messages": [{"role": "user", "content": QUESTION}]}),
    ],
)
def test_the_openai_interface_answers(
    served: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    url = f"{served['endpoint']['url']}/v1/{path}"
    data = json.dumps({"model": "facts", "max_tokens": 16, **body}).encode()
    with urlopen(Request(url, data, {"Content-Type": "application/json"}), timeout=60) as answer:
        assert "Paris" in json.dumps(json.load(answer)["choices"][0])


def test_everything_of_it_listens_on_loopback_alone(served: dict[str, Any]) -> None:
    server = psutil.Process(served["pid"])
    tree = [server, *server.children(recursive=True)]
    found = [one for process in tree for one in process.net_connections("tcp")]
    listening = [one.laddr for one in found if one.status == psutil.CONN_LISTEN]
    assert {place.ip.removeprefix("::ffff:") for place in listening} == {"127.0.0.1"}
    assert len({place.port for place in listening}) >= 4


def test_it_stops_and_leaves_nothing(operator: Operator, served: dict[str, Any]) -> None:
    operator.does("stop", "facts")
    until_gone(str(operator.home))
    assert not psutil.pid_exists(served["pid"])
