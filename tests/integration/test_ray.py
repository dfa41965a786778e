"""A real cluster of two nodes serves the small language model: deploy, join, scale, ask, stop."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.namespaces import Machine, two_machines
from tests.support import Operator, managed, until_gone

FACTS = Path(__file__).parents[2] / "examples" / "facts"

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class At(Operator):
    """Somebody at a shell of one of the machines."""

    def __init__(self, machine: Machine, home: Path) -> None:
        home.mkdir()
        super().__init__(home, (*machine.enter, sys.executable, "-m", "console.cli"))
        self.cwd = Path(__file__).parents[2]
        self.machine = machine

    def asks(self, url: str) -> str:
        """What comes back from there to a question, sent from this machine."""
        message = {"role": "user", "content": "What is 3 plus 4?"}
        body = json.dumps({"model": "facts", "messages": [message], "max_tokens": 8})
        words = ["curl", "--silent", "--fail", "--header", "Content-Type: application/json"]
        done = subprocess.run(
            [*self.machine.enter, *words, "--data", body, url],
            capture_output=True,
            text=True,
            check=True,
        )
        return str(json.loads(done.stdout)["choices"][0]["message"]["content"]).strip()

    def file(self, name: str, options: dict[str, Any], verify: str = "") -> str:
        lines = [f"{key} = {value!r}".replace("True", "true") for key, value in options.items()]
        file = self.home / f"{name}.toml"
        file.write_text(
            f'version = 1\nname = "{name}"\nbackend = "ray-serve"\n'
            f'[checkpoints]\nmodel = "{FACTS}"\n[options]\ndevice = "cpu"\n'
            + "\n".join(lines)
            + f"\n[server]\nhttp_port = 0\nexpose = true\n{verify}"
        )
        return str(file)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[At, At]]:
    managed("inframework")
    with two_machines() as (first, second):
        both = At(first, tmp_path / "a"), At(second, tmp_path / "b")
        yield both
        for operator in both:
            operator.leave()


def test_a_model_is_served_by_two_machines_and_leaves_nothing(
    machines: tuple[At, At], tmp_path: Path
) -> None:
    head, node = machines
    mine = {"node_cpus": 1, "node_gpus": 0}
    verify = '[[verify]]\ntext = "What is the color of a banana?"\nexpect = "yellow"\n'
    served = {"cluster": "head", "node_address": "10.77.0.1", **mine}
    head.does("deploy", head.file("facts", served, verify))
    (service,) = head.json("services")["services"]
    token = Path(service["repository"]) / "ray" / "token"
    joined = {"cluster": "join", "gcs": "10.77.0.1:6379", "node_address": "10.77.0.2", **mine}
    node.does("deploy", node.file("node", {**joined, "token_file": str(token)}))

    # One CPU a machine and one for a replica: the second one can only be at the other machine.
    head.does("scale", "facts", "2")
    found = head.json("scale", "facts")["cluster"]
    assert {one["node"] for one in found["replicas"]} == {"10.77.0.1", "10.77.0.2"}
    assert [one["state"] for one in found["nodes"]] == ["ALIVE", "ALIVE"]
    for _ in range(6):
        assert head.does("query", "facts", "--text", "What is 3 plus 4?").strip() == "7"
    # Each machine has a proxy of its own.
    assert node.asks(f"{service['endpoint']['url']}/v1/chat/completions/") == "7"

    head.does("scale", "facts", "1")
    found = head.json("scale", "facts")["cluster"]
    assert len(found["replicas"]) == 1 and found["target"] == 1
    node.does("stop", "node")
    head.does("stop", "facts")
    until_gone(str(tmp_path))
    until_no_ray()


def until_no_ray(timeout: float = 60.0) -> None:
    """Wait until no process of Ray's own is left of ours (their folders are named so)."""
    deadline = time.monotonic() + timeout
    while True:
        left = [
            process.info["cmdline"][:2]
            for process in psutil.process_iter(["cmdline"])
            if any("/tdray-" in word for word in process.info["cmdline"] or ())
        ]
        if not left:
            return
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
