"""Watching real servers: figures after known requests, a server that goes and comes back, tokens."""

from __future__ import annotations

import json
import stat
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console.desk.attached import AttachedServer
from console.desk.desk import Desk
from console.desk.replay import Replay
from console.facts import Endpoint, Refused, UsageError
from console.planning.plan import Command, CommandStep, ExitCode, Plan
from console.runs.store import RunStore
from console.services.store import ServiceStore
from console.settings import Settings
from console.telemetry.recording import FILE
from console.triton import control
from console.triton.plain_http import request
from console.triton.reading import ServerReading
from console.triton.recorder import ViewRecorder
from console.triton.target import Target
from console.triton.watch import ServerWatch
from tests.integration.test_services import live, spec, values
from tests.processes import fill, settings_at, small_disk, until

pytestmark = pytest.mark.integration

SELDOM = 60.0
"""Seconds between two polls, as it is told: what a busy machine puts between them is no gap then."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_at(tmp_path / "home")


def endpoint_of(server, token: bool = True) -> Endpoint:
    base = server.endpoint if token else server.without_token
    return Endpoint(
        url=base.url,
        metrics_url=f"http://127.0.0.1:{server.ports[2]}",
        token_file=base.token_file,
    )


def infer(url: str, count: int) -> None:
    body = {"inputs": [{"name": "NUMBERS", "datatype": "FP32", "shape": [4], "data": [1.0] * 4}]}
    before = executions(url)
    for _ in range(count):
        assert request(Endpoint(url), "/v2/models/identity/infer", method="POST", payload=body).ok
    # A server counts a request a moment after it has answered it.
    until(lambda: executions(url) == before + count)


def executions(url: str) -> int:
    (stats,) = request(Endpoint(url), "/v2/models/identity/stats").json()["model_stats"]
    return sum(batch["compute_infer"]["count"] for batch in stats["batch_stats"])


@pytest.fixture
def identity(make_server: Callable[..., object]) -> Iterator[object]:
    server = make_server()
    server.add("identity")
    server.start()
    control.load(server.endpoint, "identity")
    return server


def test_figures_are_right_after_known_requests(identity) -> None:
    watch = ServerWatch(Target("t", endpoint_of(identity)), SELDOM)
    times = [time.monotonic()]
    first = watch.poll()
    assert (first.live, first.ready, first.version, first.problem) == (True, True, "2.51.0", "")
    times.append(time.monotonic())
    infer(identity.endpoint.url, 20)
    times.append(time.monotonic())
    now = watch.poll()
    times.append(time.monotonic())
    (model,) = now.models
    assert (model.name, model.state, model.total_requests, model.total_failures) == (
        "identity", "READY", 20, 0,
    )  # fmt: skip
    assert (model.total_inferences, model.batch, model.pending) == (20, 1, 0)
    # Between the two answers were at least the requests, and at most both polls too.
    longest, shortest = times[3] - times[0], times[2] - times[1]
    assert 0.999 * 20 / longest < model.requests < 1.001 * 20 / shortest
    assert (
        model.latency
        and model.queue is not None
        and model.compute is not None
        and 0 < model.compute <= model.latency
    )
    assert dict(model.batches)[1] == 20
    watch.close()


@pytest.mark.usefixtures("patient")
def test_watching_does_not_hold_up_the_stop(identity) -> None:
    watch = ServerWatch(Target("t", endpoint_of(identity)), SELDOM)
    watch.poll()
    watch.poll()
    _, seconds = identity.stop()
    assert seconds < 40
    assert not watch.poll().live
    watch.close()


def test_a_killed_server_is_told_and_its_return_too(identity) -> None:
    watch = ServerWatch(Target("t", endpoint_of(identity)), SELDOM)
    infer(identity.endpoint.url, 3)
    watch.poll()
    identity.kill()
    away = watch.poll()
    assert (away.live, away.gap, away.requests) == (False, True, None)
    assert "nothing listens" in away.problem
    identity.start()
    control.load(identity.endpoint, "identity")
    back = watch.poll()
    assert back.live and back.gap and back.requests is None
    infer(identity.endpoint.url, 5)
    after = watch.poll()
    assert not after.gap and after.models[0].total_requests == 5 and after.requests > 0
    watch.close()


def test_without_its_token_a_server_says_so_and_the_metrics_still_tell(identity) -> None:
    watch = ServerWatch(Target("t", endpoint_of(identity, token=False)))
    infer(identity.endpoint.url, 4)
    seen = watch.poll()
    assert seen.live and "needs a token" in seen.problem
    assert seen.models[0].total_requests == 4
    watch.close()


@pytest.mark.parametrize("path", ["lines", "garbage", "endless", "trickle"])
def test_a_hostile_metrics_address_costs_only_its_own_figures(identity, path: str) -> None:
    import subprocess
    import sys

    program = Path(__file__).parents[1] / "assets" / "metrics_server.py"
    hostile = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    try:
        assert hostile.stdout is not None
        url = f"http://127.0.0.1:{hostile.stdout.readline().strip()}/{path}"
        base = identity.endpoint
        watch = ServerWatch(
            Target("t", Endpoint(base.url, metrics_url=url, token_file=base.token_file))
        )
        begun = time.monotonic()
        watch.poll()
        infer(base.url, 7)
        seen = watch.poll()
        assert time.monotonic() - begun < 30  # the body has no end
        assert seen.live and seen.problem and seen.models[0].total_requests == 7
        assert seen.pending is None
        watch.close()
    finally:
        hostile.kill()
        hostile.wait()


def test_a_full_disk_ends_the_recording_in_words_and_nothing_else(tmp_path: Path) -> None:
    from tests.unit.test_recording import reading

    with small_disk(tmp_path / "disk") as disk:
        into = ViewRecorder(disk / "r", "full")
        into.add(reading(0))
        assert into.problem == ""
        fill(disk)
        for number in range(1, 200):
            into.add(reading(number, gpus=8))
            if into.problem:
                break
        assert "full" in into.problem
        into.close()


def test_grpc_alone_tells_the_same(identity) -> None:
    base = identity.endpoint
    grpc = Endpoint(f"grpc://127.0.0.1:{identity.ports[1]}", token_file=base.token_file)
    watch = ServerWatch(Target("t", grpc), SELDOM)
    watch.poll()
    infer(base.url, 6)
    seen: ServerReading = watch.poll()
    assert (seen.live, seen.ready, seen.problem, seen.version) == (True, True, "", "2.51.0")
    assert seen.models[0].total_requests == 6 and seen.models[0].state == "READY"
    watch.close()


# ---------------------------------------------------------------------------- attaching


def test_an_attached_server_is_saved_privately_and_shown_live(identity, settings: Settings) -> None:
    desk = Desk(settings)
    endpoint = endpoint_of(identity)
    desk.attach(
        AttachedServer(
            name="other",
            url=endpoint.url,
            metrics_url=endpoint.metrics_url,
            token_file=str(endpoint.token_file),
        )
    )
    file = settings.folders.config / "servers.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert endpoint.token_file.read_text() not in file.read_text()
    source = desk.monitor(0.25)
    try:
        until(lambda: any(s.live for s in source.snapshot().servers))
        infer(endpoint.url, 8)
        until(lambda: "server/other/requests" in source.series())
        until(lambda: (source.history("server/other/requests", 60, 60).largest or 0) > 0)
        (seen,) = source.snapshot().servers
        assert (seen.name, seen.ours) == ("other", False)
    finally:
        source.close()
    with pytest.raises(Refused, match="only watched"):
        desk.unload_model(endpoint, "identity")
    assert desk.health(endpoint).models[0].ready
    desk.detach("other")
    assert desk.attached() == ()


def test_an_operators_comments_survive(settings: Settings) -> None:
    desk = Desk(settings)
    file = settings.folders.config / "servers.toml"
    file.parent.mkdir(parents=True)
    file.write_text('# the lab\'s servers\n[lab]  # third floor\nurl = "http://lab:8000"\n')
    desk.attach(AttachedServer(name="two", url="https://two:8443", token_env="TOKEN_OF_TWO"))
    assert "# the lab's servers" in file.read_text() and "# third floor" in file.read_text()
    assert [s.name for s in desk.attached()] == ["lab", "two"]
    assert desk.attached()[0].endpoint.metrics_url == "http://lab:8002"


@pytest.mark.parametrize("url", ["ftp://h:1", "http://u:p@h:1", "http://", "http://h:99999"])
def test_a_wrong_address_is_refused(settings: Settings, url: str) -> None:
    with pytest.raises(UsageError):
        Desk(settings).attach(AttachedServer(name="x", url=url))


# ---------------------------------------------------------------------------- services of ours


def test_a_service_is_recorded_from_start_to_stop(settings: Settings, tmp_path: Path) -> None:
    store = ServiceStore(settings)
    view = live(store, store.start(spec(), values(tmp_path), "digits"))
    try:
        file = view.folder / FILE
        until(lambda: _live_samples(file) > 0)
    finally:
        Desk(settings).stop("digits")
    until(lambda: not (view.folder / f"{FILE}-wal").exists())
    past = Replay(file)
    texts = [mark.text for mark in _all_marks(past)]
    past.close()
    assert any(text.startswith("stopped") for text in texts), texts


def _live_samples(file: Path) -> int:
    if not file.is_file():
        return 0
    try:
        past = Replay(file)
    except UsageError:
        return 0
    try:
        return sum(server.live for v in past.views() for server in v.servers)
    finally:
        past.close()


def _all_marks(past: Replay):
    past.seek(None)
    return past._all_marks


def test_an_incident_holds_what_is_needed_and_no_secret(settings: Settings, tmp_path: Path) -> None:
    store = ServiceStore(settings)
    view = live(store, store.start(spec(), values(tmp_path), "digits"))
    token = view.endpoint.token_file.read_text()
    try:
        with view.log.open("a") as log:
            log.write(f"\x1b[31mtoken={token} hf_{'a' * 30}\n")
        until(lambda: _live_samples(view.folder / FILE) > 0)
        made = Desk(settings).incident("digits", tmp_path / "i.zip")
    finally:
        Desk(settings).stop("digits")
    assert stat.S_IMODE(made.file.stat().st_mode) == 0o600
    names, every = unpacked(made.file)
    assert {"versions.json", "actions.txt", "left-out.txt", f"{view.id}/server.log"} <= names
    assert f"{view.id}/{FILE}" in names
    assert token.encode() not in every and b"hf_aaaa" not in every and b"\x1b" not in every
    assert any("a secret" in line for line in made.left_out)


def unpacked(file: Path) -> tuple[set[str], bytes]:
    """The names in an incident's zip, and all of its texts."""
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        return names, b"".join(
            archive.read(name) for name in names if name.rpartition("/")[2] != FILE
        )


def test_an_incident_of_a_run_holds_its_plan_and_its_logs(
    settings: Settings, tmp_path: Path
) -> None:
    said = f"print('\\x1b[31mout of memory, hf_{'b' * 30}'); raise SystemExit(3)"
    command = Command(argv=(sys.executable, "-c", said))
    step = CommandStep(id="export", title="Export", command=command, success=(ExitCode(),))
    store = RunStore(settings)
    run = store.create(Plan(deployment="digits", backend="onnx", steps=(step,)), "")
    store.start(run)
    until(lambda: (store.folder / run / "end.json").exists())
    names, every = unpacked(Desk(settings).incident(run, tmp_path / "run.zip").file)
    wanted = {"run.json", "plan.json", "end.json", "journal.jsonl", "logs/export.log"}
    assert {f"{run}/{name}" for name in wanted} <= names
    assert b"out of memory" in every and b"hf_bbbb" not in every and b"\x1b" not in every


# ---------------------------------------------------------------------------- without a screen


def test_the_prometheus_text_is_served_on_the_loopback(settings: Settings) -> None:
    from console.triton.metrics import parse
    from console.verbs.exposition import serve

    source = Desk(settings).monitor(0.25)
    try:
        until(lambda: source.snapshot().reading is not None)
        with serve(source, 0) as port:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                body = answer.read()
            with pytest.raises(Refused):
                serve(source, port).__enter__()
    finally:
        source.close()
    assert parse(body).total("tritondeck_host_memory") > 1 << 20


def test_monitor_prints_records_and_replays_the_same(tmp_path: Path) -> None:
    from tests.support import Operator

    person = Operator(tmp_path)
    file = str(tmp_path / "r.sqlite")
    lines = person.does(
        "monitor", "--json", "--interval", "0.25", "--count", "4", "--record", file
    ).splitlines()
    shown = [json.loads(line)["monitor"]["reading"]["time"] for line in lines]
    again = person.does("monitor", "--json", "--replay", file).splitlines()
    back = [json.loads(line)["monitor"]["reading"]["time"] for line in again]
    assert back[:4] == [round(t, 3) for t in shown]
    csv = person.does("monitor", "--csv", "--replay", file).splitlines()
    assert csv[0].startswith("time,host/cpu") and len(csv) == len(back) + 1
    assert "memory" in person.does("monitor", "--once")
    person.does("monitor", "--replay", "nothing", "--once", code=2)
