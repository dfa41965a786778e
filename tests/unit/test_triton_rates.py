"""Rates from differences: restarts, gaps and clock jumps make gaps, never wrong figures."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from console.triton import statistics
from console.triton.happenings import happenings
from console.triton.metrics import parse
from console.triton.rates import Rates
from console.triton.statistics import GenerationCounters, ModelCounters, Told


class Clock:
    def __init__(self) -> None:
        self.wall, self.monotonic = 1e9, 50.0

    def pass_(self, seconds: float, wall: float | None = None) -> None:
        self.monotonic += seconds
        self.wall += seconds if wall is None else wall


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rates(clock: Clock) -> Rates:
    return Rates("s", "http://h:1", wall=lambda: clock.wall, monotonic=lambda: clock.monotonic)


def told(success: int, failure: int = 0, **more: int) -> Told:
    counters = ModelCounters(
        success=success,
        failure=failure,
        inferences=success * 4,
        executions=success,
        request_time=success * 0.02,
        queue_time=success * 0.005,
        compute_time=success * 0.01,
        **more,
    )
    return Told(True, True, "2", {("m", "1"): ("READY", "")}, {("m", "1"): counters})


def test_a_difference_becomes_rates_and_times_of_a_request(clock: Clock, rates: Rates) -> None:
    first = rates.reading(told(10))
    assert first.gap and first.requests is None and first.models[0].total_requests == 10
    clock.pass_(2)
    (model,) = rates.reading(told(30, 4)).models
    assert (model.requests, model.failures, model.inferences, model.batch) == (12, 2, 40, 4)
    assert (model.latency, model.queue, model.compute) == (0.02, 0.005, 0.01)


def test_no_request_has_no_latency(clock: Clock, rates: Rates) -> None:
    rates.reading(told(10))
    clock.pass_(1)
    (model,) = rates.reading(told(10)).models
    assert (model.requests, model.latency, model.batch) == (0, None, None)


@pytest.mark.parametrize("seconds", [0.0, -5.0, 600.0])
def test_a_poll_too_early_or_too_late_is_no_rate(
    clock: Clock, rates: Rates, seconds: float
) -> None:
    rates.reading(told(10))
    clock.pass_(seconds)
    late = rates.reading(told(20))
    assert late.gap and late.requests is None


def test_a_clock_that_jumps_is_a_gap_and_no_false_rate(clock: Clock, rates: Rates) -> None:
    rates.reading(told(10))
    clock.pass_(1, wall=3600)
    assert rates.reading(told(20)).gap
    clock.pass_(1)
    assert rates.reading(told(30)).requests == 10


def test_a_server_that_was_away_is_a_gap_and_comes_back(clock: Clock, rates: Rates) -> None:
    seen = [rates.reading(told(10))]
    for now in (told(20), Told(problem="nothing listens"), told(25), told(35)):
        clock.pass_(1)
        seen.append(rates.reading(now))
    assert [s.live for s in seen] == [True, True, False, True, True]
    assert [s.requests for s in seen] == [None, 10, None, None, 10]
    assert seen[3].since == seen[4].since > seen[2].since
    said = [h for a, b in pairwise(seen) for h in happenings([a], [b])]
    assert [words for _, words, _ in said] == ["does not answer", "answers again"]


def test_counters_that_begin_again_are_a_restart(clock: Clock, rates: Rates) -> None:
    rates.reading(told(1000))
    clock.pass_(1)
    anew = rates.reading(told(3))
    assert anew.gap and anew.requests is None


def test_one_model_loaded_anew_spoils_no_other(clock: Clock, rates: Rates) -> None:
    both = told(10)
    other = replace(both, models={**both.models, ("n", "1"): ModelCounters(success=5)})
    rates.reading(other)
    clock.pass_(1)
    now = replace(other, models={("m", "1"): ModelCounters(), ("n", "1"): ModelCounters(success=9)})
    m, n = rates.reading(now).models
    assert (m.requests, n.requests) == (None, 4)


def test_a_models_change_of_state_is_told(clock: Clock, rates: Rates) -> None:
    before = rates.reading(told(1))
    clock.pass_(1)
    gone = replace(told(1), states={("m", "1"): ("UNAVAILABLE", "unloaded")})
    assert list(happenings([before], [rates.reading(gone)])) == [("model", "m unavailable", "s")]


def test_vllms_metrics_become_tokens_and_times(clock: Clock, rates: Rates) -> None:
    def body(tokens: int, count: int) -> bytes:
        label = b'{model_name="m"}'
        values = {
            b"vllm:num_requests_running": 2,
            b"vllm:num_requests_waiting": 1,
            b"vllm:kv_cache_usage_perc": 0.25,
            b"vllm:generation_tokens_total": tokens,
            b"vllm:request_success_total": count,
            b"vllm:time_to_first_token_seconds_sum": count * 0.5,
            b"vllm:time_to_first_token_seconds_count": count,
        }
        return b"".join(b"%s%s %a\n" % (name, label, v) for name, v in values.items())

    def poll(tokens: int, count: int) -> Told:
        return Told(True, True, generation=statistics.generation_of(parse(body(tokens, count))))

    rates.reading(poll(100, 1))
    clock.pass_(1)
    now = rates.reading(poll(180, 3))
    assert now.generation is not None
    assert (now.generation.tokens, now.generation.first_token, now.requests) == (80, 0.5, 2)
    assert (now.generation.kv_cache, now.generation.running, now.pending) == (0.25, 2, 1)


def test_every_dialect_reads_its_own_names() -> None:
    for dialect in statistics.dialects():
        text = "".join(f"{name} 1\n" for name in dialect.wanted).encode()
        found = statistics.generation_of(parse(text))
        assert found is not None and found.requests is not None, dialect.name
        assert found != GenerationCounters()


def test_statistics_of_any_shape_are_read() -> None:
    for value in (None, [], {}, {"model_stats": [3, {"name": 5, "inference_stats": []}]}):
        statistics.of_statistics(value)
