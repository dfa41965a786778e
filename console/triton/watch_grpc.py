"""Asking a Triton of which only the gRPC address is known. Imports tritonclient's gRPC (0.5 s)."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlsplit

from console.facts import UsageError
from console.text import clean
from console.triton import statistics
from console.triton.statistics import Key, Told
from console.triton.target import STATES_EVERY, TIMEOUT, Target

_PREFIX = "triton-grpc-protocol-"
"""Triton wants restricted protocols' headers under this prefix over gRPC."""


class GrpcAsker:
    """Live, ready, index and statistics over one channel (Triton does not wait for an idle one)."""

    def __init__(self, target: Target) -> None:
        from tritonclient import grpc

        parts = urlsplit(target.endpoint.url)
        tls = parts.scheme == "grpcs"
        if target.ca_file is not None and not target.ca_file.is_file():
            raise UsageError(f"there is no CA file {clean(str(target.ca_file))}")
        self._failure: type[Exception] = grpc.InferenceServerException
        self._client: Any = grpc.InferenceServerClient(
            parts.netloc,
            ssl=tls,
            root_certificates=str(target.ca_file) if tls and target.ca_file else None,
        )
        self._headers = {
            name if name.startswith(_PREFIX) else _PREFIX + name: value
            for name, value in target.headers().items()
        }
        self._states: dict[Key, tuple[str, str]] = {}
        self._version = ""
        self._next_states = 0.0
        self._problem = ""

    def ask(self) -> Told:
        client, limit = self._client, {"client_timeout": TIMEOUT}
        try:
            live = client.is_server_live(**limit)
            ready = client.is_server_ready(**limit)
            if not self._version:
                told = client.get_server_metadata(as_json=True, **limit)
                self._version = clean(str(told.get("version", "")))
        except self._failure as error:
            self._version, self._states, self._next_states = "", {}, 0.0
            return Told(problem=_words(error), late=_late(error))
        models = {}
        try:
            if time.monotonic() >= self._next_states:
                self._next_states = time.monotonic() + STATES_EVERY
                self._read_index()
            answer = client.get_inference_statistics(headers=self._headers, as_json=True, **limit)
            models = statistics.of_statistics(_plain(answer))
            self._problem = ""
        except self._failure as error:
            self._problem = _words(error)
        return Told(live, ready, self._version, dict(self._states), models, None, self._problem)

    def _read_index(self) -> None:
        answer = self._client.get_model_repository_index(
            headers=self._headers, as_json=True, client_timeout=TIMEOUT
        )
        self._states = statistics.states_of(_plain(answer).get("models", ()))

    def close(self) -> None:
        self._client.close()


def _plain(answer: Any) -> dict[str, Any]:
    told = json.loads(answer) if isinstance(answer, str | bytes) else answer
    return told if isinstance(told, dict) else {}


def _late(error: Exception) -> bool:
    status = getattr(error, "status", None)
    return callable(status) and str(status()).endswith("DEADLINE_EXCEEDED")


def _words(error: Exception) -> str:
    message = getattr(error, "message", None)
    return clean(str(message() if callable(message) else error))
