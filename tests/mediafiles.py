"""Real media files for tests, made where they are used: the colour of every frame is known."""

from __future__ import annotations

import math
import struct
import wave
from pathlib import Path

import av
import numpy as np
from PIL import Image

RED, GREEN, BLUE = (200, 30, 30), (30, 180, 40), (30, 40, 200)


def picture(
    path: Path, color: tuple[int, int, int] = RED, size: tuple[int, int] = (64, 48)
) -> Path:
    Image.new("RGB", size, color).save(path)
    return path


def shades(count: int) -> list[int]:
    """The grey of every frame of `gif` and `video`."""
    return [round(255 * number / max(1, count - 1)) for number in range(count)]


def gif(path: Path, count: int = 5, size: tuple[int, int] = (32, 24)) -> Path:
    frames = [Image.new("RGB", size, (level,) * 3) for level in shades(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50)
    return path


def video(
    path: Path,
    count: int = 40,
    size: tuple[int, int] = (64, 48),
    codec: str = "mpeg4",
    *,
    front: bool = False,
) -> Path:
    """Frames that go from black to white, a key frame every 12. `front`: its index comes first, as in
    files for the web."""
    options = {"movflags": "faststart"} if front else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 12
        for level in shades(count):
            pixels = np.full((size[1], size[0], 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def turned(path: Path, degrees: int) -> Path:
    """A black film with a white upper left quarter, which a telephone would show turned clockwise by
    90, 180 or 270 degrees."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:24, :32] = 255
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    one = 1 << 16
    corners = {
        0: (one, 0, 0, one),
        90: (0, one, -one, 0),
        180: (-one, 0, 0, -one),
        270: (0, -one, one, 0),
    }

    def matrix(turn: int) -> bytes:
        a, b, c, d = corners[turn]
        return struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)

    raw = path.read_bytes()
    at = raw.index(matrix(0), raw.index(b"tkhd"))
    path.write_bytes(raw[:at] + matrix(degrees) + raw[at + 36 :])
    return path


def tone(seconds: float, rate: int = 16_000, hertz: float = 440.0) -> np.ndarray:
    """FP32 samples of a sine, half of full scale."""
    times = np.arange(round(seconds * rate)) / rate
    return np.sin(2 * math.pi * hertz * times).astype(np.float32) / 2


def wav(
    path: Path, seconds: float = 1.0, rate: int = 16_000, channels: int = 1, width: int = 2
) -> Path:
    levels = np.repeat(tone(seconds, rate)[:, None], channels, axis=1).astype(np.float64)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        if width == 1:
            raw = (levels * 128 + 128).astype(np.uint8).tobytes()
        else:
            whole = (levels * (1 << 31)).clip(-(1 << 31), (1 << 31) - 1).astype("<i4")
            raw = whole.reshape(-1, 1).view(np.uint8)[:, 4 - width :].tobytes()
        out.writeframes(raw)
    return path


def sound(path: Path, codec: str, seconds: float = 1.0, rate: int = 16_000) -> Path:
    """A tone in the container that the suffix names: ``flac``, ``pcm_f32le`` …"""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        samples = tone(seconds, rate).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(
            format=stream.format.name, layout="mono", rate=rate, frame_size=4096
        )
        for piece in (frame, None):
            for ready in resampler.resample(piece):
                container.mux(stream.encode(ready))
        container.mux(stream.encode(None))
    return path


def endless_wav(path: Path, hours: float, rate: int = 16_000) -> Path:
    """A WAV file of that length that takes no room on disk: its sound is a hole."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(b"")
    size = round(hours * 3600 * rate) * 2
    with path.open("r+b") as file:
        file.seek(4)
        file.write((36 + size).to_bytes(4, "little"))
        file.seek(40)
        file.write(size.to_bytes(4, "little"))
        file.truncate(44 + size)
    return path
