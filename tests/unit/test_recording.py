"""Recordings: what is read back is what was written, whatever happens to the writer."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.desk.replay import Replay
from console.telemetry.reading import GpuProcess, GpuReading, HostReading, ProcessTree, Reading
from console.telemetry.recording import (
    BLOCK,
    Limits,
    Recorded,
    Recording,
    Unreadable,
    _column,
    _columns,
)
from console.triton.reading import GenerationReading, ModelReading, ServerReading
from console.triton.recorder import ViewRecorder

START = 1_700_000_000.0


def reading(number: int, gpus: int = 2) -> Reading:
    return Reading(
        time=START + number,
        monotonic=float(number),
        gpus=tuple(
            GpuReading(i, memory_used=number << 20, power=100.5 + i, throttle=() if i else None)
            for i in range(gpus)
        ),
        host=HostReading(cpu_percent=number % 100 / 2, load=(1.5, 2.0, 3.0), memory_used=number),
        processes=(GpuProcess(7, 0, memory=number << 19, command="python", owner="run-1"),),
        trees=(ProcessTree("run-1", 7, (7, 8), memory=5),) if number % 2 else (),
    )


def server(number: int, live: bool = True) -> ServerReading:
    model = ModelReading("m", "1", "READY", requests=2.5, batches=((1, number), (4, 2)))
    return ServerReading(
        "s",
        "http://127.0.0.1:1",
        time=START + number,
        live=live,
        models=(model,) if live else (),
        generation=GenerationReading(tokens=12.5) if number % 3 == 0 else None,
    )


def recorded(path: Path, count: int) -> Path:
    into = ViewRecorder(path, "a test", Limits(age=1e12))
    for number in range(count):
        into.add(reading(number), (server(number, live=number != 5),))
    into.mark("step", "export running", "run-1", START + 3)
    into.close()
    assert into.problem == ""
    return path


@pytest.mark.parametrize("count", [1, 7, BLOCK, 2 * BLOCK + 5])
def test_a_replay_tells_exactly_what_was_recorded(tmp_path: Path, count: int) -> None:
    source = Replay(recorded(tmp_path / "r", count))
    views = list(source.views())
    assert [view.reading for view in views] == [reading(n) for n in range(count)]
    assert [view.servers for view in views] == [(server(n, n != 5),) for n in range(count)]
    source.close()


def test_seeking_goes_to_the_sample_before_that_moment(tmp_path: Path) -> None:
    source = Replay(recorded(tmp_path / "r", 100))
    assert source.seek(START + 71.9).time == START + 71
    assert source.seek(START - 50).time == START
    assert source.seek(START + 1e6).time == source.seek(None).time == START + 99
    assert (source.snapshot().start, source.snapshot().end) == (START, START + 99)


def test_history_marks_and_gaps_end_at_the_chosen_moment(tmp_path: Path) -> None:
    source = Replay(recorded(tmp_path / "r", 100))
    source.seek(START + 80)
    curve = source.history("gpu/0/memory", 40, 40)
    assert curve.last == curve.largest == 80 << 20
    requests = source.history("server/s/requests", 80, 81).values
    assert requests.count(None) >= 1 and 2.5 in requests
    assert [m.text for m in source.marks(80)] == [
        "export running",
        "does not answer",
        "answers again",
    ]
    assert "gpu/1/power" in source.series()


def test_the_file_is_private_and_one_file_when_closed(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", 5)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_a_killed_recorder_loses_no_committed_sample(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path;"
        "from tests.unit.test_recording import *;"
        "into = ViewRecorder(Path(sys.argv[1]), 'killed', Limits(age=1e12));"
        "[into.add(reading(n), (server(n),)) for n in range(90)];"
        "print('written', flush=True); time.sleep(60)"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "r")],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "written\n"
    during = Replay(tmp_path / "r")
    assert len(list(during.views())) == 90
    during.close()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    after = Replay(tmp_path / "r")
    assert [v.reading for v in after.views()] == [reading(n) for n in range(90)]
    after.close()
    more = ViewRecorder(tmp_path / "r", "goes on", Limits(age=1e12))
    more.add(reading(90))
    more.close()
    assert len(list(Replay(tmp_path / "r").views())) == 91


def test_the_oldest_part_goes_when_the_file_is_too_large(tmp_path: Path) -> None:
    limits = Limits(size=60 << 10, age=1e12)
    into = ViewRecorder(tmp_path / "r", "bounded", limits)
    for number in range(40 * BLOCK):
        into.add(reading(number, gpus=4), (server(number),))
    into.close()
    assert (tmp_path / "r").stat().st_size < 120 << 10
    source = Replay(tmp_path / "r")
    assert source.start > START and source.end == START + 40 * BLOCK - 1


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    into = Recording(tmp_path / "r", {}, Limits(age=3600))
    for number in range(BLOCK):
        into.add(START + number, {"reading": reading(number)}, {})
    for number in range(BLOCK):
        into.add(time.time() + number, {"reading": reading(number)}, {})
    into.close()
    assert Recorded(tmp_path / "r").spans()[0].start > START + BLOCK


def test_a_place_that_cannot_be_written_is_said_and_harms_nobody(tmp_path: Path) -> None:
    into = ViewRecorder(tmp_path / "none" / "r", "nowhere")
    into.add(reading(1))
    assert "telemetry is not recorded: No such file" in into.problem
    into.close()


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "r").symlink_to(tmp_path / "elsewhere")
    into = ViewRecorder(tmp_path / "r", "link")
    into.add(reading(1))
    assert into.problem and not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"SQLite format 3\0" + b"x" * 4096])
def test_what_is_no_recording_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r").write_bytes(content)
    with pytest.raises(Unreadable, match="not a recording"):
        Replay(tmp_path / "r")


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), PLAIN), min_size=1, max_size=8))
def test_columns_hold_every_value_with_its_type(rows: list[dict[str, object]]) -> None:
    columns = _columns(rows)  # type: ignore[arg-type]
    for name, packed in columns.items():
        there = _column(packed, len(rows))
        for row, value in zip(rows, there, strict=True):
            if name in row:
                assert value == row[name] and type(value) is type(row[name])
            else:
                assert value == "\0"
