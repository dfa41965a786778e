"""Pictures, films and sounds as arrays: what is read, what is refused, and how much memory it takes."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from console.facts import UsageError
from console.media import films, pictures, sounds
from console.media.films import Sampling
from tests import mediafiles

CAPPED = """
import resource, sys, pathlib
resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))
from console.facts import UsageError
from console.media import films, pictures, sounds
path = pathlib.Path(sys.argv[2])
try:
    if sys.argv[1] == "picture":
        pictures.picture(path, "media")
    elif sys.argv[1] == "film":
        films.film(path, "media", films.Sampling(256))
    else:
        sounds.sound(path, "media", rate=16000, longest=30.72)
except UsageError as error:
    print(error)
"""


def refused(what: str, path: Path) -> str:
    """The sentence, from a process that may use 400 MiB of data."""
    done = subprocess.run(
        [sys.executable, "-c", CAPPED, what, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


# ---------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp"])
def test_a_picture_of_any_kind_is_its_pixels(tmp_path: Path, suffix: str) -> None:
    pixels = pictures.picture(mediafiles.picture(tmp_path / f"a.{suffix}"), "media")
    assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.mean(axis=(0, 1)) - mediafiles.RED).max() < 8


def test_a_picture_with_a_long_side_keeps_its_proportions(tmp_path: Path) -> None:
    path = mediafiles.picture(tmp_path / "a.jpg", size=(4000, 1000))
    assert pictures.picture(path, "media", longest=2000).shape == (500, 2000, 3)


def test_a_picture_with_an_alpha_channel_or_a_palette_is_rgb(tmp_path: Path) -> None:
    for mode in ("RGBA", "P", "LA"):
        Image.new(mode, (8, 4)).save(tmp_path / f"{mode}.png")
        assert pictures.picture(tmp_path / f"{mode}.png", "media").shape == (4, 8, 3)


def test_a_text_that_is_called_a_picture_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("Dear all,\nthe picture is attached.\n")
    said = refused("picture", tmp_path / "notes.jpg")
    assert said == (
        "media: notes.jpg is not a picture that can be read: its first bytes are text "
        "(give a JPEG, PNG, WebP or GIF file)"
    )


def test_a_drawing_that_another_program_would_be_started_for_is_no_picture(tmp_path: Path) -> None:
    drawing = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    header = struct.pack("<4s6IH", b"\xc5\xd0\xd3\xc6", 30, len(drawing), 0, 0, 0, 0, 0xFFFF)
    file = tmp_path / "drawing.png"
    file.write_bytes(header + drawing)
    with Image.open(file) as opened:
        assert opened.format == "EPS"
    with pytest.raises(UsageError, match="not a picture that can be read"):
        pictures.picture(file, "media")


def test_a_picture_of_400_million_pixels_is_refused_within_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (20_000, 20_000)).save(path)
    for what in ("picture", "film"):
        said = refused(what, path)
        assert "huge.png has too many pixels" in said and "400000000" in said


def test_a_picture_that_ends_early_is_cut_off(tmp_path: Path) -> None:
    for suffix in ("jpg", "png"):
        path = mediafiles.picture(tmp_path / f"a.{suffix}", size=(400, 300))
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(UsageError, match="cut off or damaged"):
            pictures.picture(path, "media")


@pytest.mark.parametrize("name", ["missing.png", ".", "nul\0.png"])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="media: cannot read"):
        pictures.picture(tmp_path / name, "media")


# ---------------------------------------------------------------------------- films


@pytest.mark.parametrize(
    ("count", "taken"), [(1, 1), (256, 256), (257, 128), (512, 256), (600, 200), (1000, 250)]
)
def test_as_many_frames_are_taken_as_upstreams_client_takes(count: int, taken: int) -> None:
    found = Sampling(256).indices(count)
    assert len(found) == taken and found[0] == 0 and found[-1] == count - 1
    assert Sampling().indices(count) == list(range(count))


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "mpeg4"), ("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mkv", "mpeg4")],
)
def test_every_frame_of_a_film_is_there_in_order(tmp_path: Path, name: str, codec: str) -> None:
    path = mediafiles.video(tmp_path / name, codec=codec)
    frames = films.film(path, "media", Sampling())
    assert frames.shape == (40, 48, 64, 3) and frames.dtype == np.uint8
    levels = frames.mean(axis=(1, 2, 3))
    assert np.abs(levels - mediafiles.shades(40)).max() < 6


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_sampled_frames_are_the_same_as_those_of_the_whole_film(tmp_path: Path, codec: str) -> None:
    path = mediafiles.video(tmp_path / "a.mp4", count=100, codec=codec)
    every = films.film(path, "media", Sampling())
    some = films.film(path, "media", Sampling(9))
    assert np.array_equal(some, every[Sampling(9).indices(100)])


def test_only_the_stretches_with_wanted_frames_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mediafiles.video(tmp_path / "a.mp4", count=240)
    decoded = 0

    def counted(container, stream, wanted, keys):
        nonlocal decoded

        class Container:
            def seek(self, *given, **named):
                container.seek(*given, **named)

            def decode(self, stream):
                nonlocal decoded
                for frame in container.decode(stream):
                    decoded += 1
                    yield frame

        return own(Container(), stream, wanted, keys)

    own = films._frames
    monkeypatch.setattr(films, "_frames", counted)
    assert len(films.film(path, "media", Sampling(3))) == 3
    assert decoded <= 3 * 13


def test_a_large_film_is_scaled_down_with_its_proportions(tmp_path: Path) -> None:
    path = mediafiles.video(tmp_path / "a.mp4", count=2, size=(1280, 720))
    assert films.film(path, "media", Sampling(shorter=360)).shape == (2, 360, 640, 3)


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_a_film_that_was_taken_on_its_side_is_put_upright(
    tmp_path: Path, degrees: int, corner: tuple[int, int]
) -> None:
    """The white corner of the picture, which is its upper left one, goes round with the clock."""
    frames = films.film(mediafiles.turned(tmp_path / "a.mp4", degrees), "media", Sampling())
    assert frames.shape == ((2, 48, 64, 3) if degrees == 180 else (2, 64, 48, 3))
    assert frames[0][corner].min() > 200 and frames[0].mean() < 80


def test_an_animated_picture_is_a_film_and_a_still_one_has_one_frame(tmp_path: Path) -> None:
    frames = films.film(mediafiles.gif(tmp_path / "a.gif"), "media", Sampling())
    assert np.abs(frames.mean(axis=(1, 2, 3)) - mediafiles.shades(5)).max() < 6
    still = films.film(mediafiles.picture(tmp_path / "a.png"), "media", Sampling())
    assert still.shape == (1, 48, 64, 3)


@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_mp4_is_cut_off(tmp_path: Path, front: bool, kept: float) -> None:
    path = mediafiles.video(tmp_path / "a.mp4", front=front)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(UsageError, match=r"media: a\.mp4 is cut off or damaged"):
        films.film(path, "media", Sampling())


def test_a_playlist_that_is_called_a_video_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(mediafiles.video(tmp_path / "b.mp4").read_bytes())
    path = tmp_path / "a.mp4"
    path.write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'secret.mp4'}\n#EXT-X-ENDLIST\n")
    with pytest.raises(UsageError, match="its first bytes are text"):
        films.film(path, "media", Sampling())


def test_a_film_of_too_many_frames_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = mediafiles.video(tmp_path / "a.mp4", count=1500, size=(320, 240))
    with pytest.raises(UsageError, match="1500 of 320 × 240 pixels"):
        films.film(path, "media", Sampling())


def test_a_sound_is_no_film(tmp_path: Path) -> None:
    path = mediafiles.sound(tmp_path / "a.flac", "flac")
    with pytest.raises(UsageError, match="holds no pictures"):
        films.film(path, "media", Sampling())


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mediafiles.video(tmp_path / "a.mp4", count=2)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"needs PyAV.*tritondeck\[media\]"):
        films.film(path, "media", Sampling())
    assert films.film(mediafiles.gif(tmp_path / "a.gif"), "media", Sampling()).shape[0] == 5


# ---------------------------------------------------------------------------- sounds


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_file_of_any_width_is_read_without_pyav(
    tmp_path: Path, width: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mediafiles.wav(tmp_path / "a.wav", channels=channels, width=width)
    monkeypatch.setitem(sys.modules, "av", None)
    made = sounds.sound(path, "media", rate=16_000)
    assert made.rate == 16_000 and made.samples.dtype == np.float32
    assert np.abs(made.samples - mediafiles.tone(1)).max() < (0.01 if width == 1 else 1e-4)


@pytest.mark.parametrize(("name", "codec"), [("a.flac", "flac"), ("a.wav", "pcm_f32le")])
def test_flac_and_floating_point_wav_are_the_same_sound(
    tmp_path: Path, name: str, codec: str
) -> None:
    made = sounds.sound(mediafiles.sound(tmp_path / name, codec), "media", rate=16_000)
    assert np.abs(made.samples - mediafiles.tone(1)).max() < 1e-4


def test_a_wav_file_of_64_bits_is_read_by_pyav(tmp_path: Path) -> None:
    path, samples = tmp_path / "wide.wav", np.array([0, 1 << 62, -(1 << 62)] * 800, "<i8").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, 16_000, 128_000, 8, 64)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(samples))
    path.write_bytes(b"RIFF" + struct.pack("<I", 36 + len(samples)) + b"WAVE" + chunks + samples)
    made = sounds.sound(path, "media", rate=16_000)
    assert made.samples.tolist()[:3] == [0.0, 0.5, -0.5]


def test_another_rate_is_resampled(tmp_path: Path) -> None:
    made = sounds.sound(mediafiles.wav(tmp_path / "a.wav", rate=44_100), "media", rate=16_000)
    middle = slice(1000, 15_000)
    assert abs(len(made.samples) - 16_000) < 50
    assert np.abs(made.samples[middle] - mediafiles.tone(1)[middle]).max() < 0.01


@pytest.mark.parametrize("name", ["a.wav", "b.wav"])
def test_a_sound_of_three_hours_is_refused_within_bounded_memory(tmp_path: Path, name: str) -> None:
    path = mediafiles.endless_wav(tmp_path / name, 3, rate=16_000 if name == "a.wav" else 48_000)
    said = refused("sound", path)
    assert said == (
        f"media: {name} is too long: it lasts 3 h, and 30.7 s are taken at most (cut it shorter)"
    )


def test_a_wav_file_that_ends_early_is_cut_off(tmp_path: Path) -> None:
    path = mediafiles.wav(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes()[:-8000])
    with pytest.raises(UsageError, match="12,000 of 16,000 samples"):
        sounds.sound(path, "media")


def test_a_picture_is_no_sound(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a sound: its first bytes are PNG"):
        sounds.sound(mediafiles.picture(tmp_path / "a.png"), "media")
