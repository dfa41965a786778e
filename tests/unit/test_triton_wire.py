"""TLS and OpenAI-type servers, with real sockets."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from console.facts import Endpoint, UsageError
from console.triton.plain_http import NoAnswer
from console.triton.target import Target
from console.triton.watch import ServerWatch
from console.triton.wire import Wire

COUNT = {"requests": 0}


class Vllm(BaseHTTPRequestHandler):
    """Answers as vLLM's server does; wants a bearer token."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        COUNT["requests"] += 1
        if self.path != "/health" and self.headers.get("authorization") != "Bearer secret":
            return self._answer(401, b"no")
        bodies = {
            "/health": b"",
            "/v1/models": json.dumps({"data": [{"id": "tiny"}]}).encode(),
            "/version": b'{"version": "0.22.1"}',
            "/metrics": b'vllm:num_requests_running{m="tiny"} 3\n'
            b'vllm:generation_tokens_total{m="tiny"} %d\n' % (100 * COUNT["requests"]),
        }
        body = bodies.get(self.path)
        return self._answer(404 if body is None else 200, body or b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 that signs itself; its key beside it."""
    file = tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=t",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key.pem", "-out", file],
        check=True, capture_output=True,
    )  # fmt: skip
    return file


@pytest.fixture
def secure(certificate: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Vllm)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_certificate_is_trusted_by_its_file_alone(secure: str, certificate: Path) -> None:
    stranger = Wire(secure)
    stranger.begin()
    with pytest.raises(NoAnswer, match="no secure connection"):
        stranger.get("/health")
    trusting = Wire(secure, ca_file=certificate)
    for _ in range(2):
        trusting.begin()
        assert trusting.get("/health").status == 200
    trusting.close()


def test_a_ca_file_that_is_none_is_refused_in_words(secure: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="CA file"):
        Wire(secure, ca_file=tmp_path / "nothing.pem")
    seen = ServerWatch(Target("s", Endpoint(secure), tmp_path / "nothing.pem")).poll()
    assert not seen.live and "CA file" in seen.problem


def test_an_openai_server_tells_models_and_tokens(secure: str, certificate: Path) -> None:
    target = Target(
        "v",
        Endpoint(secure, kind="openai"),
        certificate,
        lambda: {"authorization": "Bearer secret"},
    )
    watch = ServerWatch(target, 60.0)  # however far apart the two polls are, they make a rate
    watch.poll()
    seen = watch.poll()
    assert (seen.live, seen.ready, seen.version, seen.problem) == (True, True, "0.22.1", "")
    assert [m.name for m in seen.models] == ["tiny"]
    assert seen.generation is not None
    assert seen.generation.running == 3 and (seen.generation.tokens or 0) > 0
    watch.close()


def test_without_its_token_it_is_live_and_says_what_is_missing(
    secure: str, certificate: Path
) -> None:
    watch = ServerWatch(Target("v", Endpoint(secure, kind="openai"), certificate))
    seen = watch.poll()
    assert seen.live and seen.generation is None and "HTTP 401" in seen.problem
    watch.close()
