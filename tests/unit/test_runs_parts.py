"""The parts of a run that need no process: keys, progress, failure texts, probes' rules, folding."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.facts import InferenceAnswer, TensorAnswer
from console.planning.plan import Expected, Inference, LogMarker, ProgressRule
from console.runs import context as contexts
from console.runs import failure, journal, keys, saved
from console.runs.progress import LogProgress
from console.runs.store import RunStore
from tests.processes import plan, settings_at, shell

MEGABYTE = 1 << 20


def keep_times(path: Path, change: bytes, offset: int) -> None:
    """Change bytes inside a file without changing its size or its time of change."""
    before = path.stat()
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(change)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# ---------------------------------------------------------------------------- keys


def test_a_file_is_known_by_its_header_and_its_last_block(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(4 * MEGABYTE))
    seen = {keys.fingerprint(path)}
    for offset in (0, 4 * MEGABYTE - 1):
        keep_times(path, b"!", offset)
        seen.add(keys.fingerprint(path))
    assert len(seen) == 3


def test_a_small_file_is_known_by_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(bytes(100_000))
    before = keys.fingerprint(path)
    keep_times(path, b"!", 55_555)
    assert keys.fingerprint(path) != before


def test_a_touched_file_counts_as_changed(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"same")
    before = keys.fingerprint(path)
    os.utime(path, ns=(1, 1))
    assert keys.fingerprint(path) != before


def test_a_folder_is_known_by_its_listing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1")
    seen = {keys.fingerprint(tmp_path)}
    (tmp_path / "a" / "y").write_bytes(b"")
    seen.add(keys.fingerprint(tmp_path))
    (tmp_path / "a" / "y").rename(tmp_path / "a" / "z")
    seen.add(keys.fingerprint(tmp_path))
    assert len(seen) == 3


def test_a_missing_input_and_a_pipe_do_not_block_or_raise(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert keys.fingerprint(tmp_path / "nothing") == "missing"
    assert keys.fingerprint(tmp_path / "pipe") == "missing"


def test_sampling_reads_a_small_part_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        stream.truncate(64 << 30)  # takes no room; reading it all would take a minute
    assert len(keys.fingerprint(path)) == 64


# ---------------------------------------------------------------------------- progress


def test_progress_lines_in_pieces_and_with_carriage_returns(tmp_path: Path) -> None:
    log = tmp_path / "log"
    said = LogProgress(log, ProgressRule(pattern=r"step (?P<fraction>\d+)/100"))
    assert not said.look()
    log.write_bytes(b"step 12/100\rstep 1")
    assert said.look() and said.fraction == pytest.approx(0.12)
    with log.open("ab") as stream:
        stream.write(b"3/100\n[tritondeck] progress 0.5 half way\x1b[2J\n")
    assert said.look() and (said.fraction, said.message) == (0.5, "half way")
    assert not said.look()


def test_a_log_that_grows_while_it_is_looked_at_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, size = tmp_path / "log", Path.stat
    log.write_bytes(b"[tritondeck] progress 0.5 half\n")

    def grows(path: Path, **named: bool) -> os.stat_result:
        info = size(path, **named)
        with path.open("ab") as stream:
            stream.write(b"[tritondeck] prog")
        return info

    said = LogProgress(log)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", grows)
        assert said.look() and said.message == "half"
    with log.open("ab") as stream:
        stream.write(b"ress 0.6 more\n")
    assert said.look() and said.message == "more"


def test_a_flood_of_output_is_looked_at_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"noise\n" * MEGABYTE + b"[tritondeck] progress 0.9 nearly\n")
    said = LogProgress(log)
    assert said.look() and said.message == "nearly"


def test_what_comes_too_soon_after_the_one_before_is_not_taken_for_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((100.0, 100.1, 100.3))
    monkeypatch.setattr(contexts, "time", SimpleNamespace(monotonic=lambda: next(times)))
    run: Any = SimpleNamespace(attempt=1, folder=SimpleNamespace(progress=tmp_path / "progress"))
    context = contexts.Context(run, shell("build", "true"))
    assert [context.shown(word) for word in ("one", "two", "two")] == [True, False, True]
    assert json.loads(run.folder.progress.read_text())["message"] == "two"


@given(st.binary(max_size=300))
def test_no_log_breaks_the_progress_reader(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    log = tmp_path_factory.mktemp("log") / "log"
    log.write_bytes(data)
    said = LogProgress(log, ProgressRule(pattern=r"(?P<fraction>\S+) (?P<message>.*)"))
    said.look()
    assert said.fraction is None or 0 <= said.fraction <= 1
    assert "\x1b" not in said.message


# ---------------------------------------------------------------------------- failure texts


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (
            "Traceback (most recent call last):\n  File 'x'\n    y\nValueError: bad\n",
            "ValueError: bad",
        ),
        ("error: no CUDA\ncleaning up\n-----\n\n", "error: no CUDA"),
        ("one\ntwo\n", "two"),
        ("ValueError: x\n[tritondeck] error: too long a sound\nerror: bye\n", "too long a sound"),
        ("[tritondeck] progress 0.5 x\n", ""),
        ("", ""),
    ],
)
def test_the_cause_is_the_last_line_that_reads_like_one(
    tmp_path: Path, log: str, expected: str
) -> None:
    (tmp_path / "log").write_text(log)
    assert failure.cause(failure.last_lines(tmp_path / "log")) == expected


def test_last_lines_are_cleaned_and_redacted(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\x1b]0;x\x07error: my-own-secret and hf_abcdefghijklmnop12\n")
    lines = failure.last_lines(tmp_path / "log", ["my-own-secret"])
    assert lines == ("error: ‹secret› and ‹secret›",)


# ---------------------------------------------------------------------------- answers, journal


def test_an_answers_text_is_its_words_and_numbers_are_shown_with_their_shape() -> None:
    text = TensorAnswer("TEXT", "BYTES", (1,), ("one two\x1b[2J",))
    scores = TensorAnswer("SCORES", "FP32", (1, 8), tuple(i / 3 for i in range(8)))
    probe = Inference(title="t", model="m", inputs=(), expect=(Expected(output="TEXT"),))
    assert saved.words(InferenceAnswer("m", "1", (scores, text), 0.1), probe) == "one two"
    shown = saved.words(InferenceAnswer("m", "1", (scores,), 0.1), probe)
    assert shown == "SCORES [1, 8]: 0, 0.3333, 0.6667, 1, 1.333, 1.667, …"


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_bytes_are_a_readable_journal(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    path.write_bytes(b"\n".join(lines))
    written = journal.Journal(path)
    written.append("end", state="failed")
    assert journal.read(path)[-1]["state"] == "failed"


def test_durations_do_not_cross_a_reboot() -> None:
    begun = {"boot": "a", "monotonic": 100.0}
    assert journal.between(begun, {"boot": "a", "monotonic": 103.5}) == 3.5
    assert journal.between(begun, {"boot": "b", "monotonic": 1.0}) is None


# ---------------------------------------------------------------------------- the store, nothing started


def test_the_number_of_a_deleted_run_is_not_given_again(tmp_path: Path) -> None:
    store = RunStore(settings_at(tmp_path))
    made = [store.create(plan(shell("work", "true")), "") for _ in range(2)]
    store.delete(made[1])
    assert store.create(plan(shell("work", "true")), "") == "digits-3"
    other = plan(shell("work", "true"), deployment="scorer")
    assert store.create(other, "") == "scorer-1"


def test_two_consoles_that_make_runs_at_once_get_different_numbers(tmp_path: Path) -> None:
    def create(_: int) -> str:
        return RunStore(settings_at(tmp_path)).create(plan(shell("work", "true")), "")

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(create, range(16)))
    assert sorted(made) == sorted(f"digits-{number}" for number in range(1, 17))


@pytest.mark.parametrize("kind", [LogMarker, ProgressRule])
def test_a_broken_regular_expression_is_refused_when_the_plan_is_made(
    kind: type[LogMarker | ProgressRule],
) -> None:
    with pytest.raises(ValueError, match=r"not a regular expression: missing \)"):
        kind(pattern="done (in")
