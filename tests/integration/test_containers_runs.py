"""Steps of runs in real containers: docker and podman, killed at every place."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from console.keeper import look
from console.planning.plan import (
    Command,
    CommandStep,
    Container,
    ExitCode,
    FileExists,
    ImageSpec,
    ImageStep,
    Mount,
    Plan,
    PublishedPort,
    Step,
)
from console.planning.script import render
from console.runs.folder import RunFolder
from console.runs.model import RunState, RunView, StepState
from console.runs.store import RunStore
from console.runtimes import containers
from tests.containers import REFERENCE, Engine
from tests.processes import ended, settings_at, until
from tests.support import contents, free_ports

SERVER = ImageSpec(name="server", reference=REFERENCE)
WORK = Mount(source="${work}", target="${work}")


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


DOCKER = pytest.mark.parametrize("engine", ["docker"], indirect=True)
"""For what does not depend on the engine: the other one is left out, seconds count."""


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(settings_at(tmp_path / "home"))


def inside(step: str, script: str, **fields: Any) -> CommandStep:
    """A bash script in the stand-in image, with the work folder mounted at its own path."""
    fields.setdefault("success", (ExitCode(),))
    container = fields.pop("container", Container(mounts=(WORK,)))
    env, secrets = fields.pop("env", {}), fields.pop("secrets", ())
    command = Command(
        argv=("bash", "-c", script.replace("$", "$$").replace("WORK", "${work}")),
        runtime="image:server",
        container=container,
        env=env,
        secrets=secrets,
    )
    return CommandStep(id=step, title=step.capitalize(), command=command, **fields)


def planned(engine: str, *steps: Step, images: tuple[ImageSpec, ...] = (SERVER,)) -> Plan:
    return Plan.model_validate(
        {
            "deployment": "digits",
            "backend": "test",
            "engine": engine,
            "images": images,
            "steps": steps,
        }
    )


def begun(store: RunStore, engine: Engine, *steps: Step) -> str:
    run_id = store.create(planned(engine.name, *steps), "")
    store.start(run_id)
    return run_id


def executed(store: RunStore, engine: Engine, *steps: Step) -> RunView:
    return ended(store, begun(store, engine, *steps), 120)


def folder_of(store: RunStore, run_id: str) -> Path:
    """The keeper's folder of the run's newest step, when its container runs."""
    run = RunFolder(store.view(run_id).folder)

    def found() -> Path | None:
        for folder in sorted(run.kept("").glob("*"), reverse=True):
            view = containers.look(folder)
            if view is not None and view.following.id:
                return folder
        return None

    return until(found, 120)


def log(store: RunStore, run_id: str, step: str = "build") -> str:
    file = store.log_file(run_id, step)
    return file.read_text() if file.exists() else ""


def test_a_step_runs_in_the_image_as_the_caller_with_nothing_to_spare(
    store: RunStore, engine: Engine
) -> None:
    script = """
        echo to the log; echo to errors >&2; id -u
        grep -E 'CapEff|NoNewPrivs' /proc/self/status
        touch /opt/x 2>/dev/null || echo read-only
        touch /tmp/x && python3 -c 'print("made")' > WORK/out.txt
    """
    made = FileExists(path="${work}/out.txt")
    view = executed(store, engine, inside("build", script, success=(ExitCode(), made)))
    text = log(store, view.id)
    assert view.state is RunState.SUCCEEDED, (view.error, text)
    assert "to the log\n" in text and "to errors\n" in text
    assert f"\n{os.getuid()}\n" in text and "read-only" in text
    assert "CapEff:\t0000000000000000" in text and "NoNewPrivs:\t1" in text
    work = store.settings.folders.work / "digits"
    assert (work / "out.txt").read_text().endswith("made\n")
    assert (work / "out.txt").stat().st_uid == os.getuid()


@DOCKER
def test_its_exit_code_is_the_steps(store: RunStore, engine: Engine) -> None:
    view = executed(store, engine, inside("build", "exit 42", success=()))
    assert view.state is RunState.FAILED and "exit code 42" in view.error


def test_paths_with_everything_in_them_are_mounted(
    store: RunStore, engine: Engine, tmp_path: Path
) -> None:
    names = ["a b", "a:b", 'a"b', "$HOME", "'", "ü{x}", "a,b", "new\nline"]
    mounts = []
    for number, name in enumerate(names):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"[{name}]")
        source = str(tmp_path / name).replace("$", "$$")
        mounts.append(Mount(source=source, target=f"/m{number}", read_only=True))
    container = Container(mounts=(WORK, *mounts))
    # One stream: where two meet in a log is nobody's promise.
    script = (
        "exec 2>&1; for n in $(ls -d /m[0-9]); do cat $n/file; done; echo x > /m0/y || echo refused"
    )
    view = executed(store, engine, inside("build", script, container=container))
    assert view.state is RunState.SUCCEEDED, (view.error, log(store, view.id))
    assert "".join(f"[{name}]" for name in names) in log(store, view.id)
    assert "refused" in log(store, view.id)


def test_the_plain_script_runs_the_same_container(engine: Engine, tmp_path: Path) -> None:
    step = inside(
        "build",
        'echo "<$PLAIN>" > out.txt; id -u >> out.txt; touch /opt/x || exit 0; exit 1',
        container=Container(mounts=(WORK,), workdir="${work}"),
        env={"PLAIN": "a 'b\" $c"},
        success=(FileExists(path="${work}/out.txt"),),
    )
    image = ImageStep(id="image", title="Image", image="server")
    script = tmp_path / "plan.sh"
    script.write_text(render(planned("auto", image, step)))
    work = tmp_path / 'a "work", folder: of $mine'
    env = {**os.environ, "ENGINE": engine.name, "WORK": str(work), "PYTHON": sys.executable}
    done = subprocess.run(["bash", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (work / "out.txt").read_text() == f"<a 'b\" $c>\n{os.getuid()}\n"


def test_a_published_port_listens_on_loopback_alone(store: RunStore, engine: Engine) -> None:
    (port,) = free_ports(1)
    published = PublishedPort(host=str(port), container=8000)
    run_id = begun(
        store,
        engine,
        inside("build", "sleep 600", container=Container(mounts=(WORK,), ports=(published,))),
    )
    folder_of(store, run_id)

    def listening() -> list[str]:
        # Field 2 is address:port in hexadecimal, field 4 the state (0A: listening).
        tables = [Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
        rows = [line.split() for table in tables for line in table]
        return [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")]

    assert until(listening) == [f"0100007F:{port:04X}"]
    store.cancel(run_id)
    ended(store, run_id)


@DOCKER
def test_a_shell_opens_in_the_container(store: RunStore, engine: Engine) -> None:
    run_id = begun(store, engine, inside("build", "sleep 600"))
    folder = folder_of(store, run_id)
    argv = containers.shell_argv(folder)
    told = subprocess.run(
        containers.shell_argv(folder, ("id", "-u")), capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == str(os.getuid())
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, b"cat /proc/1/cmdline; echo $((6 * 7)); exit\n")
    said = b""
    while shell.poll() is None or select.select([ours], [], [], 0.2)[0]:
        try:
            said += os.read(ours, 4096)
        except OSError:
            break  # the terminal is closed with the shell
    assert b"42" in said
    shell.wait(60)
    os.close(ours)
    store.cancel(run_id)
    ended(store, run_id)


@DOCKER
def test_the_environment_goes_through_a_private_file_and_no_argument(
    store: RunStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "canary-value-of-a-secret")
    monkeypatch.setenv("UNASKED", "unasked-value")
    script = 'echo "<$PLAIN>"; echo ${#CANARY} "${UNASKED-absent}"; sleep 600'
    step = inside("build", script, env={"PLAIN": 'a "b" # $c'}, secrets=("CANARY",))
    run_id = begun(store, engine, step)
    folder = folder_of(store, run_id)
    until(lambda: "absent" in log(store, run_id))
    assert '<a "b" # $c>\n24 absent' in log(store, run_id)
    assert not (folder / containers.ENVIRONMENT).exists()
    words = [w for p in psutil.process_iter(["cmdline"]) for w in p.info["cmdline"] or ()]
    assert not any("canary-value" in word for word in words)
    files = contents(store.settings.folders.state)
    assert not [file for file, content in files if b"canary-value" in content]
    store.cancel(run_id)
    assert ended(store, run_id).state is RunState.CANCELLED


@DOCKER
def test_a_value_with_a_line_break_is_refused_in_words(store: RunStore, engine: Engine) -> None:
    view = executed(store, engine, inside("build", "true", env={"TEXT": "a\nB=c"}))
    assert view.state is RunState.FAILED and "TEXT has a line break" in view.error


def test_cancelling_stops_the_container(store: RunStore, engine: Engine) -> None:
    script = "trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    run_id = begun(store, engine, inside("build", script))
    until(lambda: "up" in log(store, run_id))
    store.cancel(run_id)
    assert ended(store, run_id).state is RunState.CANCELLED
    assert "told" in log(store, run_id)


@pytest.mark.parametrize(
    ("engine", "victim"),
    [("docker", "follower"), ("docker", "keeper"), ("docker", "logs"), ("podman", "follower")],
    indirect=["engine"],
)
def test_a_kill_of_what_follows_leaves_the_container_and_loses_no_line(
    store: RunStore, engine: Engine, victim: str
) -> None:
    slow = (
        "n=0; while [ $n -lt 60 ]; do n=$((n+1)); echo line $n; echo error $n >&2; sleep 0.05; "
        "[ $n != 40 ] || until test -e WORK/go; do sleep 0.05; done; done"
    )
    run_id = begun(store, engine, inside("build", slow))
    folder = folder_of(store, run_id)
    until(lambda: "line 5\n" in log(store, run_id))
    kept = look(folder)
    assert kept.keeper and kept.child
    follower = psutil.Process(kept.child.pid)
    victims = {
        "follower": [kept.child.pid],
        "keeper": [kept.keeper.pid],
        "logs": [c.pid for c in follower.children() if "logs" in c.cmdline()],
    }
    for pid in victims[victim]:
        os.kill(pid, signal.SIGKILL)
    (store.settings.folders.work / "digits" / "go").touch()
    view = ended(store, run_id, 120)
    assert view.state is RunState.SUCCEEDED, view.error
    lines = [n for n in log(store, run_id).splitlines() if n.startswith(("line", "error"))]
    assert sorted(lines) == sorted(f"{w} {n}" for w in ("line", "error") for n in range(1, 61))


def test_a_container_that_outlived_everything_is_taken_up_by_the_next_runner(
    store: RunStore, engine: Engine
) -> None:
    script = "echo up; while ! test -e WORK/go; do sleep 0.1; done; echo went on"
    run_id = begun(store, engine, inside("build", script), inside("next", "echo second"))
    folder = folder_of(store, run_id)
    until(lambda: "up" in log(store, run_id))
    before = containers.look(folder)
    kept, runner = look(folder), store.view(run_id).runner_pid
    assert kept.keeper and kept.child and runner and before
    for pid in (runner, kept.keeper.pid, kept.child.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ends with its keeper
    until(lambda: not store.view(run_id).active)
    store.retry(run_id)
    (store.settings.folders.work / "digits" / "go").touch()
    view = ended(store, run_id, 120)
    assert view.state is RunState.SUCCEEDED, view.error
    assert [s.state for s in view.steps] == [StepState.DONE, StepState.DONE]
    after = containers.look(folder)
    assert after and after.following.id == before.following.id
    assert "went on" in log(store, run_id) and log(store, run_id).count("up\n") == 1


def test_a_process_that_eats_its_limit_is_called_that(store: RunStore, engine: Engine) -> None:
    container = Container(mounts=(WORK,), memory="64m", init=False)
    script = "exec python3 -c 'x = bytearray(300 << 20)'"
    view = executed(store, engine, inside("build", script, container=container, success=()))
    assert view.state is RunState.FAILED
    assert "memory limit of 64.0 MiB" in view.error, view.error


def test_a_child_that_eats_the_limit_is_told_while_the_container_lives(
    store: RunStore, engine: Engine
) -> None:
    container = Container(mounts=(WORK,), memory="64m")
    script = "python3 -c 'x = bytearray(300 << 20)'; echo survived; sleep 600"
    run_id = begun(store, engine, inside("build", script, container=container))
    folder = folder_of(store, run_id)

    def counted() -> bool:
        view = containers.look(folder)
        return view is not None and view.following.oom_kills > 0

    until(counted)
    # Counted is the kill; the shell goes on, and its words are copied, a moment later.
    until(lambda: "survived" in log(store, run_id))
    until(lambda: "memory limit is reached" in log(store, run_id))
    store.cancel(run_id)
    assert ended(store, run_id).state is RunState.CANCELLED


@DOCKER
def test_an_image_that_is_here_is_not_fetched_again(store: RunStore, engine: Engine) -> None:
    image = ImageStep(id="image", title="Image", image="server")
    view = executed(store, engine, image, inside("build", "true"))
    assert view.steps[0].state is StepState.SKIPPED and view.steps[0].reason == "the image is here"


@DOCKER
def test_labels_say_whose_a_container_is(store: RunStore, engine: Engine) -> None:
    run_id = begun(store, engine, inside("build", "sleep 600"))
    folder = folder_of(store, run_id)
    (container,) = engine.containers()
    labels = engine.inspect(container)["Config"]["Labels"]
    assert labels["tritondeck.run"] == run_id and labels["tritondeck.step"] == "build"
    assert labels["tritondeck.folder"] == str(folder)
    assert "canary" not in json.dumps(engine.inspect(container))
    store.cancel(run_id)
    ended(store, run_id)
