"""The Try form of classifiers and speaker models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.labels import LabelsForm
from console.facts import InferenceAnswer, ModelMetadata, TensorAnswer, TensorSpec, UsageError

EMBEDDING = TensorSpec("EMBEDDING", "FP32", (-1, -1))
RANKING = json.dumps([{"label": "stop\x1b[31m", "score": 0.75}, {"label": "go", "score": 0.25}])


def form(batch: int = 8, outputs: tuple[TensorSpec, ...] = (EMBEDDING,)) -> LabelsForm:
    return LabelsForm(ModelMetadata("m", ("1",), "python", (), outputs, batch))


def answer(*tensors: TensorAnswer) -> InferenceAnswer:
    return InferenceAnswer("m", "1", tensors, 0.01)


def test_only_a_speaker_model_that_batches_takes_a_second_sound():
    assert [field.name for field in form().fields] == ["sound", "other"]
    assert [field.name for field in form(outputs=()).fields] == ["sound"]
    assert [field.name for field in form(batch=0).fields] == ["sound"]


def test_two_sounds_become_one_request_of_two_rows(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    values = {"sound": str(tmp_path / "a"), "other": str(tmp_path / "b")}
    (tensor,) = form().request(values).inputs
    assert (tensor.shape, tensor.values) == ((2, 1), (b"a", b"b"))
    with pytest.raises(UsageError, match="one sound at a time"):
        form(batch=1).request(values)


def test_a_ranking_is_shown_clean_and_a_broken_one_is_said():
    shown = form().answer(answer(TensorAnswer("RANKING", "BYTES", (1, 1), (RANKING,))))
    assert "0.750  stop" in shown and "0.250  go" in shown and "\x1b" not in shown
    broken = form().answer(answer(TensorAnswer("RANKING", "BYTES", (1, 1), ("{",))))
    assert "could not be read" in broken


def test_embeddings_are_described_and_two_compared():
    values = (3.0, 4.0, 4.0, 3.0)
    shown = form().answer(answer(TensorAnswer("EMBEDDING", "FP32", (2, 2), values))).splitlines()
    assert shown[0] == "embedding of 2 numbers, norm 5.000: 3.000, 4.000"
    assert shown[2] == "cosine of the two voices: 0.960"
