"""The log's index: lines by number in a file that grows, is replaced, or is not text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screens.widgets.logfile import BLOCK, LINE_BYTES, LogFile


def grown(path: Path) -> LogFile:
    file = LogFile(path)
    file.grow()
    return file


@given(content=st.binary(max_size=4000), first=st.integers(0, 50), count=st.integers(1, 50))
def test_every_line_is_found_by_its_number(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, first: int, count: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(content)
    file = grown(path)
    expected = content.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert file.lines == len(expected)
    assert file.read(first, count) == expected[first : first + count]


@given(sizes=st.lists(st.integers(0, 9000), min_size=40, max_size=60), first=st.integers(0, 60))
def test_lines_across_blocks_are_found(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], first: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    lines = [bytes([65 + n % 26]) * size for n, size in enumerate(sizes)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert grown(path).read(first, 7) == lines[first : first + 7]


def test_growth_is_seen_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntw")
    file = grown(path)
    assert (file.lines, file.read(0, 9)) == (2, [b"one", b"tw"])
    assert file.grow() is False
    with path.open("ab") as out:
        out.write(b"o\nthree\n")
    assert file.grow() is True
    assert file.read(0, 9) == [b"one", b"two", b"three"]


def test_a_replaced_file_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\n" * 100)
    file = grown(path)
    other = tmp_path / "other"
    other.write_bytes(b"new\n")
    other.rename(path)
    assert file.grow() is True
    assert file.read(0, 9) == [b"new"]


def test_a_truncated_file_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old line\n" * 100)
    file = grown(path)
    path.write_bytes(b"x\n")
    file.grow()
    assert file.read(0, 9) == [b"x"]


def test_a_missing_file_is_empty_until_it_appears(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "log")
    assert file.grow() is False
    assert (file.lines, file.read(0, 5)) == (0, [])
    file.path.write_bytes(b"here\n")
    assert file.grow() is True
    assert file.read(0, 5) == [b"here"]


def test_a_line_longer_than_a_block_is_cut_and_the_next_is_found(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * (3 * BLOCK) + b"\nnext\n")
    rows = grown(path).read(0, 2)
    assert rows == [b"a" * LINE_BYTES, b"next"]


def test_the_index_of_a_large_log_is_small(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a line of a log\n" * 500_000)
    file = grown(path)
    assert file.lines == 500_000
    assert len(file._before) * file._before.itemsize < 2000


@pytest.mark.parametrize(
    ("start", "backwards", "expected"),
    [(0, False, 700), (701, False, 1400), (1399, True, 700), (699, True, None)],
)
def test_search_finds_the_next_hit_in_its_direction(
    tmp_path: Path, start: int, backwards: bool, expected: int | None
) -> None:
    path = tmp_path / "log"
    path.write_text("".join("OOM\n" if n in (700, 1400) else f"line {n}\n" for n in range(2000)))
    found = grown(path).find(re.compile(rb"oom", re.IGNORECASE), start, backwards=backwards)
    assert found == expected


def test_a_cancelled_search_ends_without_a_hit(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("x\n" * 2000 + "hit\n")
    assert grown(path).find(re.compile(b"hit"), 0, cancelled=lambda: True) is None
