"""What several test folders share: the real managed environments."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx
import psutil
from onnx import TensorProto, helper

from backends.environments import environment
from console import settings
from console.planning.plan import FileSpec
from console.planning.variables import expand
from console.runtimes.environments import Environments


def managed(name: str) -> Path:
    """The folder of the managed environment `name` (``nemo``, ``embedded``), made when it is not
    there by the console's own means, in the operator's cache folder: later runs find it.

    ``TRITONDECK_TEST_NEMO`` and ``TRITONDECK_TEST_EMBEDDED`` name existing ones instead.
    """
    given = os.environ.get(f"TRITONDECK_TEST_{name.upper()}")
    spec = environment(name)
    if given:
        spec = spec.model_copy(update={"existing": given})
    environments = Environments(settings.load(cache_environ()))
    if not given and not environments.ready(spec):
        folder = environments.folder(spec)
        creation = environments.creation(spec, folder.parent / f".{folder.name}.job.json")
        print(f"\ncreating the environment {name} in {folder}", file=sys.stderr)
        done = subprocess.run(
            creation.argv,
            env=creation.env,
            cwd=creation.cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
    why = environments.why_not(spec)
    assert not why, f"the environment {name}: {why}"
    return environments.folder(spec)


def cache_environ() -> dict[str, str]:
    """This process's environment as `settings.load` takes it, without a test's TRITONDECK_HOME:
    gigabytes are shared between tests, state never is."""
    return {k: v for k, v in os.environ.items() if k != "TRITONDECK_HOME"}


def until_gone(mark: str, timeout: float = 60.0) -> None:
    """Wait until no process has `mark` (a test's own folder) in its command line."""
    deadline = time.monotonic() + timeout
    while True:
        left = [
            " ".join(process.info["cmdline"])
            for process in psutil.process_iter(["cmdline"])
            if any(mark in word for word in process.info["cmdline"] or ())
        ]
        if not left:
            return
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports that are free now, and that nobody gets who asks the system for any.

    A server binds them later, and another time when it is started again. Two test processes beside
    each other (pytest-xdist's ``gw0`` and ``gw1``) take every other one.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000 + worker % 2, 32_000, 2)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            found += [port] if port not in found else []
    return found


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below `folder` with what is in it; living programs add and remove some meanwhile."""
    for place, _, names in os.walk(folder):
        for name in names:
            file = Path(place, name)
            try:
                content = file.read_bytes() if file.is_file() else b""
            except FileNotFoundError:
                continue
            yield file, content


def local_triton(folder: Path) -> Path:
    """A Triton as an installation has it, made of the wheel's own files: ``bin`` and ``backends``."""
    environment = managed("embedded")
    (wheel,) = environment.glob("lib/python3*/site-packages/pytriton/tritonserver")
    version = wheel.parents[2].name.removeprefix("python")
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "tritonserver").symlink_to(wheel / "bin" / "tritonserver")
    python = folder / "backends" / "python"
    python.mkdir(parents=True)
    stub = wheel / "python_backend_stubs" / version / "triton_python_backend_stub"
    for file in (*(wheel / "backends" / "python").glob("*.*"), stub):
        (python / file.name).symlink_to(file)
    return folder / "bin"


def written(files: Iterable[FileSpec], values: Mapping[str, str]) -> None:
    """The files of a plan's step where `values` say, with what is in them as a run writes it."""
    for file in files:
        path = Path(expand(file.path, values))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(expand(file.text, values) if file.template else file.text)


def make_doubler(folder: Path) -> Path:
    """An ONNX graph: Y = X + X, float32 [n, 4]."""
    file = folder / "doubler.onnx"
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "XY"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["X", "X"], ["Y"])], "doubler", [sides[0]], [sides[1]]
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), file)
    return file


ANY_PORTS = [
    word for port in ("http", "grpc", "metrics") for word in ("--set", f"server.{port}_port=0")
]


class Operator:
    """Somebody at a shell, with a state folder of their own and this user's environments.

    `program` is the console that they run: this checkout's, or an installed one.
    """

    def __init__(self, home: Path, program: tuple[str, ...] = ()) -> None:
        self.home = home
        self.program = program or (sys.executable, "-m", "console.cli")
        self.cwd = home if program else Path(__file__).parents[1]
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TRITONDECK_HOME": str(home),
            "TRITONDECK_ENVIRONMENTS": str(settings.folders(cache_environ()).environments),
            **{k: v for k, v in os.environ.items() if k.startswith(("PIP_", "TRITONDECK_TEST_"))},
        }
        if place := os.environ.get("TRITONDECK_ENVIRONMENTS"):
            self.env["TRITONDECK_ENVIRONMENTS"] = place

    def start(self, *words: str) -> subprocess.Popen[str]:
        """`tritondeck WORDS` with no terminal."""
        return subprocess.Popen(
            [*self.program, *words],
            env=self.env,
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def does(self, *words: str, code: int | None = 0, timeout: float = 900) -> str:
        """Run it to its end; its standard output. `code` is the exit code it must have."""
        process = self.start(*words)
        out, err = process.communicate(timeout=timeout)
        assert code is None or process.returncode == code, (
            f"{words} ended with {process.returncode}\n{out}\n{err}"
        )
        return out

    def json(self, *words: str, code: int = 0) -> dict[str, Any]:
        """What it prints with ``--json``."""
        document: dict[str, Any] = json.loads(self.does(*words, "--json", code=code))
        assert document["version"] == 1
        return document

    def processes(self) -> list[psutil.Process]:
        """Living processes with this operator's home in their command line.

        Their ``info`` has ``name`` and ``cmdline`` as they were seen: a process may end meanwhile.
        """
        found = []
        for process in psutil.process_iter(["name", "cmdline", "status"]):
            line = " ".join(process.info["cmdline"] or [])
            if str(self.home) in line and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def leave(self) -> None:
        """End what a failed test has left."""
        for view in self.json("services")["services"]:
            if view["pid"]:
                self.does("stop", view["id"])
        for run in self.json("runs")["runs"]:
            if run["state"] in ("starting", "running", "orphaned"):
                self.does("runs", "cancel", run["id"], code=None)
