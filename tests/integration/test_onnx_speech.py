"""The trained digits checkpoint, exported by real NeMo and served by a real Triton."""

from __future__ import annotations

import difflib
import io
import json
import struct
import threading
import wave
from pathlib import Path

import numpy as np
import pytest
from onnx_work import DIGITS, build, deployment, place, plan_of, report

from backends.registry import get
from console.checkpoints.read import read
from console.facts import DeckError, InferenceRequest, TensorValue
from console.planning.deployment import VerifyCase
from console.triton import control, inference, repository

pytestmark = pytest.mark.integration

CASES = [json.loads(line) for line in (DIGITS / "wavs" / "manifest.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def served(make_module_server, nemo_environment):
    """The running server with the digits model loaded."""
    server = make_module_server()
    checkpoint = read(DIGITS / "digits.nemo")
    sounds = tuple(
        VerifyCase(input=str(DIGITS / "wavs" / case["audio"]), expect=case["text"])
        for case in CASES[:3]
    )
    made = deployment(checkpoint, "digits", verify=sounds)
    server.values_used = server.values | {"env_nemo": str(nemo_environment)}
    build(plan_of(checkpoint, made), server.values_used)
    server.start()
    control.load(server.endpoint, "digits")
    return server


def samples_of(path: Path) -> tuple[np.ndarray, int]:
    with wave.open(str(path)) as file:
        raw = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return (raw / 32768).astype(np.float32), file.getframerate()


def wav_request(data: bytes | Path, *, word_times: bool | None = None) -> InferenceRequest:
    if isinstance(data, Path):
        sound = TensorValue("WAV", "BYTES", (1, 1), file=data)
    else:
        sound = TensorValue("WAV", "BYTES", (1, 1), values=(data,))
    inputs = [sound]
    if word_times is not None:
        inputs.append(TensorValue("WORD_TIMES", "BOOL", (1, 1), values=(word_times,)))
    return InferenceRequest("digits", tuple(inputs))


def samples_request(samples: np.ndarray, rate: int | None) -> InferenceRequest:
    inputs = [TensorValue("SAMPLES", "FP32", (1, len(samples)), values=tuple(map(float, samples)))]
    if rate is not None:
        inputs.append(TensorValue("RATE", "INT32", (1, 1), values=(rate,)))
    return InferenceRequest("digits", tuple(inputs))


def outputs(server, request: InferenceRequest) -> dict[str, object]:
    answer = inference.infer(server.endpoint, request)
    return {tensor.name: tensor.values[0] for tensor in answer.outputs}


def text(server, request: InferenceRequest) -> object:
    return outputs(server, request)["TEXT"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["audio"])
def test_a_recording_is_answered_with_its_words(served, case):
    assert text(served, wav_request(DIGITS / "wavs" / case["audio"])) == case["text"]


def test_the_export_report_shows_the_same_decisions_as_pytorch(served):
    found = report(served.values_used)
    assert found["decisions_equal"] and found["vocabulary_equal"] and found["text_equal"]
    assert found["max_abs_diff"] <= 1e-4
    assert found["frontend_max_abs_diff"] <= 1e-3
    assert found["texts"][:3] == [case["text"] for case in CASES[:3]]


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_recording_of_another_rate_is_resampled(served, rate):
    samples, found = samples_of(DIGITS / "wavs" / CASES[0]["audio"])
    positions = np.arange(int(len(samples) * rate / found)) * found / rate
    other = np.interp(positions, np.arange(len(samples)), samples).astype(np.float32)
    assert text(served, samples_request(other, rate)) == CASES[0]["text"]


def test_a_stereo_float_file_is_mixed_and_read(served):
    samples, rate = samples_of(DIGITS / "wavs" / CASES[1]["audio"])
    data = np.stack([samples, samples], axis=1).astype("<f4").tobytes()
    form = struct.pack("<IHHIIHH", 16, 3, 2, rate, rate * 8, 8, 32)
    header = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + form + b"data"
    header += struct.pack("<I", len(data))
    assert text(served, wav_request(header + data)) == CASES[1]["text"]


def test_word_times_lie_in_order_inside_the_recording(served):
    path = DIGITS / "wavs" / CASES[2]["audio"]
    samples, rate = samples_of(path)
    found = outputs(served, wav_request(path, word_times=True))
    words = json.loads(str(found["WORDS"]))
    assert [w["word"] for w in words] == CASES[2]["text"].split()
    times = [time for w in words for time in (w["start"], w["end"])]
    assert times == sorted(times)
    assert times[0] >= 0 and times[-1] <= len(samples) / rate + 0.05
    assert all(0 < w["confidence"] <= 1 for w in words)
    assert found["SECONDS"] == pytest.approx(len(samples) / rate, abs=1e-3)


def test_word_times_are_left_out_unless_they_are_wanted(served):
    assert outputs(served, wav_request(DIGITS / "wavs" / CASES[0]["audio"]))["WORDS"] == "[]"


def test_recordings_of_unequal_length_that_arrive_together_keep_their_words(served):
    heard: dict[int, object] = {}

    def ask(index: int) -> None:
        path = DIGITS / "wavs" / CASES[index % len(CASES)]["audio"]
        heard[index] = text(served, samples_request(*samples_of(path)))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {i: CASES[i % len(CASES)]["text"] for i in range(12)}


def test_a_bad_recording_does_not_spoil_those_that_arrive_with_it(served):
    results: list[object] = []

    def ask(request: InferenceRequest) -> None:
        try:
            results.append(text(served, request))
        except DeckError as error:
            results.append(type(error))

    good = wav_request(DIGITS / "wavs" / CASES[0]["audio"])
    requests = [wav_request(b"no sound at all"), good] * 4
    threads = [threading.Thread(target=ask, args=(r,)) for r in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(CASES[0]["text"]) == 4
    assert len(results) == 8


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(16000 * seconds), np.float32)


def wav_bytes(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (wav_request(wav_bytes(silence(41))), "at most 40.0 s"),
        (wav_request(b"GIF89a......"), "no RIFF/WAVE file"),
        (wav_request(wav_bytes(silence(1))[:2000]), "cut off"),
        (samples_request(silence(0.5), None), "needs RATE"),
        (samples_request(silence(0.5), 7), "outside 1000 to 384000"),
        (samples_request(silence(0.001), 16000), "less than one frame"),
        (InferenceRequest("digits", (TensorValue("RATE", "INT32", (1, 1), values=(1,)),)), "exactly one"),
    ],
)  # fmt: skip
def test_a_recording_that_cannot_be_used_is_refused_in_words(served, request_, words):
    with pytest.raises(DeckError) as caught:
        inference.infer(served.endpoint, request_)
    assert words in f"{caught.value} {caught.value.raw}"


def test_the_longest_recording_that_is_promised_is_answered(served):
    assert outputs(served, wav_request(wav_bytes(silence(39.9))))["SECONDS"] == pytest.approx(39.9)


def test_the_prompt_form_asks_and_reads_the_model(served):
    metadata = inference.metadata(served.endpoint, "digits")
    form = get("onnx").prompts(served.endpoint, metadata)
    assert form is not None
    assert [field.kind for field in form.fields] == ["sound", "flag"]
    request = form.request(
        {"sound": str(DIGITS / "wavs" / CASES[0]["audio"]), "word_times": "true"}
    )
    shown = form.answer(inference.infer(served.endpoint, request))
    assert shown.splitlines()[0] == CASES[0]["text"]
    assert len(shown.splitlines()) == 1 + len(CASES[0]["text"].split())


@pytest.fixture(scope="module")
def chunking(served):
    """The same checkpoint without a batch dimension, cutting long recordings, with word times."""
    checkpoint = read(DIGITS / "digits.nemo")
    options = {"long_audio": "chunk", "chunk_seconds": 5.0, "word_times": True}
    made = deployment(checkpoint, "chunky", max_batch_size=0, verbose=True, **options)
    place(plan_of(checkpoint, made), served.values)
    for name in ("model.onnx", "frontend.npz", "vocabulary.json"):
        source = served.repository / "digits" / "1" / name
        (served.repository / "chunky" / "1" / name).write_bytes(source.read_bytes())
    control.load(served.endpoint, "chunky")
    return served


def unbatched(samples: np.ndarray) -> InferenceRequest:
    values = tuple(map(float, samples))
    inputs = (
        TensorValue("SAMPLES", "FP32", (len(samples),), values=values),
        TensorValue("RATE", "INT32", (1,), values=(16000,)),
    )
    return InferenceRequest("chunky", inputs)


def test_a_recording_past_the_longest_is_cut_at_quiet_places_and_joined(chunking):
    pause, parts, expected = np.zeros(12000, np.float32), [], []
    while sum(map(len, parts)) < 45 * 16000:
        case = CASES[len(expected) % len(CASES)]
        parts += [samples_of(DIGITS / "wavs" / case["audio"])[0], pause]
        expected.append(case["text"])
    found = outputs(chunking, unbatched(np.concatenate(parts)))
    heard, spoken = str(found["TEXT"]).split(), " ".join(expected).split()
    # Features are normalised over a chunk, not over one recording: single words may differ.
    assert difflib.SequenceMatcher(None, heard, spoken).ratio() > 0.9, (heard, spoken)
    times = [w["start"] for w in json.loads(str(found["WORDS"]))]
    assert times == sorted(times) and times[-1] > 40


def test_word_times_come_by_default_when_the_deployment_says_so(chunking):
    samples, _ = samples_of(DIGITS / "wavs" / CASES[0]["audio"])
    found = outputs(chunking, unbatched(samples))
    assert found["TEXT"] == CASES[0]["text"]
    assert [w["word"] for w in json.loads(str(found["WORDS"]))] == CASES[0]["text"].split()


def test_a_verbose_model_logs_each_batch(chunking):
    outputs(chunking, unbatched(samples_of(DIGITS / "wavs" / CASES[0]["audio"])[0]))
    assert "1 request(s), 1 recording(s)" in chunking.log.read_text()


def test_the_form_for_the_onnxruntime_backend_gives_the_same_answers(
    served, make_module_server, embedded_environment
):
    """This server has no onnxruntime backend, so a python model of the same name, signature and
    configuration stands in for the acoustic graph; everything before and behind it is as planned."""
    checkpoint = read(DIGITS / "digits.nemo")
    plan = plan_of(checkpoint, deployment(checkpoint, "digits", form="onnxruntime"))
    server = make_module_server()
    place(plan, server.values)
    config_file = server.repository / "digits_acoustic" / "config.pbtxt"
    config = repository.from_text(config_file.read_text())
    assert (config.platform, config.backend) == ("onnxruntime_onnx", "onnxruntime")
    config.platform, config.backend = "", "python"
    for key, value in {"device": "cpu", "threads": "1", "verbose": "false"}.items():
        config.parameters[key].string_value = value
    config_file.write_text(repository.to_text(config))
    version = server.repository / "digits_acoustic" / "1"
    version.mkdir(exist_ok=True)
    stand_in = Path(__file__).parents[2] / "backends" / "models" / "onnx_runtime" / "model.py"
    (version / "model.py").write_text(stand_in.read_text())
    source = served.repository / "digits" / "1"
    (version / "model.onnx").write_bytes((source / "model.onnx").read_bytes())
    for name in ("frontend.npz", "vocabulary.json"):
        target = server.repository / "digits" / "1" / name
        target.write_bytes((source / name).read_bytes())
    server.start()
    control.load(server.endpoint, "digits_acoustic")
    control.load(server.endpoint, "digits")
    for case in CASES:
        path = DIGITS / "wavs" / case["audio"]
        here, there = (outputs(s, wav_request(path, word_times=True)) for s in (served, server))
        assert here == there
