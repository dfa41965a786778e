"""The form for unknown models: what may be typed, and what it becomes."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from console.facts import (
    FieldKind,
    InferenceAnswer,
    ModelMetadata,
    PromptAdapter,
    TensorAnswer,
    TensorSpec,
    UsageError,
)
from console.triton.tensorform import TensorForm, shaped


def form(*inputs: TensorSpec, folder: Path | None = None) -> TensorForm:
    return TensorForm(ModelMetadata("m", ("1",), "python", inputs, ()), folder)


def one(spec: TensorSpec, typed: str, folder: Path | None = None):
    (tensor,) = form(spec, folder=folder).request({spec.name: typed}).inputs
    return tensor


VECTOR = TensorSpec("X", "FP32", (-1, 4))
PHOTO = TensorSpec("image", "FP32", (-1, 3, 32, 48))


def test_it_is_a_prompt_adapter():
    assert isinstance(form(VECTOR), PromptAdapter)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (TensorSpec("TEXT", "BYTES", (-1,)), FieldKind.TEXT),
        (TensorSpec("WAV", "BYTES", (1,)), FieldKind.SOUND),
        (TensorSpec("audio_signal", "FP32", (-1, -1)), FieldKind.SOUND),
        (TensorSpec("SAMPLES", "FP32", (-1,)), FieldKind.SOUND),
        (PHOTO, FieldKind.IMAGE),
        (TensorSpec("x", "UINT8", (-1, 224, 224, 3)), FieldKind.IMAGE),
        (TensorSpec("x", "FP32", (1, 28, 28)), FieldKind.IMAGE),
        (TensorSpec("x", "FP32", (-1, 3, -1, -1)), FieldKind.IMAGE),
        (VECTOR, FieldKind.TENSOR),
        (TensorSpec("x", "INT64", (-1, 3, 32, 32)), FieldKind.TENSOR),
        (TensorSpec("x", "FP32", (-1, 3, 4, 4)), FieldKind.TENSOR),
        (TensorSpec("x", "FP32", (8, 3, 32, 32)), FieldKind.TENSOR),
        (TensorSpec("sampling_rate", "INT32", (1,)), FieldKind.TENSOR),
    ],
)
def test_each_input_offers_what_it_looks_like(spec, kind):
    assert form(spec).fields[0].kind is kind


@pytest.mark.parametrize(
    ("typed", "shape", "values"),
    [
        ("[1, 2, 3, 4]", (1, 4), (1, 2, 3, 4)),
        ("[[1, 2, 3, 4], [5, 6, 7, 8]]", (2, 4), (1, 2, 3, 4, 5, 6, 7, 8)),
        ("zeros", (1, 4), (0, 0, 0, 0)),
        ("zeros(2, 4)", (2, 4), (0,) * 8),
    ],
)
def test_numbers_take_the_shape_of_the_input(typed, shape, values):
    tensor = one(VECTOR, typed)
    assert (tensor.shape, tensor.values) == (shape, values)


def test_a_scalar_fills_a_single_element():
    assert one(TensorSpec("n", "INT32", (-1, 1)), "7").values == (7,)


@pytest.mark.parametrize(
    ("spec", "typed", "words"),
    [
        (VECTOR, "[1, 2, 3]", r"takes shape \[-1, 4\], got \[3\]"),
        (VECTOR, "[[1, 2], [3]]", "different lengths"),
        (VECTOR, '["a"]', "takes FP32 numbers"),
        (VECTOR, "hello", "neither JSON, a file, zeros nor random"),
        (VECTOR, "gone.npy", "no file .*gone.npy"),
        (VECTOR, "~nobody-of-that-name/gone.npy", "no file .*gone.npy"),
        (VECTOR, "g" * 300 + ".npy", "no file"),
        (VECTOR, "zeros(4, 5)", r"takes shape \[-1, 4\], not \[4, 5\]"),
        (VECTOR, "zeros(99999999, 4)", "too large"),
        (VECTOR, "", "X is empty"),
        (TensorSpec("n", "INT64", (1,)), "1.5", "whole numbers only"),
        (TensorSpec("n", "UINT8", (1,)), "256", "from 0 to 255"),
        (TensorSpec("n", "BOOL", (1,)), "2", "from 0 to 1"),
        (TensorSpec("WAV", "BYTES", (1,)), "gone.wav", "no file"),
        (TensorSpec("T", "BYTES", (2,)), "one", r"1 text\(s\) do not fill it"),
    ],
)
def test_what_does_not_fit_is_said_with_the_name_of_the_input(spec, typed, words):
    with pytest.raises(UsageError, match=words) as caught:
        one(spec, typed)
    assert spec.name in str(caught.value)


def test_numbers_that_are_longer_than_a_file_name_are_numbers():
    typed = "[" + ", ".join(["0.25"] * 100) + "]"
    assert one(TensorSpec("X", "FP32", (100,)), typed).values == (0.25,) * 100


def test_an_optional_input_may_stay_empty():
    spec = TensorSpec("X", "FP32", (1,), optional=True)
    assert form(spec).request({}).inputs == ()
    assert form(spec).fields[0].required is False


def test_text_is_one_element_and_a_json_list_several():
    spec = TensorSpec("TEXT", "BYTES", (-1, 1))
    assert (one(spec, "[hi").shape, one(spec, "[hi").values) == ((1, 1), ("[hi",))
    several = TensorSpec("TEXT", "BYTES", (-1,))
    assert one(several, '["a", "b"]').values == ("a", "b")


def test_a_text_may_come_from_a_file(tmp_path):
    file = tmp_path / "t.txt"
    file.write_text("x")
    assert one(TensorSpec("TEXT", "BYTES", (-1,)), f"file:{file}").file == file


def test_random_is_the_same_every_time(tmp_path):
    assert one(VECTOR, "random") == one(VECTOR, "random")
    assert one(PHOTO, "random", tmp_path).file == one(PHOTO, "random", tmp_path).file


def test_an_npy_file_is_cast_and_shaped(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(4))
    assert one(VECTOR, str(tmp_path / "a.npy")).values == (0.0, 1.0, 2.0, 3.0)


def test_a_pickled_npy_file_is_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="cannot read"):
        one(VECTOR, str(tmp_path / "a.npy"))


def picture(folder: Path, mode: str = "RGB") -> Path:
    """Left half black, right half full, 96 × 64."""
    image = Image.new(mode, (96, 64))
    image.paste("white" if mode == "L" else (255, 128, 0), (48, 0, 96, 64))
    image.save(folder / "a.png")
    return folder / "a.png"


def test_a_picture_is_scaled_to_the_models_sides_and_to_one(tmp_path):
    tensor = one(PHOTO, str(picture(tmp_path)), tmp_path)
    array = np.load(tensor.file)
    assert (tensor.shape, array.shape, array.dtype) == ((1, 3, 32, 48), (1, 3, 32, 48), np.float32)
    np.testing.assert_allclose(array[0, :, 16, -1], [1.0, 128 / 255, 0.0])
    assert not array[0, :, 16, 0].any()


def test_a_picture_for_uint8_keeps_its_bytes_with_channels_last(tmp_path):
    spec = TensorSpec("x", "UINT8", (-1, 64, 96, 3))
    array = np.load(one(spec, str(picture(tmp_path)), tmp_path).file)
    assert array[0, 0, -1].tolist() == [255, 128, 0]


def test_a_grey_input_gets_one_channel(tmp_path):
    spec = TensorSpec("x", "FP32", (1, 28, 28))
    tensor = one(spec, str(picture(tmp_path)), tmp_path)
    assert (tensor.shape, tensor.values is not None) == ((1, 28, 28), True)


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(UsageError, match="not a picture that can be read"):
        one(PHOTO, str(tmp_path / "a.png"))


def test_a_sound_file_for_samples_becomes_one_channel(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(np.array([[16384, 0], [-32768, -32768]], "<i2").tobytes())
    tensor = one(TensorSpec("samples", "FP32", (-1, -1)), str(tmp_path / "a.wav"))
    assert (tensor.shape, tensor.values) == ((1, 2), (0.25, -1.0))


def test_kept_tensors_are_private(tmp_path):
    file = one(PHOTO, "random", tmp_path / "kept").file
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


@given(hnp.array_shapes(min_dims=1, max_dims=4, max_side=5), st.data())
def test_an_array_that_fits_is_never_changed(shape, data):
    wanted = tuple(data.draw(st.sampled_from([d, -1])) for d in shape)
    array = np.arange(np.prod(shape)).reshape(shape)
    assert shaped(TensorSpec("x", "INT64", wanted), array) is array


def test_answers_show_text_as_it_is_and_numbers_with_their_range():
    answer = InferenceAnswer(
        "m",
        "1",
        (
            TensorAnswer("TEXT", "BYTES", (1,), ("one\x1b[31m two",)),
            TensorAnswer("P", "FP32", (1, 3), (0.25, 2.0, float("nan"))),
        ),
        0.0123,
    )
    assert form(VECTOR).answer(answer) == (
        "TEXT: one two\nP FP32 [1, 3]: 0.25, 2, nan · min 0.25 · max 2 at 1 · 1 not finite\n(12 ms)"
    )
