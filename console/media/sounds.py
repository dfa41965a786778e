"""A sound file as samples: PCM WAV by the standard library, everything else by PyAV."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.facts import UsageError
from console.media import files
from console.media.films import decoder
from console.text import clean, human_seconds

if TYPE_CHECKING:
    import numpy as np

BLOCK = 1 << 16
"""Samples that are read at a time."""
FIX = "give a WAV or FLAC file"
_SOUNDS = frozenset(files.FORMATS)


@dataclass(frozen=True, slots=True)
class Sound:
    """One channel: samples FP32 in -1…1, and how many of them are a second."""

    samples: np.ndarray[Any, Any]
    rate: int


def sound(path: Path, field: str, *, rate: int = 0, longest: float = 0.0) -> Sound:
    """All channels mixed to one, at `rate` samples a second (0: the file's own).

    `longest`: seconds at most (0: what a tensor may hold). Raises `UsageError` in one sentence: no
    sound, too long, cut off, another rate and no PyAV to resample with.
    """
    found = files.look(path, field)
    if found not in _SOUNDS:
        raise files.wrong(path, field, "a sound", found, FIX)
    if found is files.Kind.WAV:
        plain = _wave(path, field, rate, longest)
        if plain is not None:
            return plain
    return _decoded(path, field, found, rate, longest)


def _most(rate: int, longest: float) -> int:
    """Samples at most."""
    room = files.TENSOR_CAP // 4
    return min(room, round(longest * rate)) if longest else room


def _too_long(path: Path, field: str, seconds: float | None, most: float) -> UsageError:
    said = f"it lasts {human_seconds(seconds)}" if seconds is not None else "it goes on after that"
    return UsageError(
        f"{field}: {clean(path.name)} is too long",
        why=f"{said}, and {human_seconds(most)} are taken at most",
        fix="cut it shorter",
    )


# ---------------------------------------------------------------------------- WAV


def _wave(path: Path, field: str, rate: int, longest: float) -> Sound | None:
    """None for a WAV file that this does not read: compressed, floating point, another rate, samples
    of more than 32 bits."""
    try:
        with wave.open(str(path), "rb") as opened:
            own, frames = opened.getframerate(), opened.getnframes()
            if own <= 0 or (rate and own != rate) or opened.getsampwidth() > 4:
                return None
            most = _most(own, longest)
            if frames > most:
                raise _too_long(path, field, frames / own, most / own)
            samples = _samples(opened, most)
    except wave.Error:
        return None
    except (OSError, EOFError) as error:
        raise files.damaged(path, field, str(error) or "its header ends early") from error
    if len(samples) < frames:
        raise files.damaged(path, field, f"{len(samples):,} of {frames:,} samples are there")
    return Sound(samples, own)


def _samples(opened: wave.Wave_read, most: int) -> np.ndarray[Any, Any]:
    import numpy as np

    channels, width = opened.getnchannels(), opened.getsampwidth()
    blocks = [np.empty(0, np.float32)]
    while block := opened.readframes(BLOCK):
        whole = len(block) - len(block) % (width * channels)
        levels = _levels(block[:whole], width).reshape(-1, channels)
        blocks.append(levels.mean(axis=1, dtype=np.float32))
    return np.concatenate(blocks)[:most]


def _levels(raw: bytes, width: int) -> np.ndarray[Any, Any]:
    """Samples in -1…1; `width` bytes each, the smallest unsigned as WAV has it."""
    import numpy as np

    if width == 1:
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        return wide.reshape(-1).view("<i4").astype(np.float32) / (1 << 31)
    kind, top = {2: ("<i2", 1 << 15), 4: ("<i4", 1 << 31)}[width]
    return np.frombuffer(raw, kind).astype(np.float32) / np.float32(top)


# ---------------------------------------------------------------------------- PyAV


def _decoded(path: Path, field: str, kind: files.Kind, rate: int, longest: float) -> Sound:
    import numpy as np

    av = decoder(path, field)
    blocks: list[np.ndarray[Any, Any]] = []
    count = 0
    try:
        with path.open("rb") as raw, av.open(raw, format=files.FORMATS[kind]) as container:
            stream = next(iter(container.streams.audio), None)
            if stream is None:
                raise UsageError(f"{field}: {clean(path.name)} holds no sound", fix=FIX)
            if stream.codec_context is None:
                raise files.damaged(path, field, "no decoder for what is there of its sound")
            wanted = rate or stream.codec_context.sample_rate
            most = _most(wanted, longest)
            if container.duration and container.duration / 1e6 > most / wanted:
                raise _too_long(path, field, container.duration / 1e6, most / wanted)
            mixer = av.AudioResampler(format="flt", layout="mono", rate=wanted)
            for frame in _heard(container, stream):
                for mixed in mixer.resample(frame):
                    block = mixed.to_ndarray().reshape(-1)
                    blocks.append(block)
                    count += block.size
                if count > most:
                    raise _too_long(path, field, None, most / wanted)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise files.damaged(path, field, str(error)) from error
    if not count:
        raise files.damaged(path, field, "no samples are there")
    return Sound(np.concatenate(blocks), wanted)


def _heard(container: Any, stream: Any) -> Any:
    """Every frame, then the end."""
    yield from container.decode(stream)
    yield None
