"""What the engines refuse, in our words, with nothing left behind. Every text is a real engine's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from console.desk.clean import clean
from console.facts import DeckError
from console.planning.plan import Command, Container, Mount, PublishedPort
from console.processes import hostname
from console.runtimes import containers, engine_errors
from console.runtimes.containers import Owner
from console.runtimes.engine import Unreachable
from console.runtimes.engines import engine as engine_called
from tests.containers import REFERENCE, Daemon, Engine, Podman
from tests.integration.conftest import MODELS
from tests.processes import settings_at
from tests.support import free_ports


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@dataclass
class Try:
    """One command in a container, followed to its end."""

    folder: Path
    engine: str
    argv: tuple[str, ...] = ("true",)
    image: str = REFERENCE
    env: dict[str, str] = field(default_factory=dict)

    def __call__(self, **container: Any) -> DeckError:
        """Run it; what it was refused for. `code` is what the follower ended with."""
        command = Command(
            argv=self.argv,
            runtime="image:server",
            env=self.env,
            container=Container(**container),
        )
        values = {"engine": self.engine, "image_server": self.image, "work": str(self.folder)}
        launch = containers.prepare(command, values, self.folder, Owner("digits", step="build"))
        done = subprocess.run(
            launch.argv, env=launch.env, capture_output=True, text=True, timeout=60, check=False
        )
        self.code, self.said = done.returncode, done.stdout + done.stderr
        problem = containers.problem(self.folder)
        assert problem is not None, f"ended with {self.code}: {self.said}"
        assert problem.title in self.said
        return problem


@pytest.fixture
def attempt(tmp_path: Path, engine: Engine) -> Try:
    return Try(tmp_path, engine.name)


@pytest.fixture
def taken() -> Any:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen(1)
        yield one.getsockname()[1]


def port(number: int) -> PublishedPort:
    return PublishedPort(host=str(number), container=8000)


def test_a_port_of_another_process(attempt: Try, engine: Engine, taken: int) -> None:
    problem = attempt(ports=(port(taken),))
    assert problem.title == f"127.0.0.1:{taken} is taken" and "another port" in problem.fix
    assert engine.containers() == []


def test_a_port_of_another_container(docker: Daemon, tmp_path: Path) -> None:
    (free,) = free_ports(1)
    docker("run", "--detach", "--publish", f"127.0.0.1:{free}:8000", REFERENCE, "sleep", "60")
    problem = Try(tmp_path, "docker")(ports=(port(free),))
    assert problem.title == f"127.0.0.1:{free} is taken" and "another container" in problem.why
    assert len(docker.containers()) == 1
    docker.remove_all()


def test_gpus_without_the_toolkit(docker: Daemon, tmp_path: Path) -> None:
    for gpus in ("all", "0,1", "GPU-00000000-0000-0000-0000-000000000000"):
        problem = Try(tmp_path, "docker")(gpus=gpus)
        assert problem.title == "this docker cannot give a container any GPU"
        assert "NVIDIA Container Toolkit" in problem.fix and docker.containers() == []


def test_gpus_that_podman_does_not_know_are_refused_and_not_ignored(
    podman: Podman, tmp_path: Path
) -> None:
    problem = Try(tmp_path, "podman")(gpus="all")
    assert problem.title == "the engine knows no such GPU" and "nvidia-ctk cdi" in problem.fix
    assert podman.containers() == []


def test_a_mounted_folder_that_is_not_there(attempt: Try, engine: Engine) -> None:
    missing = attempt.folder / "no such"
    problem = attempt(mounts=(Mount(source=str(missing), target="/models"),))
    assert problem.title == f"{missing} is not there"
    assert not missing.exists() and engine.containers() == []


def test_an_image_that_is_not_here_is_never_pulled(attempt: Try, engine: Engine) -> None:
    attempt.image = "nvcr.io/nvidia/tritonserver:99.99-py3"
    problem = attempt()
    assert problem.title == f"the image {attempt.image} is not here" and "never pull" in problem.why


@pytest.mark.parametrize("init", [True, False])
def test_a_program_that_the_image_lacks(attempt: Try, engine: Engine, init: bool) -> None:
    problem = attempt(entrypoint="nosuch", init=init)
    assert problem.title.startswith("the image has no program") and engine.containers() == []


SERVER = ("tritonserver", "--model-repository=/models")


def serving(attempt: Try, **container: Any) -> DeckError:
    """Start the real server with a python model; it does not come up."""
    shutil.copytree(MODELS / "identity", attempt.folder / "models" / "identity")
    attempt.folder.chmod(0o755)
    attempt.argv = SERVER
    mount = Mount(source="${work}/models", target="/models", read_only=True)
    return attempt(mounts=(mount,), **container)


def test_a_read_only_server_without_temporary_files(docker: Daemon, tmp_path: Path) -> None:
    problem = serving(Try(tmp_path, "docker"), tmpfs=())
    assert problem.title == "the server cannot write its temporary files"


def test_shared_memory_that_no_model_fits_in(docker: Daemon, tmp_path: Path) -> None:
    problem = serving(Try(tmp_path, "docker"), shm_size="64k")
    assert problem.title == "the container has too little shared memory"
    assert "server.shm_size" in problem.fix


def test_a_repository_that_the_containers_user_may_not_read(docker: Daemon, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir(mode=0o700)
    attempt = Try(tmp_path, "docker", argv=SERVER)
    mount = Mount(source="${work}/models", target="/models", read_only=True)
    problem = attempt(mounts=(mount,), user="1000:1000")
    assert problem.title == "the container's user may not read /models" and "chmod" in problem.fix


def test_a_word_that_is_no_image_name(attempt: Try) -> None:
    attempt.image = "Not An Image"
    assert attempt().title == "that is no image name"


def test_a_memory_limit_below_the_least(docker: Daemon, tmp_path: Path) -> None:
    problem = Try(tmp_path, "docker")(memory="1m")
    assert problem.title == "the memory limit is too small" and "6MB" in problem.why


def test_more_processors_than_there_are(docker: Daemon, tmp_path: Path) -> None:
    problem = Try(tmp_path, "docker")(cpus="4096")
    assert problem.title == "there are not so many CPUs" and f"has {os.cpu_count()}" in problem.why


def test_an_address_that_is_not_of_this_host(attempt: Try, engine: Engine) -> None:
    away = PublishedPort(host="18999", container=8000, address="203.0.113.7")
    problem = attempt(ports=(away,))
    assert problem.title == "203.0.113.7:18999 cannot be published" and engine.containers() == []


def test_a_command_that_the_entry_point_does_not_find_is_the_images_own_end(
    tmp_path: Path, engine: Engine
) -> None:
    command = Command(argv=("nosuch-program",), runtime="image:server")
    values = {"engine": engine.name, "image_server": REFERENCE, "work": str(tmp_path)}
    launch = containers.prepare(command, values, tmp_path, Owner("digits", step="build"))
    done = subprocess.run(launch.argv, env=launch.env, capture_output=True, text=True, check=False)
    assert done.returncode == 127 and "nosuch-program: not found" in done.stdout
    assert engine.containers() == []


def test_a_daemon_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere")
    with pytest.raises(Unreachable, match="docker does not answer") as caught:
        engine_called("docker").facts()
    assert "systemctl start docker" in caught.value.fix
    with pytest.raises(Unreachable, match="docker does not answer"):
        engine_called("docker").find("tritondeck.key")


def test_a_socket_without_the_right_to_it(docker: Daemon, tmp_path: Path) -> None:
    lent = {**os.environ, "HOME": "/nonexistent"}
    socket_file = docker.folder / "socket"
    socket_file.chmod(0o600)
    docker.folder.chmod(0o755)
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "docker", "info"],
        env=lent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = engine_errors.explain(done.stderr, "reach docker")
    assert told.title == "this user may not use docker" and "as good as root" in told.fix


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unreachable, match="no container engine answers") as caught:
        engine_called("auto")
    assert "docker is not installed" in caught.value.why
    assert "podman is not installed" in caught.value.why


def test_automatic_choice_takes_podman_where_no_daemon_answers(
    podman: Podman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere")
    assert engine_called("auto").name == "podman"


def test_containers_that_nobody_follows_are_cleaned_and_others_left(
    docker: Daemon, tmp_path: Path
) -> None:
    ours = [
        ("--label", f"{containers.KEY}=1", "--label", f"{containers.FOLDER}={tmp_path}"),
        ("--label", f"tritondeck.host={hostname()}"),
    ]
    words = [word for part in ours for word in part]
    docker("create", "--name", "tritondeck-left", *words, REFERENCE, "true")
    docker("run", "--detach", "--name", "tritondeck-runs", *words, REFERENCE, "sleep", "60")
    docker("create", "--name", "somebody-elses", REFERENCE, "true")
    settings = settings_at(tmp_path / "home")
    report = clean(settings, ("containers",), remove=True)
    assert {(item.name, item.removed) for item in report.items} == {
        ("tritondeck-left", True), ("tritondeck-runs", False),
    }  # fmt: skip
    assert len(docker.containers()) == 2
    docker.remove_all()
