"""Whether an answer is right, and what is said when it is not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from console.facts import InferenceAnswer, TensorAnswer
from console.planning.plan import Expected, Inference
from console.planning.script_helper import answer_problem
from console.triton.verify import judge


def answer(*values: object, dtype: str = "FP32") -> InferenceAnswer:
    shape = (1, len(values))
    return InferenceAnswer("m", "1", (TensorAnswer("Y", dtype, shape, values),), 0.01)


@pytest.mark.parametrize(
    "expected",
    [
        Expected(output="Y", equals=(1.0, 2.0)),
        Expected(output="Y", near=(1.00005, 2.0)),
        Expected(output="Y", shape=(1, 2)),
        Expected(output="Y", shape=(-1, 2)),
        Expected(output="Y"),
    ],
)
def test_what_holds_is_right(expected):
    assert judge(answer(1.0, 2.0), (expected,)) is None


@pytest.mark.parametrize(
    ("given", "expected", "words"),
    [
        (answer(1.0), Expected(output="Z"), "there is no output Z, only Y"),
        (answer(1.0), Expected(output="Y", shape=(1, 2)), "shape [1, 1], expected [1, 2]"),
        (answer(1.0), Expected(output="Y", near=(1.1,)), "value 0 is 1, expected 1.1"),
        (answer(1.0), Expected(output="Y", near=(1.0, 2.0)), "1 values, expected 2"),
        (answer(math.nan), Expected(output="Y"), "1 of 1 values are not finite (nan)"),
        (answer(math.inf), Expected(output="Y", finite=True), "not finite"),
        (answer("one", dtype="BYTES"), Expected(output="Y", equals=("two",)), "'one', expected"),
        (answer("one", dtype="BYTES"), Expected(output="Y", near=(1.0,)), "are not numbers"),
        (answer(), Expected(output="Y", equals=(1,)), "expected 1"),
    ],
)
def test_what_differs_is_said(given, expected, words):
    assert words in str(judge(given, (expected,)))


def test_nan_is_never_near_anything():
    expected = Expected(output="Y", near=(1.0,), finite=False)
    assert judge(answer(math.nan), (expected,)) is not None


def test_without_expectations_any_finite_answer_is_right_but_nothing_is_not():
    assert judge(answer(1.0), ()) is None
    assert "not finite" in str(judge(answer(math.nan), ()))
    assert judge(InferenceAnswer("m", "1", (), 0.0), ()) == "the answer has no outputs"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kept", "given", "words"),
    [
        ((3.0, 4.0), (3.0, 4.0), ""),
        ((3.0, 4.0), (3.0, 4.04), ""),
        ((3.0, 4.0), (3.0, 4.5), "of its norm"),
        ((3.0, 4.0), (math.nan, 4.0), "finite"),
        ((3.0, 4.0), (3.0,), "1 values, expected 2"),
        ((), (3.0, 4.0), ""),
    ],
)
def test_a_reference_in_a_file_is_kept_within_a_part_of_its_norm(
    kept: tuple[float, ...], given: tuple[float, ...], words: str, dtype: type, tmp_path: Path
) -> None:
    """By the judge of a run, and by the script's own, which has no NumPy."""
    file = tmp_path / "answer.npy"
    np.save(file, np.array(kept, dtype))
    expected = Expected(output="Y", near_file=str(file), tolerance=0.01)
    probe = Inference(title="t", model="m", inputs=(), expect=(expected,))
    spec, files = probe.indexed()
    outputs = {"Y": ([1, len(given)], list(given))}
    for said in (
        judge(answer(*given), (expected,)),
        answer_problem(outputs, spec["expect"], files),
    ):
        assert (words in said if words else False) if said else not words
