"""Prometheus text, from servers that mean well and from those that do not."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.triton.metrics import MAX_BYTES, MAX_LINE, NotMetrics, Parser, parse
from console.triton.plain_http import NoAnswer
from console.triton.wire import Wire

SERVER = Path(__file__).parents[1] / "assets" / "metrics_server.py"


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, str(SERVER)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.wait()


def test_values_keep_their_labels() -> None:
    found = parse(b'# TYPE a gauge\na{x="1",y="a\\"b\\\\c\\nd"} 2.5\nb 3 1700000000\n')
    (labels, value), *_ = found.values["a"]
    assert (labels["x"], labels["y"], value) == ("1", 'a"b\\c d', 2.5)
    assert found.total("b") == 3


def test_a_gpu_models_two_series_are_summed() -> None:
    text = (
        b'nv_inference_count{gpu_uuid="GPU-1",model="m",version="1"} 7\n'
        b'nv_inference_count{model="m",version="1"} 0\n'
    )
    assert parse(text).by("nv_inference_count", "model", "version") == {("m", "1"): 7}


def test_only_wanted_families_are_kept() -> None:
    text = b"nv_a 1\nnv_b 2\nvllm:c 3\n"
    assert set(parse(text, ("nv_a", "vllm:*")).values) == {"nv_a", "vllm:c"}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_a_body_means_the_same_however_it_is_cut(cuts: list[int]) -> None:
    body = b'# c\nnv_a{m="x"} 1\nnv_b 2\n\nnv_a{m="y"} 3e2\n' * 4
    parser, at = Parser(), 0
    for cut in cuts:
        parser.feed(body[at : at + cut])
        at += cut
    parser.feed(body[at:])
    assert parser.finish() == parse(body)


@given(st.binary(max_size=4000))
def test_any_bytes_are_read_or_refused_in_words(body: bytes) -> None:
    try:
        parse(body)
    except NotMetrics as error:
        assert error.why and error.title


def test_ten_million_lines_are_refused_early() -> None:
    begun, fed = time.thread_time(), 0

    def endless() -> Iterator[bytes]:
        nonlocal fed
        for _ in range(10_000):
            fed += 1000
            yield b"a_metric 1\n" * 1000

    with pytest.raises(NotMetrics, match="more than 100000 lines"):
        parse(endless(), ("nv_inference_count",))
    assert fed <= 101_000 and time.thread_time() - begun < 5


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(NotMetrics) as caught:
        parse(b"x" * (MAX_LINE + 2))
    assert "a line is longer" in caught.value.why


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/lines", "more than 100000 lines"),
        ("/endless", "a line is longer"),
        ("/garbage", "sent no metrics"),
    ],
)
def test_a_hostile_body_is_left_within_its_bounds(hostile: str, path: str, words: str) -> None:
    wire = Wire(hostile, timeout=60)
    wire.begin()
    with pytest.raises(NotMetrics, match=words):
        parse(wire.pieces(path), ("nv_inference_count",))


@pytest.mark.parametrize("path", ["/trickle", "/headers"])
def test_a_trickle_ends_at_the_deadline(hostile: str, path: str) -> None:
    wire = Wire(hostile, timeout=0.4)
    wire.begin()
    begun = time.monotonic()
    with pytest.raises(NoAnswer, match=r"within 0\.4 s|does not speak HTTP"):
        parse(wire.pieces(path))
    assert time.monotonic() - begun < 30  # the answer has no end


def test_a_redirect_is_not_followed(hostile: str) -> None:
    wire = Wire(hostile)
    wire.begin()
    with pytest.raises(NoAnswer, match="HTTP 302"):
        parse(wire.pieces("/moved"))


def test_a_kept_connection_serves_again_and_again(hostile: str) -> None:
    wire = Wire(hostile)
    sockets = set()
    for _ in range(3):
        wire.begin()
        assert parse(wire.pieces("/good")).total("nv_inference_count") == 3
        sockets.add(wire._connection.sock.fileno())
    assert len(sockets) == 1
    wire.close()


def test_a_body_of_any_size_stays_below_the_cap(hostile: str) -> None:
    wire = Wire(hostile, timeout=60)
    wire.begin()
    seen = 0
    for piece in wire.pieces("/lines"):
        seen += len(piece)
        if seen > MAX_BYTES:
            break
    wire.close()
    assert seen < MAX_BYTES + (1 << 20)
