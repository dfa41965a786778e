"""What a server told since it started: its counters, from its statistics or its metrics.

Triton tells the same counters twice: ``/v2/models/stats`` (nanoseconds, batch sizes; restricted by
PyTriton 0.7 and by our own launches' choice) and its metrics (microseconds, pending requests; open).
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict

from console.text import clean
from console.triton.health import reason_words
from console.triton.metrics import Metrics

Key = tuple[str, str]
"""A model's name and version."""

TRITON_METRICS = (
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
    "nv_inference_pending_request_count",
    "nv_cache_num_hits_per_model",
    "nv_cache_num_misses_per_model",
)


@dataclass(frozen=True, slots=True)
class ModelCounters:
    """One model version since the server (or the model) started. Durations in seconds, summed."""

    success: int = 0
    failure: int = 0
    inferences: int = 0
    executions: int = 0
    request_time: float = 0.0
    queue_time: float = 0.0
    compute_time: float = 0.0
    cache_hits: int | None = None
    cache_misses: int | None = None
    pending: int | None = None
    batches: tuple[tuple[int, int], ...] = ()

    @property
    def requests(self) -> int:
        return self.success + self.failure


@dataclass(frozen=True, slots=True)
class GenerationCounters:
    """Of an OpenAI-type server. Pairs are a histogram's sum in seconds and count."""

    running: int | None = None
    waiting: int | None = None
    kv_cache: float | None = None
    requests: float | None = None
    prompt_tokens: float | None = None
    tokens: float | None = None
    first_token: tuple[float, float] | None = None
    token_time: tuple[float, float] | None = None
    latency: tuple[float, float] | None = None
    queue: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Everything that one poll of a server brought."""

    live: bool = False
    ready: bool = False
    version: str = ""
    states: Mapping[Key, tuple[str, str]] = field(default_factory=dict)
    """State and reason by model and version."""
    models: Mapping[Key, ModelCounters] = field(default_factory=dict)
    generation: GenerationCounters | None = None
    problem: str = ""
    late: bool = False
    """Time ran out before it had answered."""


# ---------------------------------------------------------------------------- reading answers


def of_statistics(value: Any) -> dict[Key, ModelCounters]:
    """The body of ``/v2/models/stats`` (or gRPC's message as JSON, whose numbers are strings)."""
    entries = value.get("model_stats") if isinstance(value, Mapping) else None
    found: dict[Key, ModelCounters] = {}
    for entry in entries if isinstance(entries, Sequence) else ():
        if isinstance(entry, Mapping):
            key = (clean(str(entry.get("name", ""))), clean(str(entry.get("version", ""))))
            found[key] = _of_entry(entry)
    return found


def states_of(entries: Any) -> dict[Key, tuple[str, str]]:
    """State and reason of each model in a repository index. (A directory that was never loaded has
    no state.)"""
    return {
        (clean(str(entry.get("name", ""))), clean(str(entry.get("version", "")))): (
            clean(str(entry.get("state", ""))),
            reason_words(str(entry.get("reason", ""))),
        )
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, Mapping)
    }


def _of_entry(entry: Mapping[str, Any]) -> ModelCounters:
    told = entry.get("inference_stats")
    stats = told if isinstance(told, Mapping) else {}

    def count(name: str) -> int:
        return _number(stats, name, "count")

    def seconds(name: str) -> float:
        return _number(stats, name, "ns") / 1e9

    return ModelCounters(
        success=count("success"),
        failure=count("fail"),
        inferences=_int(entry.get("inference_count")),
        executions=_int(entry.get("execution_count")),
        request_time=seconds("success"),
        queue_time=seconds("queue"),
        compute_time=seconds("compute_input")
        + seconds("compute_infer")
        + seconds("compute_output"),
        cache_hits=count("cache_hit"),
        cache_misses=count("cache_miss"),
        batches=_batches(entry.get("batch_stats")),
    )


def _batches(value: Any) -> tuple[tuple[int, int], ...]:
    found = [
        (_int(entry.get("batch_size")), _number(entry, "compute_infer", "count"))
        for entry in (value if isinstance(value, Sequence) else ())
        if isinstance(entry, Mapping)
    ]
    return tuple(sorted(found))


def _number(stats: Mapping[str, Any], name: str, part: str) -> int:
    entry = stats.get(name)
    return _int(entry.get(part)) if isinstance(entry, Mapping) else 0


def _int(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0  # proto3's JSON leaves zeros out


def of_metrics(metrics: Metrics) -> dict[Key, ModelCounters]:
    """The same from Triton's metrics. Failures are summed over their reasons."""
    by = {name: metrics.by(name, "model", "version") for name in TRITON_METRICS}
    keys = {key for values in by.values() for key in values}

    def get(name: str, key: tuple[str, ...]) -> float:
        return by[name].get(key, 0.0)

    found: dict[Key, ModelCounters] = {}
    for key in sorted(keys):
        found[(key[0], key[1])] = ModelCounters(
            success=int(get("nv_inference_request_success", key)),
            failure=int(get("nv_inference_request_failure", key)),
            inferences=int(get("nv_inference_count", key)),
            executions=int(get("nv_inference_exec_count", key)),
            request_time=get("nv_inference_request_duration_us", key) / 1e6,
            queue_time=get("nv_inference_queue_duration_us", key) / 1e6,
            compute_time=math.fsum(
                get(f"nv_inference_compute_{part}_duration_us", key)
                for part in ("input", "infer", "output")
            )
            / 1e6,
            cache_hits=_optional(by["nv_cache_num_hits_per_model"].get(key)),
            cache_misses=_optional(by["nv_cache_num_misses_per_model"].get(key)),
            pending=_optional(by["nv_inference_pending_request_count"].get(key)),
        )
    return found


def _optional(value: float | None) -> int | None:
    return None if value is None else int(value)


def with_pending(
    models: Mapping[Key, ModelCounters], metrics: Mapping[Key, ModelCounters]
) -> dict[Key, ModelCounters]:
    """Statistics, with what only the metrics tell: the requests that wait."""
    if not models:
        return dict(metrics)
    empty = ModelCounters()
    return {
        key: replace(counters, pending=metrics.get(key, empty).pending)
        for key, counters in models.items()
    }


# ---------------------------------------------------------------------------- OpenAI-type servers


class Dialect(BaseModel):
    """What one kind of server calls its figures; see `metric_names.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    prefix: str
    source: str
    path: str
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    requests: tuple[str, ...]
    prompt_tokens: tuple[str, ...]
    tokens: tuple[str, ...]
    kv_cache: tuple[str, ...]
    first_token: tuple[str, ...]
    token_time: tuple[str, ...]
    latency: tuple[str, ...]
    queue: tuple[str, ...]

    @property
    def wanted(self) -> tuple[str, ...]:
        plain = (
            *self.running,
            *self.waiting,
            *self.requests,
            *self.prompt_tokens,
            *self.tokens,
            *self.kv_cache,
        )
        pairs = (*self.first_token, *self.token_time, *self.latency, *self.queue)
        return (*plain, *(f"{name}_{end}" for name in pairs for end in ("sum", "count")))


@cache
def dialects() -> tuple[Dialect, ...]:
    """Every known dialect."""
    text = (files("console.triton") / "metric_names.toml").read_text(encoding="utf-8")
    return tuple(Dialect.model_validate(entry) for entry in tomllib.loads(text)["dialect"])


def generation_of(metrics: Metrics) -> GenerationCounters | None:
    """Counters in the dialect that the text is written in; None when it is none of them."""
    for dialect in dialects():
        if any(name.startswith(dialect.prefix) for name in metrics.values):
            return _in_dialect(metrics, dialect)
    return None


def _in_dialect(metrics: Metrics, dialect: Dialect) -> GenerationCounters:
    def first(names: Sequence[str]) -> float | None:
        return next((v for v in (metrics.total(n) for n in names) if v is not None), None)

    def pair(names: Sequence[str]) -> tuple[float, float] | None:
        for name in names:
            total, count = metrics.total(f"{name}_sum"), metrics.total(f"{name}_count")
            if total is not None and count is not None:
                return total, count
        return None

    return GenerationCounters(
        running=_optional(first(dialect.running)),
        waiting=_optional(first(dialect.waiting)),
        kv_cache=first(dialect.kv_cache),
        requests=first(dialect.requests),
        prompt_tokens=first(dialect.prompt_tokens),
        tokens=first(dialect.tokens),
        first_token=pair(dialect.first_token),
        token_time=pair(dialect.token_time),
        latency=pair(dialect.latency),
        queue=pair(dialect.queue),
    )
