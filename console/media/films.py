"""Frames of a moving picture: sampled evenly, decoded one at a time, never more than asked for.

GIF and WebP are read by Pillow, everything else by PyAV, which is an extra of its own. Containers are
read twice: their packets for the times of the frames, then the few stretches that hold wanted frames.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.facts import UsageError
from console.media import files, pictures
from console.text import clean, human_bytes

if TYPE_CHECKING:
    import numpy as np

FRAME_CAP = 1 << 20
"""Frames of a file that are counted at most: ten hours at thirty a second."""
FIX = "give an MP4, WebM, AVI or GIF file"


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames are taken, and how large."""

    most: int = 0
    """Frames at most, evenly spaced; 0 takes all."""
    shorter: int = 384
    """Pixels that the shorter side is scaled down to; 0 keeps any size."""

    def indices(self, count: int) -> list[int]:
        """The frames that NeMo's own client takes of `count`: all up to `most`, else as many as a whole
        step leaves, from the first to the last."""
        import numpy as np

        taken = count
        if self.most and count > self.most:
            taken = round(count / -(-count // self.most))
        return [int(i) for i in np.round(np.linspace(0, count - 1, taken))]

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a taken frame, its proportions kept."""
        short = min(width, height)
        if not self.shorter or short <= self.shorter:
            return width, height
        return max(1, width * self.shorter // short), max(1, height * self.shorter // short)


def film(path: Path, field: str, sampling: Sampling) -> np.ndarray[Any, Any]:
    """Frames as UINT8 [frames, height, width, 3], RGB; a still picture is a film of one frame.

    Raises `UsageError` in one sentence: no film, too large, cut off, or PyAV is missing.
    """
    found = files.look(path, field)
    if found in files.PICTURES:
        return _drawn(path, field, sampling)
    if found not in files.FORMATS:
        raise files.wrong(path, field, "a video", found, FIX)
    return _decoded(path, field, sampling, found)


def _room(
    path: Path, field: str, frames: int, size: tuple[int, int], sampling: Sampling
) -> np.ndarray[Any, Any]:
    """An array for the frames; `UsageError` where they are too many."""
    import numpy as np

    width, height = sampling.size(*size)
    wanted = frames * width * height * 3
    if wanted > files.TENSOR_CAP:
        raise UsageError(
            f"{field}: {clean(path.name)} has too many frames",
            why=f"{frames} of {width} × {height} pixels are {human_bytes(wanted)}, and "
            f"{human_bytes(files.TENSOR_CAP)} are sent at most",
            fix="cut it shorter",
        )
    return np.empty((frames, height, width, 3), np.uint8)


# ---------------------------------------------------------------------------- GIF, WebP


def _drawn(path: Path, field: str, sampling: Sampling) -> np.ndarray[Any, Any]:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path, formats=pictures.FORMATS) as opened:
            pictures.too_large(path, field, opened.size)
            wanted = sampling.indices(min(getattr(opened, "n_frames", 1), FRAME_CAP))
            found = _room(path, field, len(wanted), opened.size, sampling)
            for place, number in enumerate(wanted):
                opened.seek(number)
                frame = opened.convert("RGB")
                frame = frame.resize((found.shape[2], found.shape[1]), Image.Resampling.BILINEAR)
                found[place] = np.asarray(frame)
            return found
    except Image.DecompressionBombError as error:
        raise pictures.bomb(path, field, error) from error
    except (EOFError, OSError, ValueError, SyntaxError) as error:
        raise files.damaged(path, field, str(error)) from error


# ---------------------------------------------------------------------------- PyAV


def decoder(path: Path, field: str) -> Any:
    """The module ``av``; `UsageError` where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise UsageError(
            f"{field}: {clean(path.name)} needs PyAV, which is not installed here",
            why="it is 100 MB with FFmpeg, so the console does not bring it",
            fix=files.EXTRA,
        ) from error
    av.logging.set_level(av.logging.PANIC)  # FFmpeg would write its complaints over the screen
    return av


def _turns(frame: Any) -> int:
    """Quarters that a frame is turned by, against the clock: a telephone writes how it was held."""
    quarters: int = round(frame.rotation / 90) % 4
    return quarters


def _decoded(path: Path, field: str, sampling: Sampling, kind: files.Kind) -> np.ndarray[Any, Any]:
    import numpy as np

    av = decoder(path, field)
    try:
        with path.open("rb") as raw, av.open(raw, format=files.FORMATS[kind]) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise UsageError(f"{field}: {clean(path.name)} holds no pictures", fix=FIX)
            if stream.codec_context is None:
                raise files.damaged(path, field, "no decoder for what is there of its pictures")
            size = (stream.codec_context.width, stream.codec_context.height)
            pictures.too_large(path, field, size)
            # A frame may be larger than the header says.
            stream.codec_context.options = {"max_pixels": str(pictures.PIXEL_CAP)}
            times, keys = _times(container, stream, path, field)
            wanted = [times[index] for index in sampling.indices(len(times))]
            found = _room(path, field, len(wanted), size, sampling)
            shape = {"width": found.shape[2], "height": found.shape[1], "format": "rgb24"}
            done = 0
            for frame in _frames(container, stream, wanted, keys):
                pixels = np.rot90(frame.reformat(**shape).to_ndarray(), _turns(frame))
                # Upright, a film on its side has its sides exchanged, and as many bytes.
                found = found if done else found.reshape(len(wanted), *pixels.shape)
                found[done] = pixels
                done += 1
    except (av.FFmpegError, OSError, ValueError) as error:
        raise files.damaged(path, field, str(error)) from error
    if done < len(wanted):
        raise files.damaged(path, field, f"{done} of {len(wanted)} frames could be read")
    return found


def _times(container: Any, stream: Any, path: Path, field: str) -> tuple[list[int], list[int]]:
    """When each frame is shown, and which of these times a decoder can begin at (stream units)."""
    times: list[int] = []
    keys: list[int] = []
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        if len(times) == FRAME_CAP:
            raise UsageError(f"{field}: {clean(path.name)} has over {FRAME_CAP} frames")
        times.append(packet.pts)
        if packet.is_keyframe:
            keys.append(packet.pts)
    if not times or len(times) < stream.frames:
        told = f"{len(times)} of {stream.frames} frames are there" if stream.frames else "no frames"
        raise files.damaged(path, field, told)
    return sorted(times), sorted(keys)


def _frames(
    container: Any, stream: Any, wanted: Sequence[int], keys: Sequence[int]
) -> Iterator[Any]:
    """The frames at the `wanted` times; goes on decoding, or jumps where a key frame is nearer."""
    at: int | None = None
    coming: Iterator[Any] = iter(())
    for time in wanted:
        place = bisect_right(keys, time) - 1
        key = keys[place] if place >= 0 else wanted[0]
        if at is None or key > at:
            container.seek(key, stream=stream)
            coming = container.decode(stream)
        frame = next((f for f in coming if f.pts is not None and f.pts >= time), None)
        if frame is None:
            return
        at = frame.pts
        yield frame
