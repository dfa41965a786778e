"""The transducer's search and the choice of a language, without a model: bounds and columns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit.test_speech_model import load

transducer, decoding = load("transducer"), load("decoding")
BLANK = 3


class Joint:
    """A joint network that reads its scores from the frame itself and counts in its state."""

    def run(self, names, feed):
        frames = feed["encoder_outputs"][:, :, 0]
        rows = len(frames)
        assert feed["targets"].shape == (rows, 1) and feed["targets"].dtype == np.int32
        assert feed["input_states_1"].shape == (1, rows, 2)
        return [frames[:, None, None, :], feed["input_states_1"] + 1, feed["input_states_2"]]


def search(tmp_path: Path, durations: tuple[int, ...] = ()):
    saved = {"blank": BLANK, "max_symbols": 2, "durations": durations, "state": [1, 2]}
    (tmp_path / "transducer.json").write_text(json.dumps(saved))
    return transducer.Transducer(str(tmp_path / "transducer.json"), Joint())


def encoded(*rows: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of frames, padded to [B, D, T] with frames that would say something."""
    steps = np.array([len(row) for row in rows], np.int64)
    batch = np.full((len(rows), len(rows[0][0]), steps.max()), 9.0, np.float32)
    for place, row in zip(batch, rows, strict=True):
        place[:, : len(row)] = np.array(row).T
    return batch, steps


SAYS_0, SAYS_1, SILENT = [5.0, 1, 0, 0], [0.0, 5, 1, 0], [0.0, 0, 0, 5]


def ids(tokens):
    return [[(token[0], token[1]) for token in row] for row in tokens]


def test_a_model_that_never_says_blank_goes_on_after_the_most_symbols(tmp_path):
    values, steps = encoded([SAYS_0, SAYS_1])
    assert ids(search(tmp_path)(values, steps, [None])) == [[(0, 0), (0, 0), (1, 1), (1, 1)]]


def test_rows_of_unequal_length_end_where_they_end(tmp_path):
    values, steps = encoded([SILENT, SAYS_1, SILENT], [SAYS_0])
    assert ids(search(tmp_path)(values, steps, [None, None])) == [
        [(1, 1), (1, 1)],
        [(0, 0), (0, 0)],
    ]


def test_a_row_of_no_steps_says_nothing(tmp_path):
    values, steps = encoded([SAYS_0])
    assert search(tmp_path)(values, steps * 0, [None]) == [[]]


def test_a_language_keeps_the_search_to_its_columns(tmp_path):
    values, steps = encoded([SAYS_0], [SAYS_0])
    assert ids(search(tmp_path)(values, steps, [(1, 3), None])) == [
        [(1, 0), (1, 0)],
        [(0, 0), (0, 0)],
    ]


def test_a_duration_skips_steps(tmp_path):
    skip_two = [0.0, 0, 9]
    values, steps = encoded([[*SAYS_0, *skip_two], [*SAYS_1, *skip_two], [*SAYS_1, *skip_two]])
    (row,) = search(tmp_path, (0, 1, 2))(values, steps, [None])
    assert [token[:3] for token in row] == [(0, 0, 2), (1, 2, 3)]


def test_a_blank_of_no_duration_still_goes_on(tmp_path):
    values, steps = encoded([[*SILENT, 9.0, 0, 0], [*SILENT, 9.0, 0, 0]])
    assert search(tmp_path, (0, 1, 2))(values, steps, [None]) == [[]]


def test_confidence_within_a_language_counts_only_what_it_can_say():
    logprobs = np.log(np.array([[0.6, 0.3, 0.05, 0.05]]))
    ((token, _, _, score),) = decoding.greedy(logprobs, 1, BLANK, (1, 3))
    assert token == 1
    assert np.exp(score) == pytest.approx(0.3 / 0.4)


def test_stretches_of_two_languages_are_joined_by_their_own_rules(tmp_path):
    part = {
        "kind": "bpe", "unknown": [], "unknown_text": "", "control": [], "byte": [],
        "strip_first": True, "strip_all": False, "punctuation": [], "seconds_per_step": 0.08,
    }  # fmt: skip
    parts = [
        {**part, "pieces": ["▁one", "x"], "blank": 2},
        {**part, "pieces": ["▁eins", "y"], "blank": 2},
    ]
    saved = {
        "languages": ["en", "de"], "parts": parts, "masked": False,
        "seconds_per_step": 0.08, "blank": 4,
    }  # fmt: skip
    (tmp_path / "vocabulary.json").write_text(json.dumps(saved))
    found = decoding.load_vocabulary(str(tmp_path / "vocabulary.json"))
    assert found.text([0, 1, 2, 3, 0]) == "onex einsy one"
    assert found.text([0, 3]) == "oney"
    assert [found.columns(name) for name in ("", "en", "de")] == [None, (0, 2), (2, 4)]
    words = found.words([(0, 0, 1, 0.0), (2, 1, 2, 0.0)])
    assert [word["word"] for word in words] == ["one", "eins"]
