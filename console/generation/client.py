"""Ask a server for text: OpenAI's two endpoints and Triton's generate extension, streamed or whole.

Standard library only: one request, one connection that is closed afterwards (Triton waits for idle
ones when it stops), no proxy, bounded answers. No redirect is followed but the one of servers whose
paths end in a slash (NeMo's and Ray's): the same request at the same server. A stream is read line by line as it
arrives.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

from console.facts import CancelCheck, DeckError, Endpoint, UsageError
from console.generation.answers import Heard, OnText, read_stream, read_whole, words
from console.prompts import Style, TextAnswer, TextRequest
from console.text import clean, redact
from console.triton.plain_http import NoAnswer, model_path, token_headers


def complete(
    endpoint: Endpoint,
    asked: TextRequest,
    *,
    timeout: float = 120.0,
    on_text: OnText | None = None,
    cancelled: CancelCheck | None = None,
) -> TextAnswer:
    """Send one request and read its answer; `timeout` is seconds for the whole exchange.

    With ``asked.stream`` the pieces go to `on_text` as they arrive; `cancelled` is asked between
    them, and what has come so far is returned with the finish reason ``cancelled``. Raises
    `NoAnswer` when nothing (or not all) came, `DeckError` with the server's own words when it
    refused.
    """
    heard = Heard(time.monotonic(), on_text, asked.never)
    where = path(asked)
    for place in (where, f"{where}/"):
        with _exchange(endpoint, place, body(asked), timeout) as (response, late):
            if place == where and _wants_slash(response, where):
                continue
            try:
                if response.status != 200:
                    raise _refused(endpoint, response)
                if "event-stream" in (response.headers.get("Content-Type") or ""):
                    read_stream(response, asked, heard, cancelled)
                else:
                    read_whole(response, asked, heard)
            except (OSError, http.client.HTTPException) as error:
                raise _broken(endpoint, error, timeout, late.is_set()) from error
            if late.is_set():
                raise _broken(endpoint, TimeoutError(), timeout, True)
        break
    heard.end()
    return TextAnswer(
        model=asked.model,
        text="".join(heard.pieces),
        finish_reason=heard.finish,
        prompt_tokens=heard.prompt_tokens,
        completion_tokens=heard.completion_tokens,
        latency=time.monotonic() - heard.started,
        first_text=heard.first if asked.stream else None,
    )


def _wants_slash(response: http.client.HTTPResponse, where: str) -> bool:
    """Whether the server has this path with a slash at its end; of the address that it names only
    the path counts, so nothing is sent anywhere else."""
    if response.status not in (307, 308):
        return False
    try:
        location = urlsplit(response.headers.get("Location") or "")
    except ValueError:  # no address: told as the refusal that it is
        return False
    return location.path == f"{where}/"


def path(asked: TextRequest) -> str:
    """Path of the request, for people to copy as well."""
    if asked.style is Style.CHAT:
        return "/v1/chat/completions"
    if asked.style is Style.COMPLETION:
        return "/v1/completions"
    return model_path(asked.model) + ("/generate_stream" if asked.stream else "/generate")


def body(asked: TextRequest) -> dict[str, Any]:
    """The request's JSON body."""
    if asked.style is Style.GENERATE:
        return _generate_body(asked)
    made: dict[str, Any] = {"model": asked.model}
    if asked.style is Style.CHAT:
        made["messages"] = [{"role": turn.role, "content": turn.text} for turn in asked.turns]
    else:
        made["prompt"] = asked.prompt
    made |= asked.sampling
    if asked.stream:
        made |= {"stream": True, "stream_options": {"include_usage": True}}
    return made | dict(asked.extra)


def _generate_body(asked: TextRequest) -> dict[str, Any]:
    names = asked.names
    made: dict[str, Any] = {names.prompt: asked.prompt}
    if names.stream:
        made[names.stream] = asked.stream
    if names.sampling:
        made[names.sampling] = json.dumps(asked.sampling)
    else:
        called = {"max_tokens": names.length}
        made |= {f"{names.prefix}{called.get(n, n)}": v for n, v in asked.sampling.items()}
    if names.without_prompt:
        made[names.without_prompt] = True
    return made | dict(asked.extra)


@contextmanager
def _exchange(
    endpoint: Endpoint, where: str, payload: dict[str, Any], timeout: float
) -> Iterator[tuple[http.client.HTTPResponse, threading.Event]]:
    """The response to one POST, its body unread; shut down when `timeout` seconds have passed."""
    connection = _connect(endpoint, timeout)
    late = threading.Event()

    def give_up() -> None:
        late.set()
        if connection.sock is not None:
            try:
                connection.sock.shutdown(2)
            except OSError:
                pass  # it has just ended by itself

    timer = threading.Timer(timeout, give_up)
    timer.daemon = True
    timer.start()
    headers = {
        "Connection": "close",
        "Content-Type": "application/json",
        "Accept": "text/event-stream, application/json",
        **_authority(endpoint),
    }
    with closing(connection):
        try:
            try:
                connection.request("POST", where, json.dumps(payload).encode(), headers)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise _broken(endpoint, error, timeout, late.is_set()) from error
            yield response, late
        finally:
            timer.cancel()


def _authority(endpoint: Endpoint) -> dict[str, str]:
    """The token's header; OpenAI-type servers take it as a bearer."""
    headers = token_headers(endpoint)
    if endpoint.kind == "openai":
        return {"Authorization": f"Bearer {next(iter(headers.values()))}"} if headers else {}
    return headers


def _connect(endpoint: Endpoint, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(endpoint.url if "://" in endpoint.url else f"http://{endpoint.url}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise UsageError(
            f"{clean(redact(endpoint.url))} is not a server address",
            fix="write it as http://HOST:PORT",
        )
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, port, timeout=timeout)
    ca_file = getattr(endpoint, "ca_file", None)
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    return http.client.HTTPSConnection(parts.hostname, port, timeout=timeout, context=context)


def _refused(endpoint: Endpoint, response: http.client.HTTPResponse) -> DeckError:
    told = words(response.read(64 << 10))
    return DeckError(
        f"{clean(redact(endpoint.url))} refused the request (HTTP {response.status})",
        why=told[:500],
        raw=told,
    )


def _broken(endpoint: Endpoint, error: Exception, timeout: float, late: bool) -> DeckError:
    where = clean(redact(endpoint.url))
    if late or isinstance(error, TimeoutError):
        return NoAnswer(f"no whole answer from {where} within {timeout:g} s")
    if isinstance(error, ConnectionRefusedError):
        return NoAnswer(f"nothing listens at {where}", why="the connection was refused")
    return NoAnswer(f"{where} broke off", why=clean(str(error)) or type(error).__name__)
