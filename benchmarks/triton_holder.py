"""A Triton server whose python model holds a known amount of memory on every GPU."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WORKER = Path(__file__).parents[1] / "backends" / "workers" / "triton_server.py"
CHILD = Path(__file__).with_name("cuda_child.py")
READY_SECONDS = 120

CONFIG = """
name: "holder"
backend: "python"
max_batch_size: 0
input [{ name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }]
instance_group [{ count: 1 kind: KIND_CPU }]
"""
MODEL = """
from cuda_child import Child, Cuda

class TritonPythonModel:
    def initialize(self, args):
        self.child = Child(Cuda())
        for gpu in range(self.child.count()["gpus"]):
            self.child.alloc(str(gpu), "{size}")

    def execute(self, requests):
        return []
"""


def launcher(python: Path | None) -> list[str] | None:
    """How to start a server: `python` of an environment with nvidia-pytriton, or the one on PATH."""
    if python is not None:
        return [str(python), str(WORKER)]
    if shutil.which("tritonserver") or Path("/opt/tritonserver/bin/tritonserver").exists():
        return [sys.executable, str(WORKER), "--program", "tritonserver"]
    return None


@contextmanager
def holding(command: list[str], folder: Path, size: int) -> Iterator[int]:
    """The server's pid, while its model holds `size` bytes on each GPU. Raises `RuntimeError`."""
    version = folder / "repository" / "holder" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    (version / "model.py").write_text(MODEL.format(size=size))
    shutil.copy(CHILD, version / "cuda_child.py")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    if "--program" not in command:
        command = [*command, "--folder", str(folder / "state")]
        (folder / "state").mkdir()
    options = [
        f"--model-repository={folder / 'repository'}",
        "--http-address=127.0.0.1",
        f"--http-port={port}",
        "--allow-grpc=false",
        "--allow-metrics=false",
    ]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--", *options],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        _until_ready(server, f"http://127.0.0.1:{port}/v2/health/ready", folder / "server.log")
        yield server.pid
    finally:
        server.terminate()
        server.wait(timeout=60)


def _until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)  # it does not listen yet, or loads its model
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise RuntimeError(f"the Triton server is not ready:\n{tail}")
