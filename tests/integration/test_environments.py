"""Managed environments made by the real creator: venv, pip and wheels from a folder, offline."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console.facts import DeckError
from console.planning.plan import EnvironmentSpec
from console.runtimes.environments import INCOMPLETE, MARKER, Environments
from console.settings import Folders, PackageSettings, Settings
from tests.wheels import make_wheel

pytestmark = pytest.mark.integration

PROGRESS = re.compile(r"^\[tritondeck\] progress (\d\.\d+) (.+)$", re.MULTILINE)


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    make_wheel(folder, "alpha", requires="beta")
    make_wheel(folder, "beta", "2.0")
    return folder


@pytest.fixture
def environments(tmp_path: Path, wheelhouse: Path) -> Environments:
    return Environments(
        Settings(
            folders=Folders(tmp_path / "config", tmp_path / "state", tmp_path / "cache"),
            packages=PackageSettings(wheelhouse=str(wheelhouse), offline=True),
        )
    )


Start = Callable[[EnvironmentSpec], "subprocess.Popen[str]"]


@pytest.fixture
def start(environments: Environments, tmp_path: Path) -> Iterator[Start]:
    """Starts creators, each in a process group of its own; nothing of them outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start_one(spec: EnvironmentSpec) -> subprocess.Popen[str]:
        creation = environments.creation(spec, tmp_path / f"job-{len(started)}.json")
        process = subprocess.Popen(
            creation.argv,
            env=creation.env,
            cwd=creation.cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def spec(*requirements: str, imports: tuple[str, ...] = ("alpha",), **more: str) -> EnvironmentSpec:
    return EnvironmentSpec(
        name="tiny",
        title="Tiny",
        requirements=requirements or ("alpha==1.0", "beta==2.0"),
        imports=imports,
        **more,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=120)
    return output


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until `path` exists; fails when the process ends before."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, finish(process)
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.005)


def test_a_created_environment_is_ready_and_says_what_is_in_it(
    environments: Environments, start: Start
) -> None:
    tiny = spec()
    assert environments.why_not(tiny) == "not created yet"

    process = start(tiny)
    output = finish(process)

    assert process.returncode == 0, output
    assert environments.why_not(tiny) == ""
    folder = environments.folder(tiny)
    assert folder.stat().st_mode & 0o777 == 0o700
    marker = json.loads((folder / MARKER).read_text())
    assert {k: marker["freeze"][k] for k in ("alpha", "beta")} == {"alpha": "1.0", "beta": "2.0"}
    facts = environments.facts(tiny)
    assert facts.packages["alpha"] == "1.0"
    assert facts.python_version == ".".join(map(str, sys.version_info[:3]))
    (listed,) = environments.list()
    assert listed.name == folder.name
    du = subprocess.run(["du", "-s", "--block-size=1", folder], capture_output=True, text=True)
    # du counts the folder itself too
    assert listed.size == pytest.approx(int(du.stdout.split()[0]), rel=0.01)

    fractions = [float(f) for f, _ in PROGRESS.findall(output)]
    assert fractions == sorted(fractions), output
    assert fractions[-1] == 1.0
    messages = [m for _, m in PROGRESS.findall(output)]
    assert any(m.startswith("collecting 2 of 2: beta") for m in messages), messages
    assert any(re.fullmatch(r"installing \d of 2", m) for m in messages), messages


def test_a_killed_creation_is_not_taken_for_a_finished_one(
    environments: Environments, start: Start
) -> None:
    tiny = spec()
    folder = environments.folder(tiny)
    first = start(tiny)
    wait_for(folder / INCOMPLETE, first)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()

    assert environments.why_not(tiny) == "its creation was interrupted"
    (unfinished,) = environments.list()
    assert unfinished.python_version == ""
    (folder / "left-behind").touch()

    second = start(tiny)
    output = finish(second)
    assert second.returncode == 0, output
    assert "an earlier creation was interrupted" in output
    assert environments.ready(tiny)
    assert not (folder / "left-behind").exists()


@pytest.mark.slow
def test_a_creator_killed_alone_keeps_its_place_until_its_pip_ends(
    environments: Environments, start: Start
) -> None:
    tiny = spec()
    folder = environments.folder(tiny)
    first = start(tiny)
    wait_for(folder / INCOMPLETE, first)
    first.kill()  # its child goes on writing into the folder
    first.wait()

    second = start(tiny)
    output = finish(second)

    assert second.returncode == 0, output
    assert f"running (process {first.pid}): waiting" in output
    assert environments.facts(tiny).packages["beta"] == "2.0"


def test_the_second_of_two_creators_waits_and_says_so(
    environments: Environments, start: Start
) -> None:
    tiny = spec()
    first = start(tiny)
    wait_for(environments.folder(tiny) / INCOMPLETE, first)
    second = start(tiny)

    said = finish(second)

    assert first.wait(timeout=60) == 0
    assert second.returncode == 0, said
    assert f"another creation of this environment is running (process {first.pid})" in said
    assert "already created" in said


def test_cancelling_ends_pip_too(environments: Environments, start: Start) -> None:
    tiny = spec()
    folder = environments.folder(tiny)
    process = start(tiny)
    wait_for(folder / "requirements.txt", process)
    process.send_signal(signal.SIGTERM)

    output = finish(process)

    assert process.returncode == 128 + signal.SIGTERM, output
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not environments.ready(tiny)


def test_a_package_that_no_source_has_is_named(environments: Environments, start: Start) -> None:
    wanting = spec("alpha==1.0", "gamma==3.0")
    process = start(wanting)
    output = finish(process)
    assert process.returncode == 1
    assert "[tritondeck] error no package source has gamma==3.0" in output
    assert environments.why_not(wanting) == "not created yet"


def test_pins_that_contradict_each_other_are_named(
    environments: Environments, start: Start, wheelhouse: Path
) -> None:
    make_wheel(wheelhouse, "delta", requires="beta<2")
    process = start(spec("delta==1.0", "beta==2.0"))
    output = finish(process)
    assert process.returncode == 1
    assert "error the pinned packages do not fit together" in output
    assert "delta 1.0 depends on beta<2" in output.splitlines()[-1]


def test_what_does_not_import_is_not_finished(
    environments: Environments, start: Start, wheelhouse: Path
) -> None:
    make_wheel(wheelhouse, "broken", code="raise RuntimeError('no such device')")
    broken = spec("broken==1.0", imports=("broken",))
    process = start(broken)
    output = finish(process)
    assert process.returncode == 1
    assert "error broken is installed but does not import" in output
    assert "no such device" in output
    assert not environments.ready(broken)


def test_a_full_disk_is_said_in_words(
    environments: Environments, start: Start, wheelhouse: Path, tmp_path: Path
) -> None:
    """pip gets the real error from the kernel: writing to a file past RLIMIT or a full tmpfs."""
    make_wheel(wheelhouse, "large", code="#" * 60_000_000)
    environments.root.mkdir(parents=True, mode=0o700)
    job = tmp_path / "job.json"
    creation = environments.creation(spec("large==1.0", imports=("large",)), job)
    inside = (
        'mount -t tmpfs -o size=40m tmpfs "$1" && chmod 700 "$1" && shift && '
        'status=0; "$@" || status=$?; ls -A "$ROOT"; exit $status'
    )
    words = ["bash", "-c", inside, "bash", str(environments.root), *creation.argv]
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run(
        [*namespace, *words],
        env={**creation.env, "ROOT": str(environments.root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "[tritondeck] error the disk is full" in done.stdout
    assert "TRITONDECK_ENVIRONMENTS" in done.stdout
    left = done.stdout.splitlines()[-1]
    assert left.endswith(".lock"), f"the failed creation still takes space: {left}"


def test_an_environment_in_use_is_not_removed(environments: Environments, start: Start) -> None:
    tiny = spec()
    creator = start(tiny)
    wait_for(environments.folder(tiny) / INCOMPLETE, creator)
    with pytest.raises(DeckError, match="is being created"):
        environments.remove("tiny")
    assert creator.wait(timeout=60) == 0

    python = environments.folder(tiny) / "bin" / "python"
    with subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE) as user:
        try:
            with pytest.raises(DeckError, match=f"in use: by process {user.pid} "):
                environments.remove("tiny")
        finally:
            user.kill()
    (listed,) = environments.list()
    assert environments.remove(listed.name) == listed.size
    assert environments.list() == ()
    assert not list(environments.root.glob(".trash-*"))


def test_an_environment_of_the_operators_is_used_as_it_is(environments: Environments) -> None:
    here = spec(imports=("pytest",), existing=str(Path(sys.executable).parent.parent))
    assert environments.why_not(here) == ""
    assert "pytest" in environments.facts(here).packages
    lacking = here.model_copy(update={"imports": ("no_such_module.inner",)})
    assert environments.why_not(lacking) == "it lacks no_such_module.inner"
