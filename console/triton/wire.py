"""HTTP for those who ask the same server again and again: kept connections, whole-answer deadlines.

`plain_http.request` makes a connection and a timer for each request; a monitor would pay both many
times a second. Here a deadline holds for everything between two `begin`s, each read gets what is left
of it, and a connection may be kept. It must not be kept to Triton's HTTP port between polls: Triton
waits for idle connections when it stops. Its metrics port and OpenAI-type servers do not mind.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from console.facts import DeckError, UsageError
from console.text import clean, human_bytes, redact
from console.triton.plain_http import BODY_CAP, NoAnswer, Response, no_answer

PIECE = 64 << 10


class _Socket(socket.socket):
    """A socket whose reads end at a moment, however slowly bytes trickle."""

    until = 0.0

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        self.settimeout(_left(self.until))
        return super().recv_into(*arguments, **named)


class _TlsSocket(ssl.SSLSocket):
    until = 0.0

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        self.settimeout(_left(self.until))
        return super().recv_into(*arguments, **named)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Verifies the server's name and chain, by the system's authorities or those of a PEM file."""
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"cannot use the CA file {clean(str(ca_file))}",
            why=clean(error.strerror or str(error)),
            fix="give a PEM file with the authority's certificate",
        ) from error
    context.sslsocket_class = _TlsSocket
    return context


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(host, port)
        self.tls = tls
        self.until = 0.0

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), timeout=_left(self.until))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made: _Socket | _TlsSocket = _Socket(fileno=plain.detach())
        made.settimeout(_left(self.until))
        if self.tls is not None:
            try:
                made = self.tls.wrap_socket(made, server_hostname=self.host)  # type: ignore[assignment]
            # Also for a cancel or ctrl+c: nobody else has the socket yet, which would stay open.
            except BaseException:
                made.close()
                raise
        made.until = self.until
        self.sock = made

    def renew(self) -> None:
        """Give a kept connection the time of this poll."""
        if isinstance(self.sock, _Socket | _TlsSocket):
            self.sock.settimeout(_left(self.until))
            self.sock.until = self.until


class Wire:
    """Requests to one origin. Not for two threads at once."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 2.0,
    ) -> None:
        """`headers` go to this origin only: redirects are not followed and no proxy is used."""
        self.url = url
        self.timeout = timeout
        self.headers = dict(headers or {})
        parts = _parts(url)
        tls = tls_context(ca_file) if parts.scheme == "https" else None
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._connection = _Connection(str(parts.hostname), port, tls)

    def begin(self) -> None:
        """Everything until the next `begin` shares one `timeout`."""
        self._connection.until = time.monotonic() + self.timeout

    def get(self, path: str, *, cap: int = BODY_CAP) -> Response:
        """The whole answer to a GET; raises `NoAnswer`."""
        return self.ask("GET", path, cap=cap)

    def ask(
        self,
        method: str,
        path: str,
        payload: Any = None,
        *,
        last: bool = False,
        cap: int = BODY_CAP,
    ) -> Response:
        """One request. `last` closes the connection with it. Raises `NoAnswer`."""
        try:
            answer = self._answer(method, path, payload, last)
            content = answer.read(cap + 1)
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(error) from error
        if len(content) > cap:
            self.close()
            raise NoAnswer(
                f"{clean(redact(self.url))} sent more than {human_bytes(cap)}",
                why="not read further",
            )
        if last:
            self.close()
        return Response(answer.status, clean(answer.reason), content)

    def pieces(self, path: str) -> Generator[bytes, None, None]:
        """The body of a GET as it comes; raises `NoAnswer`, also for a status other than 200."""
        try:
            answer = self._answer("GET", path, None, False)
            if answer.status != 200:
                answer.read(BODY_CAP)
                self.close()
                raise NoAnswer(f"{path} answered HTTP {answer.status}")
            while data := answer.read1(PIECE):
                yield data
            answer.close()  # `read1` leaves it open, and the connection could not be used again
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(error) from error
        except GeneratorExit:
            self.close()  # the rest of a body that nobody wants is not read
            raise

    def _answer(self, method: str, path: str, payload: Any, last: bool) -> http.client.HTTPResponse:
        connection = self._connection
        headers = {**self.headers, **({"Connection": "close"} if last else {})}
        body = None
        if payload is not None:
            body = json.dumps(payload).encode()
            headers["Content-Type"] = "application/json"
        kept = connection.sock is not None
        try:
            return self._once(method, path, body, headers)
        except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
            # The server closed a kept connection meanwhile; only then is asking again right.
            if not kept:
                raise
            connection.close()
            return self._once(method, path, body, headers)

    def _once(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        connection = self._connection
        connection.renew()
        connection.request(method, path, body=body, headers=dict(headers))
        return connection.getresponse()

    def _failed(self, error: Exception) -> DeckError:
        self.close()
        if isinstance(error, ssl.SSLError):
            return NoAnswer(
                f"no secure connection to {clean(redact(self.url))}",
                why=clean(getattr(error, "verify_message", "") or str(error)),
                fix="name the authority's certificate with --ca-file",
            )
        late = isinstance(error, TimeoutError)
        return no_answer(self.url, error, self.timeout, late)

    def close(self) -> None:
        self._connection.close()


def _parts(url: str) -> Any:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_right:
        raise UsageError(
            f"{clean(redact(url))} is not a server address", fix="write it as http://HOST:PORT"
        )
    return parts
