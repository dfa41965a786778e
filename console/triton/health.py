"""What a server says about itself, over plain HTTP (no tritonclient import)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from console.facts import DeckError, Endpoint
from console.text import clean, redact
from console.triton import openai
from console.triton.plain_http import Response, model_path, refusal, request


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model as the repository index and the ready endpoint tell it.

    `state` is Triton's word (``LOADING``, ``READY``, ``UNLOADING``, ``UNAVAILABLE``) or empty when
    the server lists the model without one; `ready` is the model-ready endpoint's answer.
    """

    name: str
    version: str
    state: str
    reason: str
    ready: bool


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """Live, ready and model-ready are three facts, and none of them means serving."""

    live: bool
    ready: bool
    models: tuple[ModelState, ...]
    version: str = ""
    problem: str = ""
    """Why a figure is missing, in words (no answer, 403 without the token)."""


PATIENCE = 5.0
"""Seconds for one question: a busy machine takes some, and only who asks one that hangs waits for all."""


def probe(endpoint: Endpoint, timeout: float = PATIENCE) -> ServerHealth:
    """Ask live, ready, version, the repository index and each READY model, as separate facts.

    Never raises for what a server does: `problem` says in words why a figure is missing (nothing
    listens, 403 without the token, not a Triton server). `timeout` is seconds for each request.
    """
    try:
        if endpoint.kind == "openai":
            return _openai(endpoint, timeout)
        live = request(endpoint, "/v2/health/live", timeout=timeout)
        if not live.ok and live.status != 400:
            return ServerHealth(False, False, (), problem=_not_triton(live))
        ready = request(endpoint, "/v2/health/ready", timeout=timeout)
        version, problem = _version(endpoint, timeout)
        models, index_problem = index(endpoint, timeout)
    except DeckError as error:
        return ServerHealth(False, False, (), problem=str(error))
    return ServerHealth(live.ok, ready.ok, models, version, problem or index_problem)


def _openai(endpoint: Endpoint, timeout: float) -> ServerHealth:
    """An OpenAI-type server has one word for live and ready; what it lists, it answers for."""
    well = openai.healthy(endpoint, timeout)
    try:
        names, problem = openai.models(endpoint, timeout), ""
    except DeckError as error:
        names, problem = (), str(error)
    models = tuple(ModelState(name, "", "READY" if well else "", "", well) for name in names)
    return ServerHealth(well, well, models, problem=problem)


def _not_triton(response: Response) -> str:
    error = refusal(response, "a health probe")
    if error is not None:
        return str(error)
    return f"this is not a Triton server: /v2/health/live answered HTTP {response.status}"


def _version(endpoint: Endpoint, timeout: float) -> tuple[str, str]:
    response = request(endpoint, "/v2", timeout=timeout)
    if not response.ok:
        return "", f"/v2 answered HTTP {response.status}"
    told = response.json()
    return clean(str(told.get("version", ""))) if isinstance(told, dict) else "", ""


def index(endpoint: Endpoint, timeout: float = 2 * PATIENCE) -> tuple[tuple[ModelState, ...], str]:
    """The repository index and, where it cannot be read, why; needs the token where there is one.

    ``ready`` of each READY entry is asked from the model-ready endpoint (two facts: a model whose
    process has died stays READY in the index).
    """
    path = "/v2/repository/index"
    response = request(endpoint, path, method="POST", payload={}, token=True, timeout=timeout)
    if not response.ok:
        error = refusal(response, "the list of models")
        return (), str(error) if error else f"{path}: {response.words or response.status}"
    entries = response.json()
    if not isinstance(entries, list):
        return (), f"{path} answered something else than a list"
    return tuple(_state(endpoint, e, timeout) for e in entries if isinstance(e, dict)), ""


def _state(endpoint: Endpoint, entry: dict[str, Any], timeout: float) -> ModelState:
    name, version = str(entry.get("name", "")), str(entry.get("version", ""))
    state = clean(str(entry.get("state", "")))
    ready = state == "READY" and model_ready(endpoint, name, version, timeout)
    reason = reason_words(str(entry.get("reason", "")))
    return ModelState(clean(name), clean(version), state, reason, ready)


def model_ready(
    endpoint: Endpoint, model: str, version: str = "", timeout: float = PATIENCE
) -> bool:
    """What ``GET /v2/models/M[/versions/V]/ready`` says; `DeckError` when nothing answers."""
    return request(endpoint, model_path(model, version) + "/ready", timeout=timeout).ok


def wait_live(
    endpoint: Endpoint,
    timeout: float = 60.0,
    *,
    alive: Callable[[], bool] = lambda: True,
    interval: float = 0.05,
) -> ServerHealth:
    """Wait until the server is live and return its health.

    `alive` is asked between probes: False (its process has ended) raises `DeckError` at once, and
    so does `timeout` seconds without a live server, with the last problem as the reason.
    """
    deadline = time.monotonic() + timeout
    while True:
        over = time.monotonic() >= deadline  # before the last look, which comes after it
        health = probe(endpoint, min(2.0, max(0.1, timeout)))
        if health.live:
            return health
        if not alive():
            raise DeckError(
                "the server ended before it was live", why="its log says why", fix="read the log"
            )
        if over:
            raise DeckError(
                f"the server was not live within {timeout:g} s",
                why=health.problem,
                fix="read its log; a larger model may need more time",
            )
        time.sleep(interval)


_LOAD_PREFIX = re.compile(
    r"^(?:load failed for model '[^']*': )?(?:version \d+ is at UNAVAILABLE state: )?"
)


def reason_words(reason: str) -> str:
    """The server's own reason without its frame, cleaned, with its line breaks."""
    text = _LOAD_PREFIX.sub("", clean(reason.strip(), multiline=True))
    return redact(text.rstrip("; \n"))
