"""The NumPy sources of the served speech model: sound, features, decoding."""

from __future__ import annotations

import importlib.util
import json
import struct
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[2] / "backends" / "models" / "speech"
BOUNDARY = "\u2581"


def load(name: str) -> ModuleType:
    """A source as Triton imports it: by its file, not as a part of our packages."""
    spec = importlib.util.spec_from_file_location(f"served_{name}", FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


sound, features, decoding = load("sound"), load("features"), load("decoding")


# ---------------------------------------------------------------------------- sound


def wav(
    raw: bytes, kind: int, channels: int, rate: int, bits: int, size: int | None = None
) -> bytes:
    form = struct.pack("<HHIIHH", kind, channels, rate, rate, bits // 8 * channels, bits)
    length = len(raw) if size is None else size
    return (
        b"RIFF\0\0\0\0WAVE"
        + struct.pack("<4sI", b"LIST", 3)
        + b"abc\0"
        + struct.pack("<4sI", b"fmt ", 16)
        + form
        + struct.pack("<4sI", b"data", length)
        + raw
    )


WAVE = np.array([0.0, 0.5, -0.5, 0.25, -1.0], np.float64)


def pcm24(values: np.ndarray) -> bytes:
    return b"".join(struct.pack("<i", int(v * 8388607))[:3] for v in values)


@pytest.mark.parametrize(
    ("kind", "bits", "raw", "tolerance"),
    [
        (1, 8, (WAVE * 127 + 128).astype(np.uint8).tobytes(), 0.02),
        (1, 16, (WAVE * 32767).astype("<i2").tobytes(), 1e-4),
        (1, 24, pcm24(WAVE), 1e-6),
        (1, 32, (WAVE * 2147483647).astype("<i4").tobytes(), 1e-6),
        (3, 32, WAVE.astype("<f4").tobytes(), 1e-7),
        (3, 64, WAVE.astype("<f8").tobytes(), 1e-7),
    ],
)
def test_each_wav_encoding_gives_the_same_samples(kind, bits, raw, tolerance):
    samples, rate = sound.decode_wav(wav(raw, kind, 1, 8000, bits))
    assert rate == 8000 and samples.dtype == np.float32
    np.testing.assert_allclose(samples, WAVE, atol=tolerance)


def test_channels_are_averaged():
    raw = np.array([[1.0, 0.0], [0.5, -0.5]], "<f4").tobytes()
    samples, _ = sound.decode_wav(wav(raw, 3, 2, 8000, 32))
    assert samples.tolist() == [0.5, 0.0]


def test_a_streamed_file_of_unknown_length_is_read_to_its_end():
    raw = WAVE.astype("<f4").tobytes()
    samples, _ = sound.decode_wav(wav(raw, 3, 1, 8000, 32, size=0xFFFFFFFF))
    assert len(samples) == len(WAVE)


def test_a_last_sample_that_is_cut_in_half_is_dropped():
    raw = WAVE.astype("<f4").tobytes()[:-2]
    samples, _ = sound.decode_wav(wav(raw, 3, 1, 8000, 32))
    assert len(samples) == len(WAVE) - 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no RIFF/WAVE"),
        (b"OggS" + bytes(40), "no RIFF/WAVE"),
        (wav(b"\0" * 8, 6, 1, 8000, 8), "encoding 6"),
        (wav(b"\0" * 8, 1, 0, 8000, 16), "0 channels"),
        (wav(b"\0" * 8, 1, 1, 3, 16), "outside 1000"),
        (wav(b"\0" * 8, 1, 1, 8000, 16, size=900), "cut off"),
        (wav(np.array([np.nan], "<f4").tobytes(), 3, 1, 8000, 32), "not finite"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "before its format"),
        (b"RIFF\0\0\0\0WAVE", "no data chunk"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_words(data, words):
    with pytest.raises(sound.BadSound, match=words):
        sound.decode_wav(data)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_hostile_bytes_are_refused_and_never_crash(data):
    try:
        samples, rate = sound.decode_wav(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + data)
    except sound.BadSound:
        return
    assert samples.dtype == np.float32 and rate > 0


ROWS = np.array([[0.5, -0.5], [0.25, 0.0]], np.float32)


@pytest.mark.parametrize(
    ("batching", "rates"), [(True, [8000, 16000]), (True, [8000]), (False, [8000])]
)
def test_a_request_holds_a_recording_a_row_each_at_its_rate(batching, rates):
    samples = ROWS if batching else ROWS[0]
    found = sound.sounds_of(None, samples, np.array(rates), batching)
    assert [row.tolist() for row, _ in found] == np.atleast_2d(samples).tolist()
    assert [rate for _, rate in found] == (rates * len(found) if len(rates) == 1 else rates)


def test_a_request_of_files_is_read_file_by_file():
    one = wav(WAVE.astype("<f4").tobytes(), 3, 1, 8000, 32)
    found = sound.sounds_of(np.array([[one], [one]], object), None, None, True)
    assert [(len(row), rate) for row, rate in found] == [(5, 8000)] * 2


FILE, RATE = np.array([b""], object), np.array([8000])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((None, None, None), "exactly one of WAV and SAMPLES"),
        ((FILE, ROWS, RATE), "exactly one of WAV and SAMPLES"),
        ((None, ROWS, None), "SAMPLES needs RATE"),
        ((FILE, None, RATE), "RATE goes with SAMPLES"),
        ((None, ROWS, np.array([8])), "8 Hz is outside"),
        ((None, ROWS * np.nan, RATE), "not finite"),
    ],
)
def test_a_request_that_is_not_one_kind_of_sound_is_refused(given, words):
    with pytest.raises(sound.BadSound, match=words):
        sound.sounds_of(*given, True)


@pytest.mark.parametrize(("source", "target"), [(8000, 16000), (44100, 16000), (48000, 16000)])
def test_a_tone_keeps_pitch_and_level_when_it_is_resampled(source, target):
    at = np.arange(source) / source
    resampled = sound.resample(np.sin(2 * np.pi * 440 * at), source, target)
    expected = np.sin(2 * np.pi * 440 * np.arange(target) / target)
    assert len(resampled) == target
    np.testing.assert_allclose(resampled[200:-200], expected[200:-200], atol=5e-3)


def test_a_tone_above_the_new_half_rate_is_removed():
    at = np.arange(48000) / 48000
    resampled = sound.resample(np.sin(2 * np.pi * 12000 * at), 48000, 16000)
    assert np.abs(resampled[200:-200]).max() < 0.02


def test_a_sound_at_the_right_rate_is_left_alone():
    assert sound.resample(WAVE, 16000, 16000).tolist() == WAVE.astype(np.float32).tolist()


# ---------------------------------------------------------------------------- features


def frontend(folder: Path, **changes: object):
    values: dict[str, object] = {
        "sample_rate": 16000,
        "n_fft": 64,
        "hop_length": 16,
        "window": np.hanning(40),
        "filterbank": np.abs(np.random.default_rng(1).standard_normal((5, 33))),
        "preemphasis": 0.97,
        "mag_power": 2.0,
        "log": True,
        "log_zero_guard_type": "add",
        "log_zero_guard_value": 2.0**-24,
        "normalize": "per_feature",
        "fixed_mean": np.zeros(5),
        "fixed_std": np.ones(5),
        "exact_pad": False,
    }
    np.savez(folder / "frontend.npz", **(values | changes))  # type: ignore[arg-type]
    return features.Frontend(str(folder / "frontend.npz"))


NOISE = np.random.default_rng(2).standard_normal(1000).astype(np.float32)


def slow_mel(samples: np.ndarray, made) -> np.ndarray:
    """The definition, one frame and one discrete Fourier sum at a time."""
    emphasised = samples.astype(float).copy()
    emphasised[1:] -= 0.97 * samples[:-1]
    padded = np.concatenate([np.zeros(32), emphasised, np.zeros(32)])
    bins = np.exp(-2j * np.pi * np.outer(np.arange(33), np.arange(64)) / 64)
    columns = []
    for frame in range(len(samples) // 16):
        piece = padded[frame * 16 : frame * 16 + 64].copy()
        window = np.zeros(64)
        window[12:52] = np.hanning(40)
        power = np.abs(bins @ (piece * window)) ** 2
        columns.append(np.log(made.filterbank @ power + 2.0**-24))
    return np.array(columns).T


def test_features_are_those_of_the_definition(tmp_path):
    made = frontend(tmp_path, normalize="none")
    np.testing.assert_allclose(made(NOISE), slow_mel(NOISE, made), atol=1e-4)


def test_each_feature_is_normalised_over_time(tmp_path):
    mel = frontend(tmp_path)(NOISE)
    np.testing.assert_allclose(mel.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(mel.std(axis=1, ddof=1), 1, atol=1e-3)


def test_a_frame_is_counted_for_every_whole_hop(tmp_path):
    made = frontend(tmp_path)
    assert [made.frames(n) for n in (0, 15, 16, 31, 32)] == [0, 0, 1, 1, 2]
    assert made(NOISE[:47]).shape == (5, made.frames(47))


def test_one_frame_is_normalised_to_zero_and_not_to_nan(tmp_path):
    assert frontend(tmp_path)(NOISE[:20]).tolist() == [[0.0]] * 5


def test_a_long_recording_is_transformed_in_blocks_with_the_same_result(tmp_path, monkeypatch):
    made = frontend(tmp_path)
    whole = made(NOISE)
    monkeypatch.setattr(features, "BLOCK", 7)
    np.testing.assert_array_equal(made(NOISE), whole)


@pytest.mark.parametrize("guard", ["add", "clamp"])
def test_silence_has_finite_features(tmp_path, guard):
    made = frontend(tmp_path, log_zero_guard_type=guard, normalize="none")
    assert np.isfinite(made(np.zeros(100, np.float32))).all()


# ---------------------------------------------------------------------------- decoding


def vocabulary(folder: Path, pieces: list[str], kind: str = "bpe", **changes: object):
    saved = {
        "kind": kind,
        "pieces": pieces,
        "blank": len(pieces),
        "seconds_per_step": 0.04,
        "unknown": [],
        "unknown_text": "",
        "control": [],
        "byte": [],
        "strip_first": True,
        "strip_all": True,
        "punctuation": [],
    }
    (folder / "vocabulary.json").write_text(json.dumps(saved | changes))
    return decoding.Vocabulary(str(folder / "vocabulary.json"))


def path_of(*best: int, classes: int = 4) -> np.ndarray:
    rows = np.full((len(best), classes), -5.0, np.float32)
    rows[np.arange(len(best)), best] = -0.1
    return rows


def test_repeats_collapse_and_blanks_divide():
    tokens = decoding.greedy(path_of(3, 0, 0, 3, 0, 1, 1, 3), 8, 3)
    assert [t[:3] for t in tokens] == [(0, 1, 3), (0, 4, 5), (1, 5, 7)]


def test_steps_past_the_length_are_not_heard():
    assert [t[0] for t in decoding.greedy(path_of(0, 3, 1, 1), 2, 3)] == [0]


@pytest.mark.parametrize("length", [0, 3])
def test_nothing_heard_is_no_token_and_no_confidence(length):
    tokens = decoding.greedy(path_of(3, 3, 3), length, 3)
    assert tokens == [] and decoding.confidence(tokens) == 0.0


def test_confidence_is_the_geometric_mean_of_probabilities():
    tokens = [(0, 0, 1, float(np.log(0.9))), (1, 1, 2, float(np.log(0.4)))]
    assert decoding.confidence(tokens) == pytest.approx(0.6)


def test_pieces_join_at_word_boundaries(tmp_path):
    made = vocabulary(tmp_path, [f"{BOUNDARY}he", "llo", f"{BOUNDARY}you", BOUNDARY])
    assert made.text([0, 1, 2]) == "hello you"
    assert made.text([3, 0, 1]) == "hello"
    assert made.text([]) == ""


def test_only_one_boundary_is_stripped_when_spaces_are_kept(tmp_path):
    made = vocabulary(tmp_path, [BOUNDARY, f"{BOUNDARY}he"], strip_all=False)
    assert made.text([0, 1]) == " he"


def test_unknown_control_and_byte_pieces_read_as_the_tokenizer_does(tmp_path):
    pieces = ["<unk>", "<s>", "<0xC3>", "<0xA9>", f"{BOUNDARY}caf"]
    made = vocabulary(tmp_path, pieces, unknown=[0], unknown_text=" ⁇ ", control=[1], byte=[2, 3])
    assert made.text([4, 2, 3, 1, 0]) == "café ⁇ "


def test_word_pieces_and_characters_join_their_own_way(tmp_path):
    assert vocabulary(tmp_path, ["he", "##llo", "you"], "wpe").text([0, 1, 2]) == "hello you"
    assert vocabulary(tmp_path, [" ", "a", "b"], "char").text([1, 0, 2]) == "a b"


def test_a_space_before_a_punctuation_mark_is_dropped(tmp_path):
    pieces = [f"{BOUNDARY}yes", f"{BOUNDARY}."]
    made = vocabulary(tmp_path, pieces, punctuation=["."])
    assert made.text([0, 1]) == "yes."
    words = made.words([(0, 0, 2, -0.1), (1, 4, 5, -0.1)])
    assert [(w["word"], w["start"], w["end"]) for w in words] == [("yes.", 0.0, 0.2)]


def test_word_times_count_from_the_offset_in_steps(tmp_path):
    made = vocabulary(tmp_path, [f"{BOUNDARY}he", "llo", f"{BOUNDARY}you"])
    tokens = [(0, 0, 2, -0.1), (1, 3, 4, -0.1), (2, 10, 15, -0.1)]
    words = made.words(tokens, offset=10.0)
    assert [(w["word"], w["start"], w["end"]) for w in words] == [
        ("hello", 10.0, 10.16),
        ("you", 10.4, 10.6),
    ]


def test_words_of_characters_are_divided_by_the_space(tmp_path):
    made = vocabulary(tmp_path, [" ", "a", "b"], "char")
    tokens = [(1, 0, 1, -0.1), (0, 1, 2, -0.1), (2, 2, 3, -0.1)]
    assert [w["word"] for w in made.words(tokens)] == ["a", "b"]
