"""From counters to readings: differences of two polls, aware of restarts, gaps and clock jumps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from console.text import redact
from console.triton.reading import GenerationReading, ModelReading, ServerReading
from console.triton.statistics import GenerationCounters, Key, ModelCounters, Told

STALE = 3.0
"""A difference over more than this many intervals is no rate of now: the server was not asked."""
CLOCK_JUMP = 2.0
"""Seconds between wall clock and monotonic clock after which somebody set the clock."""


class Rates:
    """Turns one server's polls into readings. Holds the poll before, nothing else."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        kind: str = "triton",
        ours: bool = False,
        interval: float = 1.0,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.interval = interval
        self._blank = ServerReading(name, redact(url), kind, ours)
        self._wall, self._monotonic = wall, monotonic
        self._before: Told | None = None
        self._at = (0.0, 0.0)
        self._since = 0.0

    def reading(self, told: Told, answered_in: float | None = None) -> ServerReading:
        """The reading of now; also says whether it continues the one before."""
        now, moment = self._wall(), self._monotonic()
        before, (wall, at) = self._before, self._at
        seconds = moment - at
        jumped = before is not None and abs((now - wall) - seconds) > CLOCK_JUMP
        if before is None or before.live != told.live or jumped:
            self._since = now
        self._before, self._at = told, (now, moment)
        continues = before is not None and before.live and told.live and not jumped
        continues = continues and 0 < seconds <= STALE * self.interval + 1
        last = before if continues and not (before and _started_anew(before, told)) else None
        keys = sorted({*told.models, *told.states})
        return replace(
            self._blank,
            time=now,
            live=told.live,
            ready=told.ready,
            version=told.version,
            since=self._since,
            gap=last is None,
            problem=told.problem,
            models=tuple(_model(key, told, last, seconds) for key in keys),
            generation=_generation(told, last, seconds),
            answered_in=answered_in,
        )


def _started_anew(before: Told, now: Told) -> bool:
    """Whether every model that counts has counted backwards, or the generation counters have."""
    if before.generation and now.generation:
        return (now.generation.tokens or 0) < (before.generation.tokens or 0)
    counted = [key for key, counters in before.models.items() if counters.requests]
    return bool(counted) and all(
        key not in now.models or now.models[key].requests < before.models[key].requests
        for key in counted
    )


def _model(key: Key, told: Told, last: Told | None, seconds: float) -> ModelReading:
    now = told.models.get(key)
    state, reason = told.states.get(key, ("READY" if now is not None else "", ""))
    if now is None:
        return ModelReading(*key, state, reason)
    reading = ModelReading(
        *key,
        state,
        reason,
        pending=now.pending,
        total_requests=now.requests,
        total_failures=now.failure,
        total_inferences=now.inferences,
        total_executions=now.executions,
        batches=now.batches,
    )
    before = last.models.get(key) if last else None
    if before is None or _backwards(before, now):
        return reading
    done, runs = now.success - before.success, now.executions - before.executions
    cached = (now.cache_hits or 0) - (before.cache_hits or 0)
    computed = max(0, done - cached)
    return replace(
        reading,
        requests=_figure((now.requests - before.requests) / seconds),
        failures=_figure((now.failure - before.failure) / seconds),
        inferences=_figure((now.inferences - before.inferences) / seconds),
        executions=_figure(runs / seconds),
        batch=_each(now.inferences - before.inferences, runs),
        latency=_each(now.request_time - before.request_time, done),
        queue=_each(now.queue_time - before.queue_time, done),
        compute=_each(now.compute_time - before.compute_time, computed),
        cache_hits=_rate(before.cache_hits, now.cache_hits, seconds),
        cache_misses=_rate(before.cache_misses, now.cache_misses, seconds),
    )


def _backwards(before: ModelCounters, now: ModelCounters) -> bool:
    """A counter that went down: the model was loaded anew."""
    return (
        now.success < before.success
        or now.failure < before.failure
        or now.executions < before.executions
        or now.request_time < before.request_time - 1e-6
    )


def _generation(told: Told, last: Told | None, seconds: float) -> GenerationReading | None:
    now = told.generation
    if now is None:
        return None
    before = (last.generation if last else None) or GenerationCounters()
    return GenerationReading(
        running=now.running,
        waiting=now.waiting,
        prompt_tokens=_rate(before.prompt_tokens, now.prompt_tokens, seconds),
        tokens=_rate(before.tokens, now.tokens, seconds),
        first_token=_mean(before.first_token, now.first_token),
        token_time=_mean(before.token_time, now.token_time),
        kv_cache=None if now.kv_cache is None else _figure(now.kv_cache),
        requests=_rate(before.requests, now.requests, seconds),
        latency=_mean(before.latency, now.latency),
        queue=_mean(before.queue, now.queue),
        total_tokens=int(now.tokens or 0),
        total_requests=int(now.requests or 0),
    )


def _rate(before: float | None, now: float | None, seconds: float) -> float | None:
    if before is None or now is None or now < before:
        return None
    return _figure((now - before) / seconds)


def _mean(before: tuple[float, float] | None, now: tuple[float, float] | None) -> float | None:
    if before is None or now is None:
        return None
    return _each(now[0] - before[0], now[1] - before[1])


def _each(total: float, count: float) -> float | None:
    """Per request; None when there was none between the two answers."""
    return _figure(total / count) if count > 0 and total >= 0 else None


def _figure(value: float) -> float:
    """Six significant digits: more would only make recordings larger."""
    return float(f"{value:.6g}")
