"""Searching a log in a process of its own: what it finds, its shortcuts, and that it can be ended."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.logs import feed as feeds
from console.logs.child import Scan
from console.logs.entry import entry
from console.logs.feed import LogFeed, LogState
from console.logs.levels import Level
from console.logs.literals import required
from console.logs.scan import Matcher
from console.logs.sharing import helpers
from tests.processes import until


class Answers:
    """What a scan said, and whether it has ended."""

    def __init__(self) -> None:
        self.said: list[Mapping[str, Any]] = []
        self.ended = threading.Event()

    def __call__(self, said: Mapping[str, Any]) -> None:
        self.said.append(said)
        if said.get("end") or "failed" in said:
            self.ended.set()

    @property
    def hits(self) -> list[int]:
        return [hit for said in self.said for hit in said["hits"]]


def scan(request: dict[str, Any]) -> Answers:
    answers = Answers()
    Scan(request, answers)
    assert answers.ended.wait(60)
    return answers


@pytest.mark.parametrize("start", [0, 400_000, 10_000_000])
def test_a_search_finds_every_line_from_any_start(tmp_path: Path, start: int) -> None:
    path = tmp_path / "log"
    lines = [b"layer %d" % n for n in range(60_000)]
    path.write_bytes(b"\n".join(lines))
    start = min(start, path.stat().st_size)
    answers = scan({"path": str(path), "pattern": r"LAYER|layer \d*777$", "start": start})
    expected, offset = [], 0
    for line in lines:
        if re.search(rb"layer \d*777$", line):
            expected.append(offset)
        offset += len(line) + 1
    assert sorted(answers.hits) == expected
    assert answers.said[-1]["total"] == len(expected)


WORDS = st.sampled_from(
    ["error", "Error", "err.r", "a|bc", r"\d+ ms", "(?:foo)+bar", "^ab", "c$", r"x\b", "[ab]c",
     "a.*c", "(", "ab?c", "(?i:ab)c", r"\Aab", "a\\.b", "ä", " "]
)  # fmt: skip
TEXT = st.text(alphabet="abcEeror .xäfo13 ms\t", max_size=30).map(str.encode)


@given(words=WORDS, lines=st.lists(TEXT, max_size=20))
def test_every_shortcut_finds_what_looking_at_each_line_finds(
    words: str, lines: list[bytes]
) -> None:
    matcher = Matcher(words)
    chunk = b"\n".join(lines)
    expected, offset = [], 0
    for line in chunk.split(b"\n"):
        if matcher.pattern.search(line):
            expected.append(offset)
        offset += len(line) + 1
    assert list(matcher.starts(chunk)) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (rb"step \d+ of zebra", [(b"step ",), (b" of zebra",)]),
        (rb"foo|bars", [(b"foo", b"bars")]),
        (rb"(?:abc)?d+", []),
        (rb"(abc)+", [(b"abc",)]),
        (rb"[0-9]{9}", []),
        (rb"(", []),
    ],
)
def test_texts_that_a_match_must_hold(pattern: bytes, expected: list[tuple[bytes, ...]]) -> None:
    assert required(pattern, 0) == expected


def test_an_endless_search_is_ended_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * 4000 + b"\n")
    answers = Answers()
    search = Scan({"path": str(path), "pattern": r"(a|a|aa)+$|^(a+)+b", "start": 0}, answers)
    assert search.running()
    search.cancel()
    until(lambda: not search.running())
    assert not answers.said


def test_a_scan_that_cannot_work_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "no"
    folder.mkdir(mode=0o700)
    answers = scan({"path": 7, "pattern": "x", "start": 0})
    assert "failed" in answers.said[-1]


# -- one line


def test_a_line_of_triton_is_taken_apart() -> None:
    found = entry(b'W1121 00:02:56.545741 30405 metrics.cc:798] "DCGM unable to start: x"')
    assert (found.time, found.place, found.framed) == ("00:02:56.545", "metrics.cc:798", True)
    assert found.level is Level.INFO
    assert "GPU" in found.harmless


def test_a_progress_bar_shows_what_it_said_last() -> None:
    assert entry(b"\rexport 1%\rexport 99%\r").text == "export 99%"


def test_escape_sequences_and_secrets_are_taken_out() -> None:
    found = entry(b"\x1b[31mred\x1b]0;title\x07 token=hunter2secret")
    assert found.text.startswith("red token=")
    assert "hunter2" not in found.text


# -- following


class Seen:
    """The states that a feed reported."""

    def __init__(self) -> None:
        self.states: list[LogState] = []
        self.more = threading.Condition()

    def __call__(self, state: LogState) -> None:
        with self.more:
            self.states.append(state)
            self.more.notify_all()

    def until(self, told: Any) -> LogState:
        with self.more:
            assert self.more.wait_for(lambda: self.states and told(self.states[-1]), 60)
            return self.states[-1]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(b"first\n")
    return path


def followed(log: Path) -> tuple[Seen, LogFeed]:
    """A feed that has seen the log of one line grow, and counted what came."""
    seen = Seen()
    feed = LogFeed(log, seen)
    feed.start()
    seen.until(lambda s: s.lines == 1)
    with log.open("ab") as out:
        out.write(b"warning: a\nfailed\nfai")
    seen.until(lambda s: (s.lines, s.warnings, s.errors) == (4, 1, 1))
    return seen, feed


def test_a_feed_counts_lines_warnings_and_errors_of_a_growing_log(log: Path) -> None:
    seen, feed = followed(log)
    with log.open("ab") as out:
        out.write(b"led again\n")
    seen.until(lambda s: (s.lines, s.warnings, s.errors) == (4, 1, 2))
    feed.stop()


def test_a_feed_that_gets_no_turn_between_its_looks_counts_the_same(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was judged before a line grew is judged again, though the time for it is over at once."""
    leaps = itertools.count(step=10.0)
    monkeypatch.setattr(feeds, "time", SimpleNamespace(monotonic=lambda: next(leaps)))
    _, feed = followed(log)
    feed.stop()


def test_a_large_log_is_whole_after_a_while_and_shows_its_end_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    piece = b"I0102 nothing\n" * 9 + b"an error\n"
    path.write_bytes(piece * 20_000)
    seen = Seen()
    feed = LogFeed(path, seen)
    feed.start()
    first = seen.until(lambda s: s.lines > 0)
    assert not first.settled or not seen.states[0].settled
    last = seen.until(lambda s: s.settled and s.tallied)
    assert (last.lines, last.errors) == (200_000, 20_000)
    errors = feed.region(Level.ERROR)
    assert {row.data for row in feed.rows(errors, errors.counts.start + 5, 50)} == {b"an error"}
    feed.stop()


def test_a_feed_tells_a_replaced_and_a_deleted_file(log: Path) -> None:
    seen = Seen()
    feed = LogFeed(log, seen)
    feed.start()
    age = seen.until(lambda s: s.lines == 1).age
    other = log.with_name("other")
    other.write_bytes(b"a\nb\n")
    other.rename(log)
    state = seen.until(lambda s: s.lines == 2)
    assert state.age > age
    assert "replaced" in state.note
    log.unlink()
    seen.until(lambda s: "deleted" in s.note)
    assert [row.data for row in feed.rows(feed.region(Level.VERBOSE), 0, 9)] == [b"a", b"b"]
    feed.stop()


def test_a_child_that_dies_in_the_middle_of_a_line_is_a_failed_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = tmp_path / "python"
    torn.write_text("#!/bin/sh\nread request\nprintf '{\"hits\": [1, 2'\n")
    torn.chmod(0o700)
    monkeypatch.setattr("console.logs.child.sys.executable", str(torn))
    answers = scan({"path": "log", "pattern": "x", "start": 0})
    assert [set(said) for said in answers.said] == [{"failed"}]


def test_a_log_that_is_shared_among_processes_is_searched_as_a_whole(tmp_path: Path) -> None:
    path, line = tmp_path / "log", b"x" * 99 + b"\n"
    count = 24 * 1024 * 1024 // len(line)
    marked = range(3, count, 20_011)
    with path.open("wb") as out:
        for number in range(count):
            out.write(b"marked" + line[6:] if number in marked else line)
    answers = scan({"path": str(path), "pattern": "marked", "start": 5_000_000})
    assert sorted(answers.hits) == [number * len(line) for number in marked]
    last = answers.said[-1]
    assert (last["total"], last["done"] >= count * 90) == (len(marked), True)


def test_helpers_end_with_the_search_that_is_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes((b"a" * 60 + b"!\n") * 400_000)
    search = Scan({"path": str(path), "pattern": r"(a+)+$", "start": 0}, Answers())
    parent = psutil.Process(search._process.pid)
    family = until(lambda: parent.children(recursive=True)) if helpers(100) > 1 else []
    search.cancel()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


def test_a_search_whose_console_has_gone_before_it_began_ends(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes((b"a" * 60 + b"!\n") * 400_000)
    gone = subprocess.Popen(["true"])
    gone.wait()
    request = {"path": str(path), "pattern": r"(a+)+$", "start": 0, "parent": gone.pid}
    search = subprocess.Popen(
        [sys.executable, "-P", "-m", "console.logs.scan"], stdin=subprocess.PIPE
    )
    try:
        search.communicate(json.dumps(request).encode() + b"\n", timeout=60)
        assert search.returncode == 1
    finally:
        search.kill()
