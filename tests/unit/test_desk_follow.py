"""Reading logs: whole, their last lines, and while they grow."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from console.desk import follow


def test_lines_are_cleaned_and_secrets_masked(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    log.write_bytes(b"\x1b]0;title\x07one\r\n 10%\r 90%\rtwo\nhf_abcdefghijklmnopqrstu\n\xff\n")
    shown = list(follow.lines(log))
    assert shown == ["one", "two", "‹secret›", "\N{REPLACEMENT CHARACTER}"]


def test_a_last_line_without_its_end_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    log.write_text("one\ntwo")
    assert list(follow.lines(log)) == ["one", "two"]


def test_a_file_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert list(follow.lines(tmp_path / "none.log")) == []
    assert list(follow.lines(tmp_path / "none.log", last=3)) == []


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
def test_last_lines_are_those_at_the_end_also_of_a_large_file(tmp_path: Path, count: int) -> None:
    log = tmp_path / "step.log"
    every = [f"line {number} " + "x" * 200 for number in range(2000)]
    log.write_text("\n".join(every) + "\n")
    assert list(follow.lines(log, last=count)) == every[len(every) - count :]


def test_what_is_written_while_following_arrives_and_nothing_is_lost(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    over = threading.Event()
    seen: list[str] = []
    expected = [f"line {number}" for number in range(500)]

    def write() -> None:
        with log.open("w") as stream:
            for line in expected:
                stream.write(line[:3])
                stream.flush()
                stream.write(line[3:] + "\n")
                stream.flush()
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = list(follow.lines(log, over.is_set, poll=0.005))
    writer.join()
    assert seen == expected


def test_a_log_that_was_started_afresh_is_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    log.write_text("first, which is long\n")
    asked = 0

    def ended() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:
            log.unlink()
            log.write_text("second\n")
        return asked > 2

    assert list(follow.lines(log, ended, poll=0.001)) == ["first, which is long", "second"]


def test_an_endless_line_comes_in_pieces(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    log.write_bytes(b"x" * (follow.LONGEST * 3))
    pieces = list(follow.lines(log))
    assert len(pieces) >= 2
    assert all(len(piece) < follow.LONGEST for piece in pieces)
