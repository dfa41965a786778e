"""Real environments and a real Triton server for the integration tests.

The environments are the console's own managed ones (see `tests.support.managed`).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from console.facts import Endpoint
from console.planning.deployment import Deployment
from console.planning.variables import expand
from console.triton import embedded, health, options
from tests.containers import docker as docker
from tests.containers import docker_daemon as docker_daemon
from tests.containers import make_daemon as make_daemon
from tests.containers import podman as podman
from tests.containers import podman_storage as podman_storage
from tests.support import free_ports, managed

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "tests" / "assets" / "models"
WORKER = ROOT / "backends" / "workers" / "triton_server.py"
TOKEN = "integration-test-token-0123456789"


@pytest.fixture(scope="session")
def embedded_environment() -> Path:
    """Folder of an environment with nvidia-pytriton, NumPy < 2, onnxruntime and sentencepiece."""
    return managed("embedded")


@pytest.fixture(scope="session")
def nemo_environment() -> Path:
    """Folder of an environment with torch and nemo_toolkit[asr]."""
    return managed("nemo")


@dataclass
class Server:
    """The real embedded server, started by its worker with the command that a plan would hold."""

    folder: Path
    environment: Path
    ports: list[int] = field(default_factory=lambda: free_ports(3))
    deployment: Deployment = field(
        default_factory=lambda: Deployment(name="test", backend="onnx", checkpoints={})
    )
    worker: Path = WORKER
    process: subprocess.Popen[bytes] | None = None

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(url=f"http://127.0.0.1:{self.ports[0]}", token_file=self.token_file)

    @property
    def without_token(self) -> Endpoint:
        return Endpoint(url=self.endpoint.url)

    @property
    def values(self) -> dict[str, str]:
        http, grpc, metrics = map(str, self.ports)
        return {
            "work": str(self.folder),
            "token_file": str(self.token_file),
            "repository": str(self.repository),
            "version": "1",
            "env_embedded": str(self.environment),
            "http_port": http,
            "grpc_port": grpc,
            "metrics_port": metrics,
        }

    @property
    def shm_prefix(self) -> str:
        return expand(options.shm_prefix(self.deployment), self.values)

    def add(self, model: str) -> None:
        """Put one of the sample models into the repository."""
        shutil.copytree(MODELS / model, self.repository / model)

    def spawn(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start the worker; returns at once."""
        self.repository.mkdir(parents=True, exist_ok=True)
        self.token_file.write_text(TOKEN)
        spec = embedded.Embedded().service(self.deployment, (), str(self.worker))
        argv = [expand(word, self.values) for word in spec.process.argv]
        env = {"PATH": os.defpath, "HOME": str(self.folder), **environment}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=self.folder,
                start_new_session=True,
            )
        return self.process

    def start(self) -> Server:
        """Start it and wait until it is live."""
        process = self.spawn()
        health.wait_live(self.endpoint, 120, alive=lambda: process.poll() is None)
        return self

    def stop(self, timeout: float = 60) -> tuple[int, float]:
        """SIGTERM and wait; returns exit status and seconds."""
        assert self.process is not None
        started = time.monotonic()
        self.process.terminate()
        status = self.process.wait(timeout)
        return status, time.monotonic() - started

    def members(self) -> list[int]:
        """Living processes of the server's session."""
        assert self.process is not None
        return [pid for pid, session in sessions() if session == self.process.pid]

    def regions(self) -> list[str]:
        return [p.name for p in Path("/dev/shm").glob(self.shm_prefix + "*")]

    def kill(self) -> None:
        """SIGKILL to every process of it."""
        assert self.process is not None
        for pid in self.members():
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        self.process.wait(60)

    def destroy(self) -> None:
        if self.process is None:
            return
        self.kill()
        for region in self.regions():
            (Path("/dev/shm") / region).unlink(missing_ok=True)


def sessions() -> Iterator[tuple[int, int]]:
    """Process and session ids of all living processes (zombies aside)."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue  # it ended while we looked
        if state != "Z":
            yield int(entry.name), int(session)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that are started from now on would wait a minute for a connection before they end."""
    monkeypatch.setattr(options, "EXIT_TIMEOUT", 60)


@pytest.fixture
def make_server(tmp_path: Path, embedded_environment: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers (not yet started) that do not outlive the test."""
    made: list[Server] = []

    def make(**options: object) -> Server:
        folder = tmp_path / f"server{len(made)}"
        folder.mkdir()
        made.append(Server(folder, embedded_environment, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for server in made:
        server.destroy()


@pytest.fixture(scope="module")
def serving(
    tmp_path_factory: pytest.TempPathFactory, embedded_environment: Path
) -> Iterator[Server]:
    """One running server for the tests of a module, with the sample models in its repository."""
    server = Server(tmp_path_factory.mktemp("serving"), embedded_environment)
    for model in ("identity", "broken_initialize", "slow"):
        server.add(model)
    try:
        yield server.start()
    finally:
        server.destroy()


@pytest.fixture(scope="module")
def make_module_server(
    tmp_path_factory: pytest.TempPathFactory, embedded_environment: Path
) -> Iterator[Callable[[], Server]]:
    """Makes servers (not yet started) that the tests of a module share."""
    made: list[Server] = []

    def make() -> Server:
        made.append(Server(tmp_path_factory.mktemp("server"), embedded_environment))
        return made[-1]

    yield make
    for server in made:
        server.destroy()
