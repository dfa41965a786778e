"""Load and unload models through Triton's model-repository API (explicit control mode)."""

from __future__ import annotations

import time
from urllib.parse import quote

from console.facts import DeckError, Endpoint, Refused, UsageError
from console.text import clean, human_seconds
from console.triton import health, logs
from console.triton.plain_http import Late, Response, refusal, request

REASON_IN_LOG = "failed to poll from model repository"
"""The server gives this answer for every fault of a configuration; the fault is only in its log."""


class LoadHangs(DeckError):
    """A load did not return in time; the server may never answer it, and cannot be asked to stop."""


def load(endpoint: Endpoint, model: str, timeout: float = 120.0) -> None:
    """Load `model` and wait until the server has done so (its load call is synchronous).

    Raises `DeckError` with the server's own reason, or `LoadHangs` after `timeout` seconds: some loads never
    return (a Python model without ``1/model.py``, a missing libpython).
    """
    shown = clean(model)
    _managed(endpoint, "load")
    try:
        response = request(
            endpoint, _path(model, "load"), method="POST", payload={}, token=True, timeout=timeout
        )
    except Late as error:
        raise LoadHangs(
            f"model {shown} was not loaded within {human_seconds(timeout)}",
            why=_state_words(endpoint, model),
            fix="see that 1/model.py exists and reads its weights in time, or raise the load time "
            "limit for large models; a retry restarts the server: a hanging load is not cancelled",
        ) from error
    if not response.ok:
        raise _failure(response, shown, "load")


def unload(endpoint: Endpoint, model: str, timeout: float = 30.0) -> None:
    """Unload `model` and wait until the index says so (the server answers before it is done).

    Raises `UsageError` for a model that the server does not know (it would answer 200), and
    `DeckError` when the model is still there after `timeout` seconds.
    """
    shown = clean(model)
    _managed(endpoint, "unload")
    deadline = time.monotonic() + timeout
    if not any(entry.name == shown for entry in _index(endpoint)):
        raise UsageError(f"the server has no model {shown}", fix="list its models first")
    response = request(
        endpoint, _path(model, "unload"), method="POST", payload={}, token=True, timeout=timeout
    )
    if not response.ok:
        raise _failure(response, shown, "unload")
    while True:
        over = time.monotonic() >= deadline  # before the last look, which comes after it
        states = {entry.state for entry in _index(endpoint) if entry.name == shown}
        if states <= {"", "UNAVAILABLE"}:
            return
        if over:
            raise DeckError(
                f"model {shown} was not unloaded within {human_seconds(timeout)}",
                why=f"the server says {', '.join(sorted(states))}: requests may still be running",
                fix="wait for its requests to end, or stop the server",
            )
        time.sleep(0.05)


def _index(endpoint: Endpoint) -> tuple[health.ModelState, ...]:
    entries, problem = health.index(endpoint)
    if problem:
        raise DeckError("cannot read the server's list of models", why=problem)
    return entries


def _managed(endpoint: Endpoint, verb: str) -> None:
    if not endpoint.manage:
        raise Refused(
            f"no model is {verb}ed at {clean(endpoint.url)}",
            why="the server is somebody else's, and is only observed",
            fix="set manage = true in [server] to change what it serves",
        )


def _path(model: str, verb: str) -> str:
    return f"/v2/repository/models/{quote(model, safe='')}/{verb}"


def _state_words(endpoint: Endpoint, model: str) -> str:
    try:
        entries, problem = health.index(endpoint)
    except DeckError as error:
        return str(error)
    states = [e.state or "not loaded" for e in entries if e.name == clean(model)]
    return problem or f"the server still lists it as {', '.join(states) or 'unknown'}"


def _failure(response: Response, model: str, verb: str) -> DeckError:
    refused = refusal(response, f"to {verb} a model")
    if refused is not None:
        return refused
    reason = health.reason_words(response.words)
    if REASON_IN_LOG in reason:
        return DeckError(
            f"the server does not take the configuration of model {model}",
            why="it gives the reason only in its log",
            fix="read the lines 'Poll failed' and 'ModelConfig' in the server's log",
            raw=response.words,
        )
    if response.status == 503 or "explicit model load / unload is not allowed" in reason:
        return DeckError(
            f"this server does not {verb} models on request",
            why="it was not started with --model-control-mode=explicit",
            fix='start it with control = "explicit"',
            raw=response.words,
        )
    known = logs.explain_line(reason)
    first = reason.partition("\n")[0]
    return DeckError(
        f"model {model} could not be {verb}ed",
        why=f"{known.what}: {known.why}" if known else first,
        fix=known.fix if known else "",
        raw=reason if known or reason != first else "",
    )
