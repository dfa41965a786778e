"""The embedded server as it really behaves: start, states, load, stop, what it listens on."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from pathlib import Path

import pytest

from console.facts import DeckError, Endpoint, UsageError
from console.triton import control, health
from console.triton.plain_http import NoAnswer, request

pytestmark = pytest.mark.integration


def test_a_live_server_without_models_is_not_yet_serving_any(serving):
    told = health.probe(serving.endpoint)
    assert (told.live, told.version, told.problem) == (True, "2.51.0", "")
    assert {m.name for m in told.models} == {"identity", "broken_initialize", "slow"}


def test_a_model_is_ready_only_after_its_load(make_server):
    server = make_server()
    server.add("identity")
    server.start()
    before = health.probe(server.endpoint)
    assert (before.ready, [(m.state, m.ready) for m in before.models]) == (True, [("", False)])
    control.load(server.endpoint, "identity")
    after = health.probe(server.endpoint)
    assert [(m.state, m.ready, m.version) for m in after.models] == [("READY", True, "1")]
    control.unload(server.endpoint, "identity")
    gone = health.probe(server.endpoint)
    assert [(m.state, m.reason, m.ready) for m in gone.models] == [
        ("UNAVAILABLE", "unloaded", False)
    ]


def test_a_failed_load_tells_the_servers_own_reason(make_server):
    server = make_server()
    server.add("broken_initialize")
    server.start()
    with pytest.raises(DeckError) as caught:
        control.load(server.endpoint, "broken_initialize")
    assert "RuntimeError: weights not found: encoder.onnx" in str(caught.value)
    assert "initialize" in caught.value.raw
    told = health.probe(server.endpoint)
    assert (told.live, told.ready) == (True, False)
    assert "weights not found" in told.models[0].reason


def test_a_model_without_its_file_ends_at_the_time_limit(make_server):
    server = make_server()
    server.add("identity")
    (server.repository / "identity" / "1" / "model.py").unlink()
    server.start()
    started = time.monotonic()
    with pytest.raises(DeckError, match="not loaded within 3") as caught:
        control.load(server.endpoint, "identity", timeout=3)
    assert time.monotonic() - started < 30  # the load itself has no end
    assert "LOADING" in caught.value.why


def test_a_configuration_that_does_not_parse_points_to_the_log(make_server):
    server = make_server()
    server.add("identity")
    (server.repository / "identity" / "config.pbtxt").write_text('max_batchsize: 3\nname: "x"')
    server.start()
    with pytest.raises(DeckError, match="only in its log"):
        control.load(server.endpoint, "identity")
    assert "max_batchsize" in server.log.read_text()


def test_the_token_opens_what_is_restricted_and_nothing_else_needs_it(serving):
    index = "/v2/repository/index"
    closed = request(serving.without_token, index, method="POST", payload={})
    opened = request(serving.endpoint, index, method="POST", payload={}, token=True)
    assert (closed.status, opened.status) == (403, 200)
    assert request(serving.without_token, "/v2/models/stats").status == 200
    told = health.probe(serving.without_token)
    assert told.live
    assert "without its token" in told.problem
    with pytest.raises(DeckError, match="without its token"):
        control.load(serving.without_token, "identity")


def test_every_restricted_group_answers_403(serving):
    for method, path in (
        ("GET", "/v2/logging"),
        ("GET", "/v2/trace/setting"),
        ("GET", "/v2/systemsharedmemory/status"),
    ):
        assert request(serving.without_token, path, method=method).status == 403, path
        assert request(serving.endpoint, path, method=method, token=True).status == 200, path


def test_all_three_ports_listen_on_loopback_alone(serving):
    listening = {port: address for port, address in _listeners() if port in serving.ports}
    assert listening == dict.fromkeys(serving.ports, "127.0.0.1")


def _listeners() -> list[tuple[int, str]]:
    """Port and address of every listening TCP socket here."""
    found = []
    for file in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(file).read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            if state != "0A":
                continue
            address, port = local.split(":")
            words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
            raw = b"".join(words)
            if len(raw) == 16 and raw.startswith(bytes(10) + b"\xff\xff"):
                raw = raw[12:]  # an IPv4 address on a socket of both families
            family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
            found.append((int(port, 16), socket.inet_ntop(family, raw)))
    return found


@pytest.mark.usefixtures("patient")
def test_an_idle_server_waits_for_no_connection_of_ours_and_leaves_nothing(make_server):
    server = make_server()
    server.add("identity")
    server.start()
    control.load(server.endpoint, "identity")
    health.probe(server.endpoint)
    assert server.regions(), "the server's regions bear our prefix"
    status, seconds = server.stop()
    assert (status, seconds < 40) == (0, True), (status, seconds)
    assert (server.members(), server.regions()) == ([], [])


def test_a_foreign_keep_alive_connection_does_not_hold_up_the_stop_for_long(make_server):
    server = make_server().start()
    browser = http.client.HTTPConnection("127.0.0.1", server.ports[0])
    browser.request("GET", "/v2")
    browser.getresponse().read()
    _, seconds = server.stop()
    browser.close()
    assert seconds < 25  # Triton's own default is 30


@pytest.mark.parametrize(("position", "name"), [(0, "HTTP"), (1, "GRPC")])
def test_a_taken_port_ends_the_start_and_the_log_says_which(make_server, position, name):
    server = make_server()
    with socket.create_server(("127.0.0.1", server.ports[position])):
        process = server.spawn()
        assert process.wait(120) == 1
    log = server.log.read_text()
    assert f"failed to start {name} service" in log
    assert str(server.ports[position]) in log


def test_unloading_an_unknown_model_is_refused_in_words(serving):
    with pytest.raises(UsageError, match="no model ghost"):
        control.unload(serving.endpoint, "ghost")


def test_nothing_listening_is_said_in_words(make_server):
    server = make_server()
    server.token_file.write_text("unused")
    told = health.probe(server.endpoint)
    assert not told.live
    assert "refused" in told.problem
    with pytest.raises(NoAnswer):
        control.load(server.endpoint, "identity")


def test_a_server_that_trickles_is_cut_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def trickle() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not done.wait(0.05):
                    try:
                        peer.sendall(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=trickle)
        thread.start()
        started = time.monotonic()
        with pytest.raises(NoAnswer, match="within 1 s"):
            request(Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}"), "/v2", timeout=1)
        assert time.monotonic() - started < 60  # the body takes more than an hour
        done.set()
        thread.join()


def test_an_unchanged_model_is_not_loaded_again(make_server):
    server = make_server()
    server.add("identity")
    (server.repository / "identity" / "1" / "__pycache__").touch()
    server.start()
    for _ in range(2):
        control.load(server.endpoint, "identity")
    lines = [line for line in server.log.read_text().splitlines() if "identity" in line]
    assert sum("loading: identity" in line for line in lines) == 1, lines
