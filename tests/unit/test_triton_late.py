"""Time that ran out: what it says of a server, and what it does not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from console.facts import Endpoint
from console.triton import health, plain_http
from console.triton.health import ServerHealth
from console.triton.plain_http import Late, NoAnswer
from console.triton.statistics import Told
from console.triton.target import Target
from console.triton.watch import MetricsAddress, ServerWatch

LATE = Told(problem="no answer within 2 s", late=True)
REFUSED = Told(problem="nothing listens")
WELL = Told(live=True, ready=True)


class Asker:
    """Tells one thing after the other."""

    def __init__(self, *told: Told) -> None:
        self.told = list(told)

    def ask(self) -> Told:
        return self.told.pop(0)

    def close(self) -> None:
        """It has nothing open."""


def polled(*told: Told, polls: int) -> tuple[list[bool], int]:
    """Whether it lived at each poll of a server that tells this, and how often it was not asked."""
    watch = ServerWatch(Target("digits", Endpoint("http://127.0.0.1:9")))
    watch._asker = asker = Asker(*told)
    return [watch.poll().live for _ in range(polls)], len(asker.told)


def test_a_server_that_answered_is_asked_again_before_it_is_said_not_to() -> None:
    assert polled(WELL, LATE, WELL, polls=2) == ([True, True], 0)


def test_one_that_hangs_is_asked_once_a_poll() -> None:
    assert polled(LATE, LATE, LATE, LATE, WELL, polls=4) == ([False, False, False, True], 0)


def test_one_that_refuses_is_believed_at_once() -> None:
    assert polled(REFUSED, WELL, polls=1) == ([False], 1)


class Pieces:
    """In the place of a wire: each body is text, or how it failed."""

    def __init__(self, *bodies: bytes | NoAnswer) -> None:
        self.bodies = list(bodies)

    def begin(self) -> None:
        """Its time never ends."""

    def pieces(self, path: str) -> Iterator[bytes]:
        body = self.bodies.pop(0)
        if isinstance(body, NoAnswer):
            raise body
        yield body

    def close(self) -> None:
        """It has nothing open."""


def metrics(*bodies: bytes | NoAnswer) -> tuple[MetricsAddress, Pieces]:
    wire: Any = Pieces(*bodies)
    return MetricsAddress(wire, "/metrics", ("nv_inference_count",)), wire


def test_metrics_that_were_late_once_are_read_at_the_next_poll() -> None:
    address, _ = metrics(Late("no answer within 2 s"), b"nv_inference_count 3\n")
    assert address.read() is None
    assert address.problem == "no answer within 2 s"
    found = address.read()
    assert found is not None
    assert (found.total("nv_inference_count"), address.problem) == (3, "")


@pytest.mark.parametrize(
    "failures", [[Late("late"), Late("late")], [NoAnswer("nothing listens")]], ids=["late", "gone"]
)
def test_metrics_that_are_late_again_or_refused_are_left_alone(failures: list[NoAnswer]) -> None:
    address, wire = metrics(*failures, b"nv_inference_count 3\n")
    assert [address.read() for _ in range(len(failures) + 1)] == [None] * (len(failures) + 1)
    assert len(wire.bodies) == 1


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            if self.path == "/chunked":
                self.send_header("Transfer-Encoding", "chunked")
            elif self.path == "/cut":
                self.send_header("Content-Length", "100")
            elif self.path == "/whole":
                self.send_header("Content-Length", "3")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"3\r\nyes\r\n0\r\n\r\n" if self.path == "/chunked" else b"yes")
            self.close_connection = True

        def log_message(self, *words: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks gets its turn when the answer is there and the time is over."""

    class Timer:
        daemon = True

        def __init__(self, seconds: float, give_up: Callable[[], None]) -> None:
            self.cancel = give_up

        def start(self) -> None:
            """It goes off at the end."""

    monkeypatch.setattr(threading, "Timer", Timer)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("path", ["/whole", "/chunked"])
def test_an_answer_that_came_whole_is_one_however_late_it_is_read(server: str, path: str) -> None:
    assert plain_http.request(Endpoint(server), path).body == b"yes"


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("path", ["/cut", "/endless"])
def test_an_answer_that_may_not_be_whole_when_the_time_is_over_is_none(
    server: str, path: str
) -> None:
    with pytest.raises(Late, match="within 5 s"):
        plain_http.request(Endpoint(server), path)


def test_a_server_that_lives_when_the_time_is_over_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine stands still in the first look, for longer than the time."""
    times, looks = iter((0.0, 0.0, 100.0)), iter((False, True))
    clock = SimpleNamespace(monotonic=lambda: next(times), sleep=lambda seconds: None)
    monkeypatch.setattr(health, "time", clock)
    monkeypatch.setattr(health, "probe", lambda *asked: ServerHealth(next(looks), False, ()))
    assert health.wait_live(Endpoint("http://127.0.0.1:9"), 60).live
