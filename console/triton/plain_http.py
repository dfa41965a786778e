"""One HTTP request to an endpoint, with the care that a monitor needs.

Triton waits for idle keep-alive connections when it stops (up to ``--exit-timeout-secs``), so every
request says ``Connection: close``. `http.client` follows no redirects and uses no proxy; bodies are
capped, and `timeout` is a deadline for the whole exchange, not for each read.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from console.facts import DeckError, Endpoint, UsageError
from console.text import clean, redact

if TYPE_CHECKING:
    # Imported with the first request: 3 MB that a console which asks no server need not hold.
    import http.client
    import ssl

BODY_CAP = 8 * 1024 * 1024
"""Bytes of an answer that are read; metadata and indexes are far below."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. `body` is never longer than the cap of its request."""

    status: int
    reason: str
    body: bytes

    @property
    def ok(self) -> bool:
        return self.status == 200

    def json(self) -> Any:
        """The body as JSON; `DeckError` when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise DeckError(
                "the server's answer is not JSON",
                why=clean(str(error)),
                raw=clean(self.body[:2000].decode(errors="replace"), multiline=True),
            ) from error

    @property
    def words(self) -> str:
        """What the server says in its body: the ``error`` member, or the text itself; cleaned."""
        text = self.body.decode(errors="replace")
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            told = None
        if isinstance(told, dict) and "error" in told:
            text = str(told["error"])
        return redact(clean(text.strip(), multiline=True))


class NoAnswer(DeckError):
    """Nothing (or not the whole answer) came back."""


class Late(NoAnswer):
    """Time ran out first: whoever is asked hangs, or one of the two machines is busy."""


def model_path(model: str, version: str = "") -> str:
    """``/v2/models/M[/versions/V]`` with the names quoted."""
    path = "/v2/models/" + quote(model, safe="")
    return path + ("/versions/" + quote(version, safe="") if version else "")


def token_headers(endpoint: Endpoint) -> dict[str, str]:
    """The token's header where the endpoint has a token that can be read, else nothing."""
    if endpoint.token_env:
        return _header(endpoint, _token_of(endpoint.token_env))
    if endpoint.token_file is None:
        return {}
    try:
        token = endpoint.token_file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        if endpoint.ours:
            return {}  # it is removed when the server has ended, which the request will tell
        raise UsageError(
            f"there is no token file {clean(str(endpoint.token_file))}",
            fix="correct server.token_file",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read the token file {clean(str(endpoint.token_file))}",
            why=clean(str(error)),
            fix="the token belongs to the user who started the server",
        ) from error
    return _header(endpoint, token)


def _header(endpoint: Endpoint, token: str) -> dict[str, str]:
    """The token in its header; a key of an OpenAI-type server is a bearer's."""
    bare = endpoint.token_header.lower() == "authorization" and " " not in token
    return {endpoint.token_header: f"Bearer {token}" if bare else token}


def _token_of(variable: str) -> str:
    try:
        return os.environ[variable]
    except KeyError:
        raise UsageError(
            f"the variable {clean(variable)}, which should hold the token, is not set",
            fix="export it where tritondeck is started, or name a token file",
        ) from None


def tls(endpoint: Endpoint) -> ssl.SSLContext:
    """What an https endpoint's certificate is checked against; `UsageError` for a bad CA file."""
    import ssl

    if endpoint.ca_file is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=str(endpoint.ca_file))
    except OSError as error:  # a file that holds no certificate is an SSLError, which is one
        raise UsageError(
            f"the CA file {clean(str(endpoint.ca_file))} cannot be used",
            why=clean(error.strerror or str(error)),
            fix="give a file of PEM certificates as server.ca_file",
        ) from error


def request(
    endpoint: Endpoint,
    path: str,
    *,
    method: str = "GET",
    payload: Mapping[str, Any] | None = None,
    token: bool = False,
    timeout: float = 5.0,
    cap: int = BODY_CAP,
) -> Response:
    """Send one request and read the whole answer within `timeout` seconds.

    `payload` is sent as JSON; `token` sends the endpoint's token header,
    which a server of somebody else's always gets. Raises `NoAnswer` when
    nothing listens, time runs out or the answer is cut or larger than `cap` bytes; `UsageError`
    when the URL or the token file is wrong.
    """
    import http.client

    connection = _connection(endpoint, timeout)
    # What guards somebody else's server may want the token for everything.
    wanted = token or not endpoint.ours or bool(endpoint.token_env)
    headers = {"Connection": "close", **(token_headers(endpoint) if wanted else {})}
    body = None
    if payload is not None:
        body = json.dumps(payload).encode()
        headers["Content-Type"] = "application/json"
    late = threading.Event()

    def give_up() -> None:
        late.set()
        if connection.sock is not None:
            # Wakes a read that a trickle of bytes would keep alive beyond the deadline.
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has just ended by itself

    timer = threading.Timer(timeout, give_up)
    timer.daemon = True
    timer.start()
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read(cap + 1)
    except (OSError, http.client.HTTPException) as error:
        raise no_answer(endpoint.url, error, timeout, late.is_set()) from error
    finally:
        timer.cancel()
        connection.close()
    # An answer that came whole is one, also when this thread got its turn only after the time.
    if late.is_set() and not (answer.length == 0 or (answer.chunked and answer.isclosed())):
        raise no_answer(endpoint.url, TimeoutError(), timeout, True)
    if len(content) > cap:
        raise NoAnswer(f"{clean(endpoint.url)} sent more than {cap} bytes", why="not read further")
    return Response(answer.status, clean(answer.reason), content)


def _connection(endpoint: Endpoint, timeout: float) -> http.client.HTTPConnection:
    import http.client

    url = endpoint.url
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    known = parts.scheme in ("http", "https")
    if not known or not parts.hostname or port == -1 or parts.path.strip("/"):
        raise UsageError(
            f"{clean(redact(url))} is not a server address",
            fix="write it as http://HOST:PORT",
        )
    if parts.scheme == "https":
        return http.client.HTTPSConnection(
            parts.hostname, port, timeout=timeout, context=tls(endpoint)
        )
    return http.client.HTTPConnection(parts.hostname, port, timeout=timeout)


def no_answer(url: str, error: Exception, timeout: float, late: bool) -> NoAnswer:
    """The error of a request, in words."""
    import http.client
    import ssl

    where = clean(redact(url))
    if late or isinstance(error, TimeoutError):
        return Late(f"no answer from {where} within {timeout:g} s")
    if isinstance(error, ssl.SSLCertVerificationError):
        return NoAnswer(
            f"the certificate of {where} is not trusted",
            why=clean(error.verify_message),
            fix="give the file of the certificates that signed it as server.ca_file",
        )
    if isinstance(error, ConnectionRefusedError):
        return NoAnswer(f"nothing listens at {where}", why="the connection was refused")
    if isinstance(error, socket.gaierror):
        return NoAnswer(f"no such host: {where}", why=clean(str(error)))
    if isinstance(error, ConnectionResetError | http.client.RemoteDisconnected | BrokenPipeError):
        return NoAnswer(f"{where} closed the connection without an answer")
    if isinstance(error, http.client.HTTPException):
        return NoAnswer(f"{where} does not speak HTTP", why=clean(repr(error)))
    return NoAnswer(f"cannot reach {where}", why=clean(str(error)))


def refusal(response: Response, doing: str) -> DeckError | None:
    """The error for an answer that every endpoint may give: 403, a redirect; None for others."""
    if response.status == 403:
        return DeckError(
            f"the server refused {doing} without its token",
            why=response.words,
            fix="use the token of the launch (its token file), or the console that started it",
            raw=response.words,
        )
    if 300 <= response.status < 400:
        return DeckError(
            f"the server redirects {doing} elsewhere; redirects are not followed",
            why=f"HTTP {response.status}",
            fix="give the address of the Triton server itself",
        )
    return None
