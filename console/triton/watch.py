"""`ServerWatch`: asks one server again and again, whatever it is and whatever it sends.

An asker knows one kind of server and turns its answers into `Told`; nothing that a server does makes
`poll` raise. Triton's HTTP port gets one connection a poll, closed by its last request (Triton would
wait for an idle one when it stops); metrics addresses and OpenAI-type servers keep theirs.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from console.facts import DeckError
from console.text import clean
from console.triton import statistics
from console.triton.metrics import Metrics, parse
from console.triton.plain_http import Late, NoAnswer, Response
from console.triton.rates import Rates
from console.triton.reading import ServerReading
from console.triton.statistics import TRITON_METRICS, Key, ModelCounters, Told
from console.triton.target import STATES_EVERY, TIMEOUT, Asker, Target
from console.triton.wire import Wire

RARELY = 10.0
"""Seconds between questions whose answers seldom change (version, list of models)."""
RETRY = 30.0
"""Seconds after which a metrics address that did not answer is asked again."""


class ServerWatch:
    """One server. `poll` blocks for at most about four times `TIMEOUT`; not for two threads at once."""

    def __init__(self, target: Target, interval: float = 1.0) -> None:
        self.target = target
        endpoint = target.endpoint
        self._rates = Rates(
            target.name, endpoint.url, kind=endpoint.kind, ours=endpoint.ours, interval=interval
        )
        self._asker: Asker | None = None
        self._silent = False

    def poll(self) -> ServerReading:
        """Ask it now. Never raises for what a server or the operator's files do: see `problem`.

        Asks once more before one that answered is said not to: a machine that stood still for some
        seconds, this one or the server's, is no server that hangs.
        """
        told, seconds = self._ask()
        if told.late and not self._silent:
            told, seconds = self._ask()
        self._silent = told.late
        return self._rates.reading(told, round(seconds, 6) if told.live else None)

    def _ask(self) -> tuple[Told, float]:
        """What it told, and in how many seconds."""
        begun = time.monotonic()
        try:
            if self._asker is None:
                self._asker = asker(self.target)
            told = self._asker.ask()
        except DeckError as error:
            self.close()
            told = Told(problem=str(error), late=isinstance(error, Late))
        return told, time.monotonic() - begun

    def close(self) -> None:
        if self._asker is not None:
            self._asker.close()
            self._asker = None


def asker(target: Target) -> Asker:
    """The asker for an endpoint; raises `UsageError` for a wrong URL, CA file or token file."""
    if target.endpoint.kind == "openai":
        return OpenAiAsker(target)
    if urlsplit(target.endpoint.url).scheme in ("grpc", "grpcs"):
        from console.triton.watch_grpc import GrpcAsker

        return GrpcAsker(target)
    return TritonAsker(target)


def _wire(target: Target, url: str) -> Wire:
    """Token headers go to the origin of the endpoint alone, never to a metrics address elsewhere."""
    same = urlsplit(url).hostname == urlsplit(target.endpoint.url).hostname
    headers = target.headers() if same else {}
    trusted = target.ca_file or target.endpoint.ca_file
    return Wire(url, ca_file=trusted, headers=headers, timeout=TIMEOUT)


class MetricsAddress:
    """Where Prometheus text comes from; one that fails is left alone for a while."""

    def __init__(self, wire: Wire, path: str, wanted: tuple[str, ...]) -> None:
        self._wire, self._path, self._wanted = wire, path, wanted
        self._again = 0.0
        self._late = False
        self.problem = ""

    def read(self) -> Metrics | None:
        """None where it does not answer; `problem` then says why."""
        if self.problem and time.monotonic() < self._again:
            return None
        self._wire.begin()
        body = self._wire.pieces(self._path)
        try:
            found = parse(body, self._wanted)
        except DeckError as error:
            body.close()
            self._wire.close()
            # Being late once is no reason to leave it alone: the machine may have stood still.
            once, self._late = isinstance(error, Late) and not self._late, isinstance(error, Late)
            self.problem, self._again = str(error), 0.0 if once else time.monotonic() + RETRY
            return None
        self.problem, self._late = "", False
        return found

    def close(self) -> None:
        self._wire.close()


class TritonAsker:
    """Triton over HTTP: live, ready, statistics and index on one connection; metrics beside it."""

    def __init__(self, target: Target) -> None:
        self._wire = _wire(target, target.endpoint.url)
        self._metrics: MetricsAddress | None = None
        url = target.endpoint.metrics_url
        if url:
            path = urlsplit(url).path.rstrip("/") or "/metrics"
            origin = url.removesuffix(urlsplit(url).path)
            self._metrics = MetricsAddress(_wire(target, origin), path, TRITON_METRICS)
        self._version = ""
        self._states: dict[Key, tuple[str, str]] = {}
        self._index_problem = ""
        self._next_states = self._next_version = 0.0
        self._restricted = False

    def ask(self) -> Told:
        try:
            return self._told()
        except NoAnswer as error:
            self._wire.close()
            self._version, self._states, self._next_states = "", {}, 0.0
            return Told(problem=str(error), late=isinstance(error, Late))

    def _told(self) -> Told:
        now = time.monotonic()
        self._wire.begin()
        live = self._wire.get("/v2/health/live")
        if not live.ok and live.status != 400:
            self._wire.close()
            return Told(problem=_not_triton(live))
        ready = self._wire.get("/v2/health/ready")
        if not self._version:
            self._version = _version(self._wire.get("/v2"))
        if now >= self._next_states:
            self._next_states = now + STATES_EVERY
            self._read_index(self._wire.ask("POST", "/v2/repository/index", {}))
        answer = self._wire.ask("GET", "/v2/models/stats", last=True)
        models, problem = self._statistics(answer)
        if self._metrics is not None and (metrics := self._metrics.read()) is not None:
            models = statistics.with_pending(models, statistics.of_metrics(metrics))
            problem = "" if models and not answer.ok else problem
        return Told(
            live=live.ok,
            ready=ready.ok,
            version=self._version,
            states=dict(self._states),
            models=models,
            problem=problem
            or self._index_problem
            or (self._metrics.problem if self._metrics else ""),
        )

    def _statistics(self, answer: Response) -> tuple[dict[Key, ModelCounters], str]:
        if answer.ok:
            return statistics.of_statistics(answer.json()), ""
        if answer.status == 403:
            return {}, f"its statistics need a token: {answer.words}"
        return {}, f"/v2/models/stats: {answer.words or answer.status}"

    def _read_index(self, answer: Response) -> None:
        """Models that have been loaded. (Triton lists a directory never loaded without a state.)"""
        self._index_problem = ""
        if answer.status == 403:
            self._index_problem = f"its list of models needs a token: {answer.words}"
            return
        self._states = statistics.states_of(answer.json() if answer.ok else ())

    def close(self) -> None:
        self._wire.close()
        if self._metrics is not None:
            self._metrics.close()


def _not_triton(response: Response) -> str:
    if 300 <= response.status < 400:
        return f"it redirects elsewhere (HTTP {response.status}), which is not followed"
    return f"this is not a Triton server: /v2/health/live answered HTTP {response.status}"


def _version(response: Response) -> str:
    told: Any = response.json() if response.ok else None
    return clean(str(told.get("version", ""))) if isinstance(told, dict) else ""


class OpenAiAsker:
    """vLLM, SGLang, trtllm-serve: health, list of models, metrics in their dialect."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._wire = _wire(target, target.endpoint.url)
        self._origin = target.endpoint.metrics_url or target.endpoint.url
        self._metrics: MetricsAddress | None = None
        self._models: tuple[str, ...] = ()
        self._version = ""
        self._next_list = 0.0

    def ask(self) -> Told:
        now = time.monotonic()
        try:
            self._wire.begin()
            health = self._wire.get("/health")
            if now >= self._next_list:
                self._next_list = now + RARELY
                self._models = _names(self._wire.get("/v1/models"))
                self._version = _version(self._wire.get("/version"))
        except NoAnswer as error:
            self._next_list = 0.0
            return Told(problem=str(error), late=isinstance(error, Late))
        live = health.status < 500 or health.status == 503
        metrics, problem = self._read_metrics()
        generation = statistics.generation_of(metrics) if metrics is not None else None
        if not problem and generation is None:
            problem = "its metrics are none that are known (vLLM, SGLang, TensorRT-LLM)"
        return Told(
            live=live,
            ready=health.ok,
            version=self._version,
            states={(name, ""): ("READY" if health.ok else "", "") for name in self._models},
            generation=generation,
            problem=problem,
        )

    def _read_metrics(self) -> tuple[Metrics | None, str]:
        """From the path that answered before, else from the first that does."""
        if self._metrics is not None:
            return self._metrics.read(), self._metrics.problem
        wanted = tuple(name for d in statistics.dialects() for name in d.wanted)
        problem = ""
        for path in dict.fromkeys(dialect.path for dialect in statistics.dialects()):
            address = MetricsAddress(_wire(self._target, self._origin), path, wanted)
            found = address.read()
            if found is not None and found.values:
                self._metrics = address
                return found, ""
            problem = problem or address.problem
            address.close()
        return None, problem

    def close(self) -> None:
        self._wire.close()
        if self._metrics is not None:
            self._metrics.close()


def _names(response: Response) -> tuple[str, ...]:
    told: Any = response.json() if response.ok else None
    data = told.get("data") if isinstance(told, dict) else None
    return tuple(
        clean(str(entry.get("id", "")))
        for entry in (data if isinstance(data, list) else ())
        if isinstance(entry, dict)
    )
