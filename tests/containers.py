"""Container engines of the tests' own: dockerd on a private socket, podman with a private storage.

Both hold the stand-in image (`tests.standin`) under the official image's name. They touch nothing of
the host's engine: another data root, another bridge, no firewall rules. The fixtures `docker` and
`podman` are at hand in ``tests/integration``.

Where no engine can run (no root, no program), the tests that ask for one are skipped by name, and a
skipped integration test fails the session (`tests/conftest.py`).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import standin
from tests.standin import REFERENCE

_PR_SET_PDEATHSIG = 1
_DEBIAN = "apt-get install --yes --no-install-recommends"


@dataclass
class Engine:
    """An engine to hand to whatever runs containers: put `environ` into its environment."""

    name: str
    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, code: int | None = 0, text: str | None = None) -> str:
        """`docker WORDS`; its standard output, and standard error where `code` is not 0."""
        done = subprocess.run(
            [self.name, *words],
            env={**os.environ, **self.environ},
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert code is None or done.returncode == code, (
            f"{self.name} {' '.join(words)} ended with {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout.strip() if code == 0 else done.stdout + done.stderr

    def containers(self) -> list[str]:
        """Ids of all containers, stopped and merely created ones among them."""
        return self("ps", "--all", "--quiet", "--no-trunc").split()

    def inspect(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("inspect", "--type", "container", container))[0]
        return found

    def add_image(self) -> None:
        """Import the stand-in image: seconds, so it is done once for a store that is kept."""
        changes = [word for change in standin.CHANGES for word in ("--change", change)]
        self("import", *changes, str(standin.archive()), REFERENCE)

    def remove_all(self) -> None:
        if ids := self.containers():
            self("rm", "--force", "--volumes", *ids)


@dataclass
class Daemon(Engine):
    """A dockerd of its own. `start` and `kill` may come again and again."""

    process: subprocess.Popen[bytes] | None = None
    empty: bool = False
    """Start with no image at all."""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def _bridge(self) -> str:
        return f"deck{self.folder.name[-8:]}"

    def start(self, *options: str) -> None:
        """Start it and wait until it answers (under a second)."""
        containerd = self.folder / "run" / "containerd" / "containerd.pid"
        if containerd.is_file():  # of a daemon that was killed: in the way of the next
            _end(int(containerd.read_text()))
        self._make_bridge()
        if not (self.folder / "data").exists() and not self.empty:
            _copy(_docker_store(), self.folder / "data")
        words = [
            *("dockerd", "--data-root", str(self.folder / "data")),
            *("--exec-root", str(self.folder / "run"), "--pidfile", str(self.folder / "pid")),
            *("--host", self.environ["DOCKER_HOST"], "--bridge", self._bridge),
            *("--iptables=false", "--ip6tables=false", "--ip-masq=false"),
        ]
        (self.folder / "pid").unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*words, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        deadline = time.monotonic() + 120
        while not self.answers():
            told = (self.folder / "log").read_text()[-3000:]
            assert self.process.poll() is None, f"dockerd has ended:\n{told}"
            assert time.monotonic() < deadline, f"dockerd does not answer:\n{told}"
            time.sleep(0.05)

    def answers(self) -> bool:
        done = subprocess.run(
            ["docker", "version"],
            env={**os.environ, **self.environ},
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Signal the daemon and wait for its end; SIGKILL leaves containers running."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(120)

    def destroy(self) -> None:
        """Everything of it is gone afterwards: containers, processes, mounts, bridge, files."""
        if self.process is not None and self.process.poll() is None:
            self.remove_all()
            self.stop(signal.SIGKILL)  # SIGTERM takes seconds; what it leaves is ended below
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self.folder) in word for word in process.info["cmdline"] or ()):
                _end(process.pid)
        _unmount(self.folder)
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True, check=False)
        shutil.rmtree(self.folder)

    def _make_bridge(self) -> None:
        if Path("/sys/class/net", self._bridge).exists():
            return
        taken = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
        # Another test process may choose at this moment: each begins elsewhere.
        order = ((os.getpid() + n) % 250 + 1 for n in range(250))
        third = next(n for n in order if f"10.213.{n}." not in taken)
        for words in (
            ("link", "add", "name", self._bridge, "type", "bridge"),
            ("address", "add", f"10.213.{third}.1/24", "dev", self._bridge),
            ("link", "set", self._bridge, "up"),
        ):
            subprocess.run(["ip", *words], check=True)


@dataclass
class Podman(Engine):
    """Podman with a storage of its own; nothing of it runs when no container does."""

    store: Path | None = None
    """Images that are there already, read only."""

    def configure(self) -> None:
        storage = self.folder / "storage.conf"
        storage.write_text(
            '[storage]\ndriver = "overlay"\n'
            f'graphroot = "{self.folder / "data"}"\nrunroot = "{self.folder / "run"}"\n'
            + (
                f'[storage.options]\nadditionalimagestores = ["{self.store}"]\n'
                if self.store
                else ""
            )
        )
        engine = self.folder / "containers.conf"
        # Podman asks for the most there is, which a root without CAP_SYS_RESOURCE may not have;
        # crun, where it is installed, refuses cgroups of both versions.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        engine.write_text(
            f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc=16384:16384"]\n'
            '[engine]\nruntime = "runc"\n'
        )
        self.environ |= {
            "CONTAINERS_STORAGE_CONF": str(storage),
            "CONTAINERS_CONF": str(engine),
        }

    def destroy(self) -> None:
        self.remove_all()
        _unmount(self.folder)
        shutil.rmtree(self.folder)


def _docker_store() -> Path:
    """A data root that holds the image, made by a daemon that has ended."""
    with standin.kept("docker") as store:
        if not store.exists():
            folder = _folder("docker")
            maker = Daemon(
                "docker", folder, {"DOCKER_HOST": f"unix://{folder / 'socket'}"}, empty=True
            )
            try:
                maker.start()
                maker.add_image()
                maker.stop()
                _unmount(folder)
                _keep(folder / "data", store)
            finally:
                maker.destroy()
        return store


def _copy(store: Path, data: Path) -> None:
    """A data root of one's own. Layers are never written to, so links to their files will do."""
    data.mkdir()
    for entry in store.iterdir():
        link = ["--link"] if entry.name == "overlay2" else []
        done = subprocess.run(["cp", "--archive", *link, entry, data], check=False)
        if done.returncode:  # another file system
            shutil.rmtree(data / entry.name, ignore_errors=True)
            subprocess.run(["cp", "--archive", entry, data], check=True)


def _podman_store() -> Path:
    with standin.kept("podman") as store:
        if not store.exists():
            maker = Podman("podman", _folder("podman"))
            try:
                maker.configure()
                maker.add_image()
                _unmount(maker.folder)
                _keep(maker.folder / "data", store)
            finally:
                maker.destroy()
        return store


def _keep(data: Path, store: Path) -> None:
    part = store.with_name(f"{store.name}.part")
    subprocess.run(["cp", "--archive", data, part], check=True)
    part.rename(store)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(pid: int) -> None:
    try:
        process = psutil.Process(pid)
        process.kill()
        process.wait(60)
    except psutil.NoSuchProcess:
        pass


def _unmount(folder: Path) -> None:
    """Undo the mounts below `folder`, innermost first: kill -9 leaves them."""
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in reversed([p for p in places if p.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", place.replace(r"\040", " ")], check=True)


def _why_not(*programs: str) -> str:
    if os.geteuid() != 0:
        return "a container engine of the tests' own needs root"
    lacking = [program for program in programs if shutil.which(program) is None]
    packages = {"dockerd": "docker.io", "docker": "docker.io", "ip": "iproute2"}
    names = " ".join(dict.fromkeys(packages.get(program, program) for program in lacking))
    return f"{', '.join(lacking)} not installed: {_DEBIAN} {names}" if lacking else ""


def _folder(name: str) -> Path:
    # Not pytest's own folder: a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix=f"deck-{name}-"))
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def make_daemon() -> Iterator[Any]:
    """Makes daemons for tests that kill them; `make_daemon("--live-restore")`."""
    if why := _why_not("dockerd", "docker", "ip"):
        pytest.skip(why)
    made: list[Daemon] = []

    def make(*options: str) -> Daemon:
        folder = _folder("docker")
        made.append(Daemon("docker", folder, {"DOCKER_HOST": f"unix://{folder / 'socket'}"}))
        made[-1].start(*options)
        return made[-1]

    yield make
    for daemon in made:
        daemon.destroy()


@pytest.fixture(scope="session")
def docker_daemon() -> Iterator[Daemon]:
    """One daemon for the whole session."""
    if why := _why_not("dockerd", "docker", "ip"):
        pytest.skip(why)
    folder = _folder("docker")
    daemon = Daemon("docker", folder, {"DOCKER_HOST": f"unix://{folder / 'socket'}"})
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.destroy()


@pytest.fixture
def docker(docker_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """The session's dockerd as this process's engine; a test that leaves a container fails."""
    assert docker_daemon.process is not None
    if docker_daemon.process.poll() is not None:
        pytest.fail(f"dockerd has ended:\n{(docker_daemon.folder / 'log').read_text()[-3000:]}")
    yield from _engine(docker_daemon, monkeypatch)


@pytest.fixture(scope="session")
def podman_storage() -> Iterator[Podman]:
    """One podman storage for the whole session."""
    if why := _why_not("podman", "catatonit"):
        pytest.skip(why)
    podman = Podman("podman", _folder("podman"), store=_podman_store())
    try:
        podman.configure()
        yield podman
    finally:
        podman.destroy()


@pytest.fixture
def podman(podman_storage: Podman, monkeypatch: pytest.MonkeyPatch) -> Iterator[Podman]:
    """Podman as this process's engine; a test that leaves a container fails."""
    yield from _engine(podman_storage, monkeypatch)


def _engine(engine: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in engine.environ.items():
        monkeypatch.setenv(name, value)
    yield engine
    left = engine("ps", "--all", "--format", "{{.Names}} {{.Status}}")
    engine.remove_all()
    assert not left, f"containers left behind: {left}"
