"""What a server was seen to do: frozen readings, the same live and replayed.

Rates and times per request come from the difference of two answers of the server. They are None where
there is no difference to take: the first answer, a server that was away or started anew (`gap`), a
clock that jumped, or a figure that this server does not tell. Rates are per second, times are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelReading:
    """One version of one model."""

    name: str
    version: str = ""
    state: str = ""
    """Triton's word (``LOADING``, ``READY``, ``UNLOADING``, ``UNAVAILABLE``); empty when not told."""
    reason: str = ""
    """Why it is not ready, in the server's words."""
    requests: float | None = None
    """Requests that ended per second, failures included."""
    failures: float | None = None
    """Requests that failed per second."""
    inferences: float | None = None
    """Inferences per second: a request with a batch of eight counts eight."""
    executions: float | None = None
    """Executions of the model per second."""
    batch: float | None = None
    """Mean batch size of the executions between the two answers."""
    latency: float | None = None
    """Mean time from arrival to response of a request."""
    queue: float | None = None
    """Mean time that a request waited."""
    compute: float | None = None
    """Mean time that a request was computed, its inputs and outputs included."""
    pending: int | None = None
    """Requests that wait now."""
    cache_hits: float | None = None
    """Responses per second that the response cache gave."""
    cache_misses: float | None = None
    total_requests: int = 0
    """Requests since the server started, failures included."""
    total_failures: int = 0
    total_inferences: int = 0
    total_executions: int = 0
    batches: tuple[tuple[int, int], ...] = ()
    """Executions since the server started by batch size, the smallest first."""

    @property
    def ready(self) -> bool:
        return self.state == "READY"


@dataclass(frozen=True, slots=True)
class GenerationReading:
    """What an OpenAI-type server (vLLM and its like) tells beside requests."""

    running: int | None = None
    """Requests that are computed now."""
    waiting: int | None = None
    prompt_tokens: float | None = None
    """Prompt tokens read per second."""
    tokens: float | None = None
    """Tokens generated per second."""
    first_token: float | None = None
    """Mean time to the first token."""
    token_time: float | None = None
    """Mean time between two tokens."""
    kv_cache: float | None = None
    """Part of the key-value cache that is in use, 0 to 1."""
    requests: float | None = None
    """Requests that ended well per second."""
    latency: float | None = None
    """Mean time from arrival to the last token of a request."""
    queue: float | None = None
    """Mean time that a request waited."""
    total_requests: int = 0
    total_tokens: int = 0
    """Tokens generated since the server started."""


@dataclass(frozen=True, slots=True)
class ServerReading:
    """One server at one moment. `live`, `ready` and the models' states are three different facts."""

    name: str
    """What the operator calls it: an attached server's name, or the id of a service of ours."""
    url: str
    kind: str = "triton"
    """``triton`` or ``openai``."""
    ours: bool = False
    time: float = 0.0
    """Seconds since the epoch at which it was asked."""
    live: bool = False
    ready: bool = False
    version: str = ""
    since: float = 0.0
    """Seconds since the epoch since when `live` is as it is; 0 before the first answer."""
    gap: bool = False
    """This reading does not continue the one before: it was away, was started anew, or time jumped."""
    problem: str = ""
    """Why a figure is missing, in words."""
    models: tuple[ModelReading, ...] = ()
    generation: GenerationReading | None = None
    answered_in: float | None = None
    """Seconds that its answers took."""

    @property
    def asked(self) -> bool:
        """Whether it has been asked at all."""
        return self.time > 0

    @property
    def requests(self) -> float | None:
        if self.generation is not None:
            return self.generation.requests
        return total(model.requests for model in self.models)

    @property
    def failures(self) -> float | None:
        return total(model.failures for model in self.models)

    @property
    def pending(self) -> int | None:
        if self.generation is not None:
            return self.generation.waiting
        told = [model.pending for model in self.models if model.pending is not None]
        return sum(told) if told else None

    @property
    def latency(self) -> float | None:
        """Mean time of a request over all models, by how many each had."""
        if self.generation is not None:
            return self.generation.latency
        known = [(m.latency, m.requests) for m in self.models if m.latency and m.requests]
        whole = sum(requests for _, requests in known)
        return sum(latency * requests for latency, requests in known) / whole if whole else None


def total(values: Iterable[float | None]) -> float | None:
    """The sum of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
