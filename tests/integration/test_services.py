"""Services with real servers, supervisors and signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import psutil
import pytest

from console import storage
from console.desk import scaling
from console.desk.desk import Desk
from console.facts import DeckError, Refused, UsageError
from console.keeper import look
from console.planning.plan import Command, LoadStep, Plan, ServiceSpec, ServiceStep, UrlReady
from console.planning.variables import Variable
from console.runs.model import RunState, StepState
from console.runs.store import RunStore
from console.services import ports
from console.services.model import ServiceState, ServiceView
from console.services.store import ServiceStore
from console.settings import Settings
from console.triton.versions import Version, Versions, write
from tests.processes import ended, fill, running_with, settings_at, small_disk, until
from tests.support import free_ports

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.nemo"
SERVER = Path(__file__).parents[1] / "assets" / "small_server.py"
READY = UrlReady(url="http://127.0.0.1:${http_port}/v2/health/live", timeout=60)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_at(tmp_path / "home")


@pytest.fixture
def store(settings: Settings) -> Iterator[ServiceStore]:
    services = ServiceStore(settings)
    yield services
    for view in services.views():
        if view.state is not ServiceState.FOREIGN:
            services.stop(view.id)


def spec(*words: str, **fields: object) -> ServiceSpec:
    values: dict[str, object] = {
        "name": "triton",
        "command": Command(
            argv=(sys.executable, str(SERVER), "${http_port}", *words), cwd="${work}"
        ),
        "http_url": "http://127.0.0.1:${http_port}",
        "token_file": "${token_file}",
        "repository": "${work}/repository",
        "stop_timeout": 30.0,
        **fields,
    }
    return ServiceSpec.model_validate(values)


def values(tmp_path: Path, port: str = "0") -> dict[str, str]:
    return {"work": str(tmp_path / "work"), "http_port": port}


def live(store: ServiceStore, service_id: str) -> ServiceView:
    from console.triton.health import probe

    view = store.view(service_id)
    until(lambda: probe(view.endpoint).live)
    return view


def free_port() -> int:
    (port,) = free_ports(1)
    return port


# ---------------------------------------------------------------------------- start and stop


def test_a_service_gets_a_free_port_a_token_and_a_log(store: ServiceStore, tmp_path: Path) -> None:
    view = live(store, store.start(spec(), values(tmp_path), "digits"))
    assert view.state is ServiceState.STARTING and view.id == "digits-s1"
    store.mark_ready(view.id)
    view = store.view("digits")
    assert view.state is ServiceState.RUNNING and view.pid and view.uptime
    token = view.endpoint.token_file
    assert token is not None and token.parent == view.folder
    assert len(token.read_text()) >= 43 and stat.S_IMODE(token.stat().st_mode) == 0o600
    assert "listening" in view.log.read_text()
    assert store.values(view.id)["http_port"] in view.endpoint.url


def test_the_token_is_new_each_launch_and_in_no_other_file(
    store: ServiceStore, tmp_path: Path
) -> None:
    tokens = []
    for _ in range(2):
        view = live(store, store.start(spec(), values(tmp_path), "digits"))
        assert view.endpoint.token_file is not None
        tokens.append(view.endpoint.token_file.read_bytes())
        store.stop(view.id)
        # Only now: nobody writes there any more.
        others = [f for f in view.folder.iterdir() if f.is_file() and f.name != "token"]
        assert others and all(tokens[-1] not in f.read_bytes() for f in others)
    assert tokens[0] != tokens[1]


def test_stop_ends_everything_and_says_how(store: ServiceStore, tmp_path: Path) -> None:
    word, prefix = uuid4().hex, f"tritondeck_{uuid4().hex[:8]}_"
    made = spec("--child", word, "--shm", prefix, shm_prefix=prefix)
    live(store, store.start(made, values(tmp_path), "digits"))
    assert list(Path("/dev/shm").glob(f"{prefix}*"))
    view = store.stop("digits")
    assert (view.state, view.exit_status) == (ServiceState.STOPPED, 0)
    assert view.reason == "stopped (exit code 0)" and view.pid is None
    assert running_with(word) == []
    assert not list(Path("/dev/shm").glob(f"{prefix}*"))
    assert store.stop("digits") == view


def test_a_server_that_ignores_sigterm_is_killed_after_its_stop_timeout(
    store: ServiceStore, tmp_path: Path
) -> None:
    live(store, store.start(spec("--deaf", stop_timeout=0.3), values(tmp_path), "digits"))
    view = store.stop("digits")
    assert view.state is ServiceState.STOPPED and view.exit_status == -signal.SIGKILL
    assert "killed because it did not end in time" in view.reason


def test_stopping_is_shown_to_others_while_it_lasts(store: ServiceStore, tmp_path: Path) -> None:
    """The server ignores its end until the state has been seen."""
    view = live(store, store.start(spec("--deaf", stop_timeout=60), values(tmp_path), "digits"))
    assert view.pid is not None
    stopping = threading.Thread(target=store.stop, args=("digits",))
    stopping.start()
    try:
        until(lambda: store.view("digits").state is ServiceState.STOPPING)
    finally:
        os.kill(view.pid, signal.SIGKILL)
        stopping.join()
    assert store.view("digits").state is ServiceState.STOPPED


# ---------------------------------------------------------------------------- kill -9


def test_kill_9_of_the_server_is_told_and_its_shared_memory_removed(
    store: ServiceStore, tmp_path: Path
) -> None:
    word, prefix = uuid4().hex, f"tritondeck_{uuid4().hex[:8]}_"
    made = spec("--child", word, "--shm", prefix, shm_prefix=prefix)
    view = live(store, store.start(made, values(tmp_path), "digits"))
    assert view.pid is not None
    os.kill(view.pid, signal.SIGKILL)
    until(lambda: store.view("digits").state is ServiceState.FAILED)
    view = store.view("digits")
    assert view.exit_status == -9 and "SIGKILL" in view.reason and "listening" in view.reason
    assert running_with(word) == []
    assert not list(Path("/dev/shm").glob(f"{prefix}*"))


def test_kill_9_of_the_supervisor_leaves_a_server_that_serves_and_can_be_stopped(
    store: ServiceStore, tmp_path: Path
) -> None:
    prefix = f"tritondeck_{uuid4().hex[:8]}_"
    made = spec("--shm", prefix, shm_prefix=prefix)
    view = live(store, store.start(made, values(tmp_path), "digits"))
    supervisor = look(view.folder).keeper
    assert supervisor is not None and view.pid is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    until(lambda: not supervisor.alive)
    view = live(store, view.id)
    assert "its supervisor is gone" in view.reason
    stopped = store.stop(view.id)
    assert stopped.state is ServiceState.STOPPED and not look(view.folder).child_alive
    assert not list(Path("/dev/shm").glob(f"{prefix}*"))


def test_kill_9_of_both_is_told_as_lost(store: ServiceStore, tmp_path: Path) -> None:
    view = live(store, store.start(spec(), values(tmp_path), "digits"))
    supervisor = look(view.folder).keeper
    assert supervisor is not None and view.pid is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    os.kill(view.pid, signal.SIGKILL)
    until(lambda: store.view("digits").state is ServiceState.LOST)
    assert "were killed" in store.view("digits").reason


def test_a_service_outlives_the_hangup_and_death_of_its_starter(
    settings: Settings, store: ServiceStore, tmp_path: Path
) -> None:
    program = (
        "from tests.integration.test_services import *;"
        f"t = Path({str(tmp_path)!r});"
        "print(ServiceStore(settings_at(t / 'home')).start(spec(), values(t), 'digits'), flush=True);"
        "time.sleep(600)"
    )
    root = Path(__file__).parents[2]
    console = subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, start_new_session=True
    )
    assert console.stdout is not None and console.stdout.readline() == b"digits-s1\n"
    os.killpg(console.pid, signal.SIGHUP)
    console.wait()
    console.stdout.close()
    assert live(store, "digits").state is ServiceState.STARTING


# ---------------------------------------------------------------------------- adoption


def test_the_same_living_service_is_adopted(store: ServiceStore, tmp_path: Path) -> None:
    first = store.start(spec(), values(tmp_path), "digits")
    pid = live(store, first).pid
    assert store.start(spec(), values(tmp_path), "digits") == first
    assert store.view(first).pid == pid
    port = store.values(first)["http_port"]
    assert store.start(spec(), values(tmp_path, port), "digits") == first


def test_a_service_with_other_settings_replaces_the_living_one(
    store: ServiceStore, tmp_path: Path
) -> None:
    first = store.start(spec(), values(tmp_path), "digits")
    live(store, first)
    second = store.start(spec("--late", "0"), values(tmp_path), "digits")
    assert second != first
    assert store.view(first).state is ServiceState.STOPPED
    assert live(store, second).pid


def test_a_changed_launcher_file_is_another_server(store: ServiceStore, tmp_path: Path) -> None:
    worker = tmp_path / "launcher.py"
    worker.write_text(SERVER.read_text())
    argv = (sys.executable, str(worker), "${http_port}")
    made = spec(command=Command(argv=argv, cwd="${work}"))
    first = store.start(made, values(tmp_path), "digits")
    live(store, first)
    worker.write_text(SERVER.read_text() + "\n# newer\n")
    assert store.start(made, values(tmp_path), "digits") != first


def test_a_living_service_that_stopped_answering_is_not_adopted(
    store: ServiceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.services.store._ANSWERS", 1.0)
    made = spec(stop_timeout=0.3)
    view = live(store, store.start(made, values(tmp_path), "digits"))
    store.mark_ready(view.id)
    assert view.pid is not None
    os.kill(view.pid, signal.SIGSTOP)
    assert store.start(made, values(tmp_path), "digits") != view.id
    assert store.view(view.id).state is ServiceState.STOPPED


def test_two_starts_at_once_make_one_server(
    settings: Settings, store: ServiceStore, tmp_path: Path
) -> None:
    program = (
        "from tests.integration.test_services import *;"
        f"t = Path({str(tmp_path)!r}); s = ServiceStore(settings_at(t / 'home'));"
        "i = s.start(spec(), values(t), 'digits'); live(s, i); print(i)"
    )
    root = Path(__file__).parents[2]
    both = [
        subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [one.communicate()[0] for one in both] == [b"digits-s1\n"] * 2
    assert [v.id for v in store.views()] == ["digits-s1"]


# ---------------------------------------------------------------------------- refusals


def test_a_taken_port_is_refused_with_its_holders_name(store: ServiceStore, tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        with pytest.raises(Refused, match=f"port {port} on 127.0.0.1 is taken") as caught:
            store.start(spec(), values(tmp_path, port), "digits")
    assert f"pid {os.getpid()}" in caught.value.why
    assert psutil.Process().name() in caught.value.why
    assert store.views() == ()


def test_two_that_start_at_once_do_not_share_a_port(store: ServiceStore, tmp_path: Path) -> None:
    """A server binds its port long after it was looked at: here never."""
    port = str(free_port())
    gate = threading.Barrier(2)

    def start(name: str) -> str:
        gate.wait()
        try:
            return ServiceStore(store.settings).start(
                spec("--late=600"), values(tmp_path, port), name
            )
        except Refused as error:
            return f"{error.title}: {error.why}"

    with ThreadPoolExecutor(2) as pool:
        told = set(pool.map(start, ("one", "two")))
    (service,) = store.views()
    why = f"the service {service.id} is to listen there"
    assert told == {service.id, f"port {port} on 127.0.0.1 is taken: {why}"}


def test_a_port_that_a_crashed_server_will_have_again_is_not_found(
    store: ServiceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.start(spec(restart="on-failure"), values(tmp_path), "one")
    view = live(store, first)
    store.mark_ready(first)
    assert view.pid is not None
    os.kill(view.pid, signal.SIGKILL)
    # It waits for its start, or on a busy machine had it already: the port is its own.
    until(lambda: store.view(first).pid != view.pid)
    free = free_port()
    # Which port is free is the kernel's choice: here it chooses the other's first.
    given = [
        SimpleNamespace(getsockname=lambda port=port: ("127.0.0.1", port), close=lambda: None)
        for port in (int(store.values(first)["http_port"]), free)
    ]
    monkeypatch.setattr(ports, "_free", lambda address: given.pop(0))
    assert store.values(store.start(spec(), values(tmp_path), "two"))["http_port"] == str(free)


def test_found_ports_differ_from_each_other(store: ServiceStore, tmp_path: Path) -> None:
    made = spec(grpc_url="127.0.0.1:${grpc_port}", metrics_url="http://127.0.0.1:${m_port}/metrics")
    service_id = store.start(made, {**values(tmp_path), "grpc_port": "0", "m_port": "0"}, "digits")
    found = store.values(service_id)
    assert len({found["http_port"], found["grpc_port"], found["m_port"], "0"}) == 4


def test_a_full_disk_refuses_the_start_in_words(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        store = ServiceStore(settings_at(disk / "home"))
        fill(disk)
        with pytest.raises(DeckError, match="is full"):
            store.start(spec(), values(tmp_path), "digits")
        assert [v for v in store.views() if v.pid] == []


def test_stop_works_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        store = ServiceStore(settings_at(disk / "home"))
        service_id = store.start(spec(), values(tmp_path), "digits")
        live(store, service_id)
        fill(disk)
        view = store.stop(service_id)
        assert view.state is ServiceState.STOPPED and view.exit_status == 0


def test_an_unknown_name_is_told_with_the_known_ones(store: ServiceStore, tmp_path: Path) -> None:
    store.start(spec(), values(tmp_path), "digits")
    with pytest.raises(UsageError, match="no service other") as caught:
        store.view("other")
    assert "digits" in caught.value.why


def test_a_service_of_another_version_or_host_is_told_and_left_alone(
    store: ServiceStore, tmp_path: Path
) -> None:
    view = store.view(store.start(spec(), values(tmp_path), "digits"))
    store.stop(view.id)
    manifest = view.folder / "service.json"
    raw = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps({**raw, "host": "elsewhere"}))
    assert store.view(view.id).state is ServiceState.FOREIGN
    with pytest.raises(Refused, match="cannot be stopped from here"):
        store.stop(view.id)
    manifest.write_text(json.dumps({**raw, "version": 99}))
    assert "another version" in store.views()[0].reason


def test_what_another_host_has_left_does_not_refuse_the_stop_of_what_runs_here(
    store: ServiceStore, tmp_path: Path
) -> None:
    left = store.view(store.start(spec(), values(tmp_path), "digits"))
    store.stop(left.id)
    manifest = left.folder / "service.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_bytes()), "host": "elsewhere"}))
    mine = store.start(spec(), values(tmp_path), "digits")
    live(store, mine)
    assert store.stop("digits").id == mine
    assert store.view(mine).state is ServiceState.STOPPED


def test_a_shell_of_a_guest_looks_for_the_container_of_its_host(
    store: ServiceStore, settings: Settings, tmp_path: Path
) -> None:
    host = live(store, store.start(spec(), values(tmp_path), "host"))
    store.mark_ready(host.id)
    desk = Desk(settings)
    desk.save(desk.draft(DIGITS, "onnx", "guest"))
    work = settings.folders.work / "guest"
    work.mkdir(parents=True)
    one = Version(1, ("digits",), "key", "guest-r1", time.time())
    write(work, Versions("guest", host.repository, 1, 0, (one,)))
    with pytest.raises(UsageError, match="no container to open a shell in"):
        desk.shell("guest", "container")


def test_what_ray_says_of_an_application_shows_no_secret(
    store: ServiceStore, settings: Settings, tmp_path: Path
) -> None:
    live(store, store.start(spec(), values(tmp_path), "digits"))
    folder = tmp_path / "work" / "ray"
    folder.mkdir(parents=True)
    said = "replica died: HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz0123456789"
    storage.write_json(folder / scaling.STATE, {"application": {"message": said}})
    found = scaling.look(settings, "digits")
    assert "replica died" in found.message and "abcdefgh" not in found.message


def test_a_wish_for_replicas_of_what_ends_meanwhile_says_that_it_ended(
    store: ServiceStore, settings: Settings, tmp_path: Path
) -> None:
    service = store.start(spec(), values(tmp_path), "digits")
    live(store, service)
    folder = tmp_path / "work" / "ray"
    folder.mkdir(parents=True)
    (folder / scaling.STATE).write_text("{}")

    def grant_and_end() -> None:
        until(lambda: (folder / scaling.REQUEST).exists())
        asked = json.loads((folder / scaling.REQUEST).read_text())["id"]
        store.stop(service)
        storage.write_json(folder / scaling.STATE, {"asked": {"id": asked}})

    thread = threading.Thread(target=grant_and_end)
    thread.start()
    with pytest.raises(DeckError, match="ended before all its replicas ran") as told:
        scaling.scale(settings, "digits", 2)
    thread.join()
    assert "stopped" in told.value.why


class Cluster:
    """Looks at a cluster, one after the other: each is what is seen once the one before it was."""

    def __init__(self, folder: Path, *looks: tuple[str, str, list[tuple[str, str]]]) -> None:
        """`looks` have a status, Ray's words, and (id, state) of the replicas."""
        self.folder, self.looks = folder, looks
        self.asked = ""

    def see(self, number: int) -> None:
        status, message, replicas = self.looks[min(number, len(self.looks) - 1)]
        told = [{"id": id_, "state": state, "node": ""} for id_, state in replicas]
        one = {"name": "model", "message": message, "target": 2, "replicas": told}
        application = {"status": status, "message": "", "deployments": [one]}
        seen = {"time": time.time(), "application": application, "asked": {"id": self.asked}}
        storage.write_json(self.folder / scaling.STATE, seen)

    def scaled(self, settings: Settings) -> DeckError:
        """What ends the wait for two replicas."""
        self.see(0)
        seen = iter(range(1, 1000))

        def grant() -> None:
            until(lambda: (self.folder / scaling.REQUEST).exists())
            self.asked = json.loads((self.folder / scaling.REQUEST).read_text())["id"]
            self.see(0)

        thread = threading.Thread(target=grant)
        thread.start()
        with pytest.raises(DeckError) as told:
            scaling.scale(settings, "digits", 2, lambda *said: self.see(next(seen)))
        thread.join()
        return told.value


@pytest.fixture
def cluster(
    store: ServiceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Cluster]:
    monkeypatch.setattr(scaling, "_POLL", 0.01)
    live(store, store.start(spec(), values(tmp_path), "digits"))
    folder = tmp_path / "work" / "ray"
    folder.mkdir(parents=True)
    return partial(Cluster, folder)


def test_replicas_that_fail_again_and_again_end_the_wait(
    cluster: Callable[..., Cluster], settings: Settings
) -> None:
    """Ray says RUNNING for as long as an older one runs, and tries for ever."""
    old, said = ("a", "RUNNING"), "torch.OutOfMemoryError: CUDA out of memory"
    tried = [("RUNNING", said, [old, (str(n), "STARTING")]) for n in range(3)]
    told = cluster(("RUNNING", "", [old]), *tried, ("RUNNING", said, [old])).scaled(settings)
    assert told.title == "1 of 2 replicas run: 3 new ones failed one after the other"
    assert told.why == said


def test_an_application_that_stays_unhealthy_ends_the_wait(
    cluster: Callable[..., Cluster], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "_STILL", 0.1)
    said = "A replica's health check failed."
    told = cluster(("UNHEALTHY", said, [("a", "RUNNING")])).scaled(settings)
    assert "UNHEALTHY, and Ray starts none" in told.title and told.why == said


# ---------------------------------------------------------------------------- inside a run


def deploy(runs: RunStore, made: ServiceSpec, *models: str, timeout: float = 60.0) -> str:
    steps: tuple[ServiceStep | LoadStep, ...] = (
        ServiceStep(id="start", title="Start", service=made, success=(READY,)),
    )
    if models:
        load = LoadStep(
            id="load", title="Load", service="triton", models=models, model_timeout=timeout
        )
        steps = (*steps, load)
    port = Variable(name="http_port", kind="port", default="0")
    plan = Plan(deployment="digits", backend="test", variables=(port,), steps=steps)
    run_id = runs.create(plan, "")
    runs.start(run_id)
    return run_id


def test_a_run_starts_a_service_and_leaves_it_running(
    settings: Settings, store: ServiceStore
) -> None:
    runs = RunStore(settings)
    view = ended(runs, deploy(runs, spec(), "good"))
    assert view.state is RunState.SUCCEEDED, view.error
    assert view.service == "digits-s1"
    assert store.view("digits").state is ServiceState.RUNNING
    assert runs.log_file(view.id, "start") == store.view("digits").log
    again = ended(runs, deploy(runs, spec(), "good"))
    assert again.service == view.service and "was running" in again.steps[0].message


def test_a_server_that_dies_at_start_fails_the_run_with_its_last_words(
    settings: Settings, store: ServiceStore
) -> None:
    runs = RunStore(settings)
    view = ended(runs, deploy(runs, spec("--no-such-option")))
    assert view.state is RunState.FAILED
    assert "the server has ended" in view.error and "--no-such-option" in view.error
    assert store.view("digits").state is ServiceState.FAILED


def test_a_server_that_never_answers_is_stopped_again(
    settings: Settings, store: ServiceStore
) -> None:
    runs = RunStore(settings)
    impatient = READY.model_copy(update={"timeout": 0.5})
    step = ServiceStep(
        id="start", title="Start", service=spec("--late", "60"), success=(impatient,)
    )
    port = Variable(name="http_port", kind="port", default="0")
    run_id = runs.create(
        Plan(deployment="digits", backend="test", variables=(port,), steps=(step,)), ""
    )
    runs.start(run_id)
    view = ended(runs, run_id)
    assert view.state is RunState.FAILED and "was not ready within 0.5 s" in view.error
    assert store.view("digits").state is ServiceState.STOPPED


def test_a_load_that_kills_the_server_is_told_by_the_servers_words(
    settings: Settings, store: ServiceStore
) -> None:
    runs = RunStore(settings)
    view = ended(runs, deploy(runs, spec(), "deadly"))
    assert view.state is RunState.FAILED
    assert "exit code 7" in view.error and "cannot read the weights" in view.error


def test_a_server_whose_end_takes_its_supervisor_a_while_is_told_all_the_same(
    settings: Settings, store: ServiceStore
) -> None:
    """What it leaves is given time to end, and is then killed, before its end is written down."""
    runs = RunStore(settings)
    view = ended(
        runs, deploy(runs, spec("--deaf", "--child", uuid4().hex, stop_timeout=3.0), "deadly")
    )
    assert "the server has ended: exit code 7" in view.error


def test_cancel_in_a_load_that_hangs_ends_the_run_at_once(
    settings: Settings, store: ServiceStore
) -> None:
    runs = RunStore(settings)
    run_id = deploy(runs, spec(), "slow", timeout=600)
    until(lambda: (now := runs.view(run_id).current) and now.id == "load")
    runs.cancel(run_id)
    view = ended(runs, run_id)
    assert view.state is RunState.CANCELLED and view.steps[1].state is StepState.CANCELLED
    assert store.view("digits").state is ServiceState.RUNNING


def test_a_model_that_does_not_load_fails_the_run_with_the_servers_reason(
    settings: Settings, store: ServiceStore
) -> None:
    runs = RunStore(settings)
    view = ended(runs, deploy(runs, spec(), "good", "bad"))
    assert view.state is RunState.FAILED and "no such file" in view.error
