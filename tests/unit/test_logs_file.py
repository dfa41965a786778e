"""A log by rows: numbers that stand still, files that grow, are replaced, or are not text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.logs.file import BLOCK, LINE_BYTES, LogFile
from console.logs.levels import Level, level, tally
from console.logs.region import Region, unsettled


def opened(path: Path) -> LogFile:
    file = LogFile(path)
    file.look()
    return file


def whole(file: LogFile, anchor: int = 0) -> Region:
    region = Region(file, min(anchor, file.blocks))
    while not region.forward(2):
        pass
    while not region.whole:
        region.back(2)
    return region


def texts(region: Region, first: int, count: int) -> list[bytes]:
    return [row.data for row in region.rows(region.counts.start + first, count)]


@given(
    sizes=st.lists(st.integers(0, 20_000), max_size=40),
    ended=st.booleans(),
    first=st.integers(0, 40),
    anchor=st.integers(0, 9),
)
def test_every_line_is_found_by_its_number_from_any_anchor(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    ended: bool,
    first: int,
    anchor: int,
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    lines = [bytes([65 + n % 26]) * size for n, size in enumerate(sizes)]
    content = b"\n".join(lines) + (b"\n" if ended else b"")
    path.write_bytes(content)
    expected = content.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    region = whole(opened(path), anchor)
    assert region.counts.end - region.counts.start == len(expected)
    assert texts(region, first, 7) == [line[:LINE_BYTES] for line in expected[first : first + 7]]
    for row in region.rows(region.counts.start, 50):
        assert region.rows(region.row_of(row.offset), 1) == [row]


@given(pieces=st.lists(st.binary(max_size=90_000), min_size=1, max_size=4))
def test_a_file_that_grew_reads_as_if_it_had_been_whole(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(b"")
    file = opened(path)
    region = Region(file, 0)
    for piece in pieces:
        before = file.size
        with path.open("ab") as out:
            out.write(piece)
        file.look()
        region.recount(before)
        region.forward(99)
    again = whole(opened(path))
    assert (region.counts.start, region.counts.end) == (again.counts.start, again.counts.end)
    assert region.rows(0, 9999) == again.rows(0, 9999)


def test_numbers_stand_still_while_more_becomes_known(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(60_000)))
    file = opened(path)
    region = Region(file, file.blocks - 1)
    region.forward(1)
    seen = region.rows(3, 5)
    region.back(99)
    assert region.whole
    assert region.rows(3, 5) == seen


def test_a_replaced_file_is_told_and_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\n" * 100)
    file = opened(path)
    other = tmp_path / "other"
    other.write_bytes(b"new\n")
    other.rename(path)
    assert "replaced" in file.look()
    assert texts(whole(file), 0, 9) == [b"new"]


@pytest.mark.parametrize("content", [b"x\n", b"grown past its old size\n" * 100])
def test_a_file_cut_in_place_is_told_even_when_it_outgrew_itself(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old line\n" * 100)
    file = opened(path)
    path.write_bytes(content)
    assert "anew" in file.look()
    assert texts(whole(file), 0, 1) == [content.split(b"\n")[0]]


def test_a_deleted_file_can_still_be_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"kept\n")
    file = opened(path)
    path.unlink()
    assert file.look() == ""
    assert file.deleted
    assert texts(whole(file), 0, 9) == [b"kept"]


def test_a_missing_file_is_empty_until_it_appears(tmp_path: Path) -> None:
    file = opened(tmp_path / "log")
    assert texts(whole(file), 0, 5) == []
    file.path.write_bytes(b"here\n")
    assert file.look() == ""
    assert texts(whole(file), 0, 5) == [b"here"]


def test_a_line_longer_than_blocks_is_cut_and_the_next_is_found(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * (3 * BLOCK) + b"\nnext\n")
    assert texts(whole(opened(path)), 0, 3) == [b"a" * LINE_BYTES, b"next"]


def test_a_progress_bar_of_many_kilobytes_is_read_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    bars = b"".join(b"\rexport %d%%" % (n // 1000) for n in range(99_001))
    path.write_bytes(b"start\n" + bars + b"\nend\n")
    rows = texts(whole(opened(path)), 0, 3)
    assert rows[1].endswith(b"\rexport 99%")
    assert rows[2] == b"end"


def test_what_is_held_of_a_large_log_is_small(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a line of a log\n" * 500_000)
    region = whole(opened(path))
    assert region.counts.end == 500_000
    assert len(region.counts._after) * 8 < 2000


def test_lines_before_the_unsettled_block_do_not_change(tmp_path: Path) -> None:
    assert unsettled(0) == 0
    assert unsettled(BLOCK) == 0
    assert unsettled(BLOCK + LINE_BYTES + 1) == 1


# -- levels

LINES = {
    b'I1121 00:02:56.545741 30405 main.cc:245] "error: 0 failed"': Level.INFO,
    b'E1121 00:02:56.545741 30405 main.cc:245] "failed to start"': Level.ERROR,
    b'2026-11-21T00:00:04Z W 26013 file.cc:703] "slow"': Level.WARNING,
    b'E1121 00:02:56.5 1 server.cc:241] "CudaDriverHelper has not been initialized."': Level.INFO,
    b"Error: Failed to initialize NVML": Level.INFO,
    b"error: creating server: Internal - failed to load all models": Level.ERROR,
    b"[libprotobuf ERROR text_format.cc:337] Error parsing text-format": Level.ERROR,
    b"[NeMo W 2026-09-21 14:00:00 export:1] x": Level.WARNING,
    b"[NeMo I 2026-09-21 14:00:00 export:1] error rate 0.1": Level.INFO,
    b"[11/21/2026-10:00:00] [TRT] [E] no": Level.ERROR,
    b"[TensorRT-LLM][WARNING] no": Level.WARNING,
    b"DEBUG:root:trace": Level.VERBOSE,
    b"Traceback (most recent call last):": Level.ERROR,
    b"ValueError: no": Level.ERROR,
    b"  warnings.warn(": Level.WARNING,
    b"room 7 is booked": Level.INFO,
    b"": Level.INFO,
}


@pytest.mark.parametrize(("line", "expected"), LINES.items())
def test_a_line_has_the_level_it_names_or_sounds_like(line: bytes, expected: Level) -> None:
    assert level(line) is expected


@given(st.lists(st.sampled_from(list(LINES)), max_size=30))
def test_counting_a_piece_agrees_with_looking_at_each_line(lines: list[bytes]) -> None:
    found = tally(b"\n".join(lines))
    levels = [level(line) for line in lines]
    counts = (Level.VERBOSE, Level.WARNING, Level.ERROR)
    assert (found.verbose, found.warnings, found.errors) == tuple(map(levels.count, counts))
