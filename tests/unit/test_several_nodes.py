"""One model on several machines: the words of each node, by the plan's script and by Slurm."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backends.in_framework import InFrameworkBackend
from backends.language.in_framework_options import InFrameworkOptions
from console.checkpoints.model import Checkpoint, Format
from console.facts import Level, ToolFacts, Verdict
from console.planning.deployment import Deployment
from console.planning.plan import Plan, ServiceSpec, ServiceStep
from console.planning.render import slurm
from console.planning.render.serving import serving
from console.planning.script import render
from tests import shell
from tests.contract import samples

BACKEND = InFrameworkBackend()
MODEL = samples.nemo_language(format=Format.MEGATRON)
TWO = {
    "form": "script",
    "image": "nvcr.io/nvidia/nemo:26.02",
    "tensor_parallel_size": 4,
    "pipeline_parallel_size": 2,
    "num_nodes": 2,
    "master_address": "node-a",
}
# What upstream's torchrun gets, and on the first node a front that is ready until it is asked.
TORCHRUN = """#!{python}
import http.server, json, os, sys
rank = os.environ["NODE_RANK"]
with open(f"{folder}/rank-{{rank}}.json", "w") as file:
    json.dump(sys.argv[1:], file)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *words):
        pass
if rank == "0":
    http.server.HTTPServer(("127.0.0.1", int(os.environ["HTTP_PORT"])), Handler).handle_request()
"""
# Slurm's: every node runs what stands behind `bash -c`, with its number.
SRUN = """#!{python}
import json, os, subprocess, sys
words = sys.argv[1:]
with open("{folder}/srun.json", "w") as file:
    json.dump(words, file)
at = words.index("bash")
nodes = [subprocess.Popen(words[at:], env={{**os.environ, "SLURM_NODEID": str(n)}}) for n in (0, 1)]
sys.exit(max(node.wait() for node in nodes))
"""


def deployment(server: dict[str, Any] | None = None, **options: Any) -> Deployment:
    return Deployment.model_validate(
        {
            "name": "llama",
            "backend": "in-framework",
            "checkpoints": {"model": str(MODEL.path)},
            "options": options,
            "server": {"launcher": "container", "expose": True, **(server or {})},
        }
    )


def plan(**options: Any) -> Plan:
    made = deployment(**{**TWO, **options})
    return BACKEND.plan(made, {"model": MODEL}, samples.GPU_HOST, ToolFacts())


def service(made: Plan) -> ServiceSpec:
    return next(step.service for step in made.steps if isinstance(step, ServiceStep))


def verdicts(
    model: Checkpoint = MODEL, server: dict[str, Any] | None = None, **options: Any
) -> list[Verdict]:
    made = deployment(server, **{**TWO, **options})
    found = BACKEND.checks(made, {"model": model}, samples.GPU_HOST, ToolFacts())
    return [verdict for verdict in found if verdict.check == "in-framework-nodes"]


def test_each_node_starts_its_own_processes_and_all_meet_at_the_first() -> None:
    command = service(plan()).process
    assert command.nodes == 2
    assert command.argv[:6] == (
        "torchrun",
        "--nnodes=2",
        "--nproc-per-node=4",
        "--node-rank=${node_rank}",
        "--master-addr=${master_addr}",
        "--master-port=29500",
    )
    assert {"--triton_http_address=127.0.0.1", "--triton_port=${http_port}"} <= set(command.argv)
    assert command.container and command.container.network == "host"


def test_one_node_is_started_as_before() -> None:
    command = service(plan(num_nodes=1, master_address="")).process
    assert command.nodes == 1 and command.argv[:2] == ("torchrun", "--standalone")
    assert command.container and command.container.ports and not command.container.network


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({**TWO, "master_address": ""}, "master_address"),
        ({**TWO, "num_nodes": 3}, "evenly"),
        ({"num_nodes": 2, "master_address": "a"}, "form = script"),
    ],
)
def test_nodes_that_cannot_share_the_model_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        InFrameworkOptions.model_validate(options)


def test_what_listens_on_the_network_needs_the_word() -> None:
    (told,) = verdicts(server={"expose": False})
    assert told.level is Level.FAIL and "expose" in told.fix
    (told,) = verdicts()
    assert told.level is Level.WARN and "NODE_RANK" in told.summary


def test_one_process_cannot_be_on_several_nodes() -> None:
    (told,) = verdicts(samples.language(), pipeline_parallel_size=1)
    assert told.level is Level.FAIL and "ray-serve" in told.fix


def test_processes_of_a_hugging_face_model_are_shared_by_its_tensor_parallel_size() -> None:
    chosen = {"tp_plan": "auto", "device_map": ""}
    (told,) = verdicts(samples.language(), tensor_parallel_size=1, **chosen)
    assert told.level is Level.FAIL and told.option == "options.tensor_parallel_size"
    (told,) = verdicts(samples.language(), **chosen)
    assert told.level is Level.WARN and told.figure == "2 nodes of 2 processes"


def programs(folder: Path, **texts: str) -> dict[str, str]:
    """Recorders first on PATH, and the variable that finds them."""
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_slurm_starts_every_node_with_its_number(tmp_path: Path) -> None:
    made = plan()
    values = {"work": str(tmp_path), "http_port": "8000", "triton_port": "8003", "node_rank": "0"}
    values |= {"master_addr": "node-a", "grpc_port": "8001", "metrics_port": "8002"}
    told = serving(made, values, user="me", ids=(1, 1), gpus="", load_timeout=60.0)
    text = slurm.render(told)
    assert "#SBATCH --nodes=2\n" in text and "#SBATCH --gpus-per-node=4\n" in text
    env = programs(
        tmp_path,
        torchrun=TORCHRUN.format(python=sys.executable, folder=tmp_path),
        srun=SRUN.format(python=sys.executable, folder=tmp_path),
        scontrol="#!/bin/sh\nprintf 'first\\nsecond\\n'\n",
    )
    env["SLURM_JOB_NODELIST"] = "first,second"
    done = shell.run(tmp_path, text, **env)
    assert done.returncode == 0 and "ready: http://127.0.0.1:" in done.stdout, done.stderr
    words = json.loads((tmp_path / "srun.json").read_text())
    assert "--ntasks-per-node=1" in words
    assert "--container-image=nvcr.io#nvidia/nemo:26.02" in words
    for rank in (0, 1):
        argv = json.loads((tmp_path / f"rank-{rank}.json").read_text())
        assert {f"--node-rank={rank}", "--master-addr=first", "--nnodes=2"} <= set(argv)
        assert f"--megatron_checkpoint={MODEL.path}" in argv


def test_the_plans_script_on_another_node_waits_for_its_own_part_alone(tmp_path: Path) -> None:
    docker = (
        '#!/bin/sh\nprintf "%s\\n" "$@" >> "$HOME/docker.log"\ncase "$1" in run) echo box;; esac\n'
    )
    env = programs(tmp_path, docker=docker) | {"NODE_RANK": "1", "ENGINE": "docker"}
    done = shell.run(tmp_path, render(plan()), **env)
    assert done.returncode == 0 and "node 1 of 2 runs" in done.stdout, done.stdout + done.stderr
    said = (tmp_path / "docker.log").read_text().splitlines()
    assert {"--node-rank=1", "--master-addr=node-a", "--network", "host"} <= set(said)
