"""What a deployment is printed as really serves: the container script, the unit, the batch job."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_versions import ask, make_adder

from console.facts import Endpoint
from console.triton import health
from tests.containers import Engine
from tests.support import ANY_PORTS, Operator, free_ports, managed

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Somebody who has deployed ``adder`` (Y = X + 1) with the embedded server, and stopped it."""
    managed("embedded")
    operator = Operator(tmp_path_factory.mktemp("home"))
    graph = make_adder(operator.home / "adder.onnx", 1)
    operator.does("deploy", str(graph), "--name", "adder", *ANY_PORTS)
    operator.does("stop", "adder")
    yield operator
    operator.leave()


def with_ports(operator: Operator, *words: str) -> tuple[str, str]:
    """The plan rendered with ports that are free, and the server's URL."""
    names = ("http", "grpc", "metrics")
    ports = dict(zip(names, free_ports(3), strict=True))
    chosen = [w for n in names for w in ("--set", f"server.{n}_port={ports[n]}")]
    text = operator.does("plan", "adder", *words, *chosen)
    return text, f"http://127.0.0.1:{ports['http']}"


def test_the_docker_script_serves_what_a_deploy_has_built(docker: Engine, tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    operator.env |= docker.environ
    graph = make_adder(tmp_path / "adder.onnx", 1)
    image = ("--set", "server.launcher=container", "--set", "server.image=24.10-py3")
    operator.does("deploy", str(graph), "--name", "adder", *image, *ANY_PORTS)
    operator.does("stop", "adder")
    text, url = with_ports(operator, "--as", "docker")
    script = tmp_path / "adder.sh"
    script.write_text(text)
    try:
        done = subprocess.run(
            ["bash", str(script)],
            env={**operator.env, "FOLDER": str(tmp_path / "folder"), "ENGINE": "docker"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert ask(url, "adder") == (1.0, "1")
        token = (tmp_path / "folder" / "token").read_text()
        assert len(token) == 48
        assert token not in docker("inspect", "tritondeck-adder")
    finally:
        docker("rm", "--force", "tritondeck-adder", code=None)
        operator.leave()


def test_the_script_of_a_container_builds_and_serves_by_plain_bash(
    docker: Engine, tmp_path: Path
) -> None:
    operator = Operator(tmp_path)
    operator.env |= docker.environ
    graph = make_adder(tmp_path / "adder.onnx", 1)
    image = ("--set", "server.launcher=container", "--set", "server.image=24.10-py3")
    words = (str(graph), "--name", "adder", *image, *ANY_PORTS, "--as", "script")
    script = tmp_path / "adder.sh"
    script.write_text(operator.does("plan", *words))
    done = subprocess.run(
        ["bash", str(script)],
        env={
            **operator.env,
            "WORK": str(tmp_path / "by hand"),
            "ENV_EMBEDDED": str(managed("embedded")),
            "ENGINE": "docker",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nY: " in done.stdout
    assert done.stdout.endswith("done\n")


def words_of(unit: str, setting: str, runtime: Path) -> list[str]:
    """A command line as systemd reads it: quotes, ``%t``, and the doubled ``%`` and ``$``."""
    (line,) = [one for one in unit.splitlines() if one.startswith(f"{setting}=")]
    words = shlex.split(line.partition("=")[2])
    return [
        word.replace("%t", str(runtime)).replace("%%", "%").replace("$$", "$") for word in words
    ]


@pytest.mark.parametrize("form", ["systemd", "systemd-user"])
def test_the_units_command_serves_with_a_token_of_its_own(
    built: Operator, tmp_path: Path, form: str
) -> None:
    unit, url = with_ports(built, "--as", form)
    folder = tmp_path / "tritondeck-adder"  # RuntimeDirectory= makes it
    folder.mkdir(mode=0o700)
    before = words_of(unit, "ExecStartPre", tmp_path)
    subprocess.run(before, check=True, timeout=120)
    assert len((folder / "token").read_text()) == 48
    (path,) = shlex.split(unit.partition("\nEnvironment=")[2].partition("\n")[0])
    server = subprocess.Popen(
        words_of(unit, "ExecStart", tmp_path),
        env=dict([path.split("=", 1)]) | {"HOME": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        health.wait_live(Endpoint(url), 120, alive=lambda: server.poll() is None)
        assert ask(url, "adder") == (1.0, "1")
    finally:
        server.terminate()
        assert server.wait(60) == 0


def test_the_batch_script_serves_until_the_job_ends(built: Operator, tmp_path: Path) -> None:
    """Slurm's own part is to run the words after ``srun --ntasks=1`` on a node; this is that node."""
    text, url = with_ports(built, "--as", "slurm")
    script, srun = tmp_path / "adder.sbatch", tmp_path / "bin" / "srun"
    script.write_text(text)
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\n[ "$1" = --ntasks=1 ] && shift && exec "$@"\n')
    srun.chmod(0o755)
    port = url.rpartition(":")[2]
    job = subprocess.Popen(
        ["bash", str(script)],
        env={
            "PATH": f"{srun.parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
            "HTTP_PORT": port,
        },
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert job.stdout is not None
        said = next(line for line in job.stdout if line.startswith(("ready:", "the server ended")))
        assert said.startswith(f"ready: {url} on ")
        assert f"-L {port}:127.0.0.1:{port}" in "".join(next(job.stdout) for _ in range(1))
        assert ask(url, "adder") == (1.0, "1")
    finally:
        job.send_signal(signal.SIGTERM)
        assert job.wait(60) == 143
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith("tmp.")] == []
