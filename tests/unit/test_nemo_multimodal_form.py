"""The form of a served multimodal model, with real media files, and the worker that reads media."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.multimodal import form
from backends.multimodal.form import MultimodalForm
from backends.nemo_multimodal import NemoMultimodalBackend
from console.facts import (
    DeckError,
    Endpoint,
    FieldKind,
    InferenceAnswer,
    InferenceRequest,
    ModelMetadata,
    TensorAnswer,
    TensorSpec,
    UsageError,
)
from console.planning.deployment import Deployment
from console.triton.inference import array
from tests import mediafiles

BACKEND = NemoMultimodalBackend()
WORKER = Path(__file__).parents[2] / "backends" / "workers" / "nemo_media.py"
HERE = Endpoint("http://127.0.0.1:1")
SETTINGS = {
    "batch_size": "INT64",
    "max_output_len": "INT64",
    "top_k": "INT64",
    "top_p": "FP32",
    "temperature": "FP32",
    "repetition_penalty": "FP32",
    "num_beams": "INT64",
}


def served(adapter: str = "", *, sound: bool = False, lora: bool = True) -> ModelMetadata:
    """What PyTriton declares of a model, by upstream's class."""
    media = (
        (
            TensorSpec("input_signal", "FP32", (-1, -1)),
            TensorSpec("input_signal_length", "INT32", (-1, 1)),
        )
        if sound
        else (TensorSpec("input_media", "UINT8", (-1, -1, -1, -1, 3)),)
    )
    inputs = (
        TensorSpec("input_text", "BYTES", (-1, -1)),
        *media,
        *(TensorSpec(name, dtype, (-1, -1), True) for name, dtype in SETTINGS.items()),
        *((TensorSpec("lora_uids", "BYTES", (-1, -1), True),) if lora else ()),
    )
    outputs = (TensorSpec("outputs", "BYTES", (-1, -1)),)
    parameters = {"tritondeck_adapter": adapter} if adapter else {}
    return ModelMetadata("m", ("1",), "python", inputs, outputs, 1, parameters)


def made(kind: str) -> MultimodalForm:
    found = form.form(served(sound=kind == "salm"), kind)
    assert found
    return found


def sent(kind: str, path: Path, **values: str) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a request, as they go out."""
    asked = made(kind).request({"text": "What is this?", "media": str(path), **values})
    assert isinstance(asked, InferenceRequest)
    return {value.name: array(value) for value in asked.inputs}


# ---------------------------------------------------------------------------- media


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif"])
@pytest.mark.parametrize("kind", ["neva", "vila", "mllama"])
def test_a_picture_is_one_frame(tmp_path: Path, kind: str, suffix: str) -> None:
    media = sent(kind, mediafiles.picture(tmp_path / f"a.{suffix}"))["input_media"]
    assert media.shape == (1, 1, 48, 64, 3) and media.dtype == np.uint8


def test_a_video_is_all_of_its_frames_or_evenly_spaced_ones(tmp_path: Path) -> None:
    path = mediafiles.video(tmp_path / "a.mp4", count=300)
    assert sent("video-neva", path)["input_media"].shape == (1, 300, 48, 64, 3)
    for kind in ("lita", "vita"):
        media = sent(kind, path)["input_media"]
        assert media.shape == (1, 150, 48, 64, 3)
        assert media[0, 0].mean() < 5 and media[0, -1].mean() > 250


def test_an_animated_gif_is_a_video(tmp_path: Path) -> None:
    assert sent("vita", mediafiles.gif(tmp_path / "a.gif"))["input_media"].shape[1] == 5


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_sound_is_its_samples_and_their_number(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    mediafiles.wav(path) if name == "a.wav" else mediafiles.sound(path, "flac")
    tensors = sent("salm", path)
    assert tensors["input_signal"].shape == (1, 16_000)
    assert tensors["input_signal"].dtype == np.float32
    assert tensors["input_signal_length"].tolist() == [[16_000]]
    assert tensors["input_signal_length"].dtype == np.int32


def test_a_picture_with_a_very_long_side_is_scaled_down(tmp_path: Path) -> None:
    path = mediafiles.picture(tmp_path / "a.jpg", size=(4096, 1024))
    assert sent("neva", path)["input_media"].shape == (1, 1, 512, 2048, 3)


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("neva", "", "media is empty"),
        ("neva", "gone.jpg", "media: cannot read"),
        ("neva", "text.jpg", "its first bytes are text"),
        ("vita", "text.jpg", "not a video: its first bytes are text"),
        ("salm", "text.jpg", "not a sound: its first bytes are text"),
        ("salm", "short.wav", "0.50 s, and 0.64 s are needed"),
        ("salm", "long.wav", "lasts 3 h, and 30.7 s are taken at most"),
    ],
)
def test_a_file_that_will_not_do_is_said_in_one_sentence(
    tmp_path: Path, kind: str, name: str, said: str
) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    mediafiles.wav(tmp_path / "short.wav", seconds=0.5)
    mediafiles.endless_wav(tmp_path / "long.wav", 3)
    media = str(tmp_path / name) if name else ""
    with pytest.raises(UsageError, match=said):
        made(kind).request({"text": "x", "media": media})


# ---------------------------------------------------------------------------- text and settings


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        ("vila", {}, "<image>\n What is this?"),
        ("lita", {}, "<image>\n What is this?"),
        ("vita", {}, "<image>\n What is this?"),
        ("neva", {}, "What is this?"),
        ("vila", {"mark": "false"}, "What is this?"),
        ("vila", {"text": "Look: <image> What?"}, "Look: <image> What?"),
    ],
)
def test_the_mark_is_put_before_the_text_where_the_model_needs_it(
    tmp_path: Path, kind: str, values: dict[str, str], text: str
) -> None:
    tensors = sent(kind, mediafiles.picture(tmp_path / "a.png"), **values)
    assert tensors["input_text"].tolist() == [[text.encode()]]


def test_the_form_shows_the_mark_and_lets_it_be_left_out() -> None:
    marks = {kind: [f.name for f in made(kind).fields] for kind in ("neva", "vila", "vita")}
    assert "mark" not in marks["neva"]
    (field,) = (f for f in made("vila").fields if f.name == "mark")
    assert (field.kind, field.default) == (FieldKind.FLAG, "true")
    assert "<image>" in field.title


def test_settings_are_sent_as_upstreams_client_sends_them(tmp_path: Path) -> None:
    tensors = sent("neva", mediafiles.picture(tmp_path / "a.png"), top_k="5", temperature="0.5")
    found = {name: tensors[name].tolist() for name in SETTINGS}
    assert found == {
        "batch_size": [[1]], "max_output_len": [[64]], "top_k": [[5]], "top_p": [[0.0]],
        "temperature": [[0.5]], "repetition_penalty": [[1.0]], "num_beams": [[1]],
    }  # fmt: skip
    assert tensors["top_k"].dtype == np.int64 and tensors["top_p"].dtype == np.float32
    assert "lora_uids" not in tensors


def test_only_what_the_model_declares_is_asked_and_sent(tmp_path: Path) -> None:
    found = form.form(served(lora=False), "neva")
    assert found and "lora_uids" not in {field.name for field in found.fields}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"text": " "}, "text is empty"),
        ({"top_k": "many"}, "top_k is a whole number"),
        ({"top_k": "1.5"}, "top_k is a whole number"),
        ({"top_p": "x"}, "top_p is a number"),
    ],
)
def test_a_field_that_is_wrong_is_named(tmp_path: Path, values: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        sent("neva", mediafiles.picture(tmp_path / "a.png"), **values)


# ---------------------------------------------------------------------------- which form


def test_a_deployment_a_model_or_the_operator_tells_the_type() -> None:
    deployment = Deployment(
        name="x", backend=BACKEND.name, checkpoints={}, options={"model_type": "vila"}
    )
    mine = BACKEND.prompts_of(deployment, HERE, served())
    told = BACKEND.prompts(HERE, served("nemo-multimodal:vila"))
    asked = BACKEND.prompts(HERE, served())
    assert mine and told and asked
    assert [f.name for f in mine.fields] == [f.name for f in told.fields]
    (choice,) = (f for f in asked.fields if f.kind is FieldKind.CHOICE)
    assert choice.name == "model_type" and "vita" in choice.choices


def test_an_unknown_type_decides_what_is_sent(tmp_path: Path) -> None:
    found = form.form(served())
    assert found
    path = str(mediafiles.picture(tmp_path / "a.png"))
    asked = found.request({"text": "Hi", "media": path, "model_type": "vila"})
    assert array(asked.inputs[0]).tolist() == [[b"<image>\n Hi"]]
    with pytest.raises(UsageError, match="model_type is needed"):
        found.request({"text": "Hi", "media": path, "model_type": "gpt"})


def test_sound_inputs_are_salm_and_other_models_are_not_ours() -> None:
    found = BACKEND.prompts(HERE, served(sound=True))
    assert found and {f.kind for f in found.fields} >= {FieldKind.SOUND}
    other = ModelMetadata("m", ("1",), "python", (), (TensorSpec("outputs", "BYTES", (1,)),))
    assert BACKEND.prompts(HERE, other) is None


def test_an_error_that_comes_as_an_answer_is_an_error() -> None:
    answers = [
        InferenceAnswer("m", "1", (TensorAnswer("outputs", "BYTES", (1, 1), (text,)),), 0.1)
        for text in ("a cat\non a mat", "An error occurred: out of memory")
    ]
    assert made("neva").answer(answers[0]) == "a cat\non a mat"
    with pytest.raises(DeckError, match="out of memory"):
        made("neva").answer(answers[1])


# ---------------------------------------------------------------------------- the worker


CLIENT = """
import numpy as np
from PIL import Image
class NemoQueryMultimodal:
    def __init__(self, url, model_name, model_type):
        self.model_type = model_type
    def setup_media(self, path):
        if self.model_type == "salm":
            wave = np.zeros(1000, np.float32)
            return {"input_signal": wave[None], "input_signal_length": np.array([[1000]], np.int32)}
        return np.expand_dims(np.array(Image.open(path).convert("RGB")), axis=0)
"""


def worker(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "client.py").write_text(CLIENT)
    argv = [sys.executable, str(WORKER), "--client", "client", "--out", str(folder / "out"), *words]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(folder)}
    )


def arrays(folder: Path) -> dict[str, Any]:
    return {f.stem: np.load(f) for f in sorted((folder / "out").glob("*.npy"))}


def test_the_worker_writes_what_upstreams_client_makes_of_a_file(tmp_path: Path) -> None:
    path = mediafiles.picture(tmp_path / "a.jpg")
    done = worker(tmp_path, "--type", "neva", "--media", "image", "--input", str(path))
    assert done.returncode == 0, done.stderr
    (media,) = arrays(tmp_path).values()
    assert media.shape == (1, 1, 48, 64, 3) and media.dtype == np.uint8
    done = worker(tmp_path, "--type", "salm", "--media", "sound", "--input", str(path))
    assert arrays(tmp_path)["input_signal_length"].tolist() == [[1000]]


@pytest.mark.parametrize(
    ("media", "shapes"),
    [
        ("image", {"input_media": [1, 1, 64, 64, 3]}),
        ("video", {"input_media": [1, 8, 64, 64, 3]}),
        ("sound", {"input_signal": [1, 16_000], "input_signal_length": [1, 1]}),
    ],
)
def test_the_worker_makes_up_media_where_nobody_names_a_file(
    tmp_path: Path, media: str, shapes: dict[str, list[int]]
) -> None:
    done = worker(tmp_path, "--type", "x", "--media", media)
    assert done.returncode == 0, done.stderr
    assert {name: list(found.shape) for name, found in arrays(tmp_path).items()} == shapes


def test_the_worker_names_a_file_that_is_gone(tmp_path: Path) -> None:
    done = worker(tmp_path, "--type", "neva", "--media", "image", "--input", "/gone.jpg")
    assert done.returncode == 1 and "there is no file /gone.jpg" in done.stdout
