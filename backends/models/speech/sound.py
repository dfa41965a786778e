"""WAV bytes to mono float samples, and resampling. NumPy alone, Python 3.10 syntax."""

import math
import struct

import numpy as np

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
# What a program writes that streams a WAV and cannot go back to fill in the length.
UNKNOWN_LENGTHS = (0, 0x7FFFFFFF, 0xFFFFFFFF)
RATES = (1000, 384000)
CHANNELS = 64


class BadSound(ValueError):
    """The sound cannot be used; the message says why in words."""


def decode_wav(data):
    """Decode one RIFF/WAVE file.

    PCM of 8 (unsigned), 16, 24 and 32 bits and IEEE float of 32 and 64 bits, plain or in the
    extensible form; channels are averaged.

    Returns (float32 samples of shape [N] in -1…1, sample rate in Hz). Raises `BadSound`.
    """
    if len(data) < 12 or data[:4] not in (b"RIFF", b"RF64") or data[8:12] != b"WAVE":
        raise BadSound(
            "WAV holds no RIFF/WAVE file (it starts with %r); send a PCM or float .wav file, "
            "or raw samples as SAMPLES with RATE" % bytes(data[:8])
        )
    description, position = None, 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"fmt ":
            description = _format(data[position : position + size])
        elif name == b"data":
            if description is None:
                raise BadSound("the WAV file has its data before its format")
            available = len(data) - position
            if size in UNKNOWN_LENGTHS:
                size = available
            elif size > available:
                raise BadSound(
                    "the WAV file is cut off: it announces %d bytes of sound and holds %d"
                    % (size, available)
                )
            return _samples(data[position : position + size], *description)
        position += size + (size & 1)
    raise BadSound("the WAV file has no data chunk")


def _format(chunk):
    if len(chunk) < 16:
        raise BadSound("the WAV file's format chunk is cut off")
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if kind == EXTENSIBLE and len(chunk) >= 26:
        (kind,) = struct.unpack_from("<H", chunk, 24)
    if (kind, bits) not in _READERS:
        raise BadSound(
            "WAV encoding %d with %d bits is not supported; use PCM of 8, 16, 24 or 32 bits "
            "or float of 32 or 64" % (kind, bits)
        )
    if not 1 <= channels <= CHANNELS:
        raise BadSound("the WAV file says it has %d channels" % channels)
    check_rate(rate)
    return kind, channels, rate, bits


def _samples(raw, kind, channels, rate, bits):
    width = bits // 8 * channels
    samples = _READERS[kind, bits](raw[: len(raw) // width * width])
    mono = samples.reshape(-1, channels).mean(axis=1, dtype=np.float64).astype(np.float32)
    return check_samples(mono), rate


def _pcm24(raw):
    parts = np.frombuffer(raw, np.uint8).reshape(-1, 3).astype(np.int32)
    value = parts[:, 0] | parts[:, 1] << 8 | parts[:, 2] << 16
    return (value - ((value & 0x800000) << 1)) / 8388608.0


_READERS = {
    (PCM, 8): lambda raw: (np.frombuffer(raw, np.uint8).astype(np.float32) - 128.0) / 128.0,
    (PCM, 16): lambda raw: np.frombuffer(raw, "<i2") / 32768.0,
    (PCM, 24): _pcm24,
    (PCM, 32): lambda raw: np.frombuffer(raw, "<i4") / 2147483648.0,
    (FLOAT, 32): lambda raw: np.frombuffer(raw, "<f4"),
    (FLOAT, 64): lambda raw: np.frombuffer(raw, "<f8"),
}


def check_rate(rate):
    """Raise `BadSound` for a sample rate (Hz) that no recording has."""
    if not RATES[0] <= rate <= RATES[1]:
        raise BadSound("a sample rate of %d Hz is outside %d to %d" % (rate, *RATES))


def check_samples(samples):
    """Return float32 `samples` [N]; raises `BadSound` for NaN and infinity."""
    if not np.isfinite(samples).all():
        raise BadSound("the sound holds values that are not finite numbers")
    return samples


def sounds_of(wav, samples, rate, batching):
    """The recordings of one request: (float32 samples of shape [N], sample rate in Hz) each.

    `wav` (BYTES, a file each), `samples` (FP32 [B, N]; [N] without `batching`) and `rate` (Hz) are the
    request's arrays, or None. Raises `BadSound`.
    """
    if (wav is None) == (samples is None):
        raise BadSound("give exactly one of WAV and SAMPLES")
    if samples is not None and rate is None:
        raise BadSound("SAMPLES needs RATE, the sample rate in Hz")
    if wav is not None and rate is not None:
        raise BadSound("RATE goes with SAMPLES; a WAV file carries its own")
    if wav is not None:
        return [decode_wav(data) for data in wav.reshape(-1)]
    rows = samples.astype(np.float32) if batching else samples.astype(np.float32)[None]
    rates = [int(value) for value in np.broadcast_to(rate.reshape(-1), (len(rows),))]
    for value in rates:
        check_rate(value)
    return [(check_samples(row), value) for row, value in zip(rows, rates)]  # noqa: B905


def resample(samples, source, target):
    """Resample float samples [N] from `source` to `target` Hz; returns float32 [ceil(N·t/s)].

    A polyphase Kaiser-windowed sinc (10 zero crossings a side, beta 5): the filter of
    `scipy.signal.resample_poly`, in NumPy.
    """
    if source == target or not len(samples):
        return np.asarray(samples, np.float32)
    common = math.gcd(source, target)
    up, down = target // common, source // common
    half = 10 * max(up, down)
    grid = np.arange(-half, half + 1)
    cutoff = 1.0 / max(up, down)
    kernel = cutoff * np.sinc(cutoff * grid) * np.kaiser(2 * half + 1, 5.0)
    kernel *= up / kernel.sum()
    # phases[p, k] multiplies input sample (n·down)//up - reach + k of output n with phase p.
    reach = half // up + 1
    offsets = np.arange(up)[:, None] + up * (reach - np.arange(2 * reach + 1))[None, :]
    inside = np.abs(offsets) <= half
    phases = np.where(inside, kernel[np.clip(offsets + half, 0, 2 * half)], 0.0)
    padded = np.pad(np.asarray(samples, np.float64), reach)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    count = -(-len(samples) * up // down)
    result = np.empty(count, np.float32)
    for start in range(0, count, 65536):  # the gathered windows of one block fit the cache
        at = np.arange(start, min(start + 65536, count), dtype=np.int64) * down
        result[start : start + len(at)] = np.einsum("nk,nk->n", windows[at // up], phases[at % up])
    return result
