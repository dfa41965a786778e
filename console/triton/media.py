"""Pictures and sounds as tensors, and the files that hold such tensors."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.facts import TensorSpec
from console.media import pictures, sounds
from console.settings import private_folder

if TYPE_CHECKING:
    import numpy as np

DYNAMIC_SIDE = 224
"""Pixels of a side that the model leaves open, when the picture is larger than that."""

MINIMUM_SIDE = 8
"""A fixed side below this is taken for something else than a picture."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How an input holds a picture. Sides are pixels, None where the model takes any."""

    channels: int
    height: int | None
    width: int | None
    channels_first: bool


def picture_layout(spec: TensorSpec) -> Layout | None:
    """How this input would hold one picture, or None when it does not look like it holds one.

    NCHW, NHWC, CHW or HWC with 3 or 1 channels, FP32, FP16 or UINT8, and a leading dimension of 1
    or any; sides are dynamic or at least 8. A trailing 3 or 1 wins only where the leading one is no
    channel count.
    """
    dims = list(spec.shape)
    if spec.dtype not in ("FP32", "FP16", "UINT8") or len(dims) not in (3, 4):
        return None
    if len(dims) == 4 and dims.pop(0) not in (-1, 1):
        return None
    for first, channels, sides in ((True, dims[0], dims[1:]), (False, dims[2], dims[:2])):
        if channels in (1, 3) and all(s == -1 or s >= MINIMUM_SIDE for s in sides):
            height, width = (None if s == -1 else s for s in sides)
            return Layout(channels, height, width, first)
    return None


def picture(path: Path, spec: TensorSpec) -> np.ndarray[Any, Any]:
    """One picture as an array of the input's type, without the leading dimension.

    Resized (bilinear) to the model's fixed sides, without cropping. UINT8 holds 0…255; floats hold
    0…1, RGB order, no other normalisation: what a model expects beyond that is not in its metadata.
    """
    import numpy as np

    layout = picture_layout(spec)
    assert layout is not None
    sides = (layout.width, layout.height)
    pixels = pictures.picture(
        path,
        spec.name,
        mode="RGB" if layout.channels == 3 else "L",
        size=sides,
        longest=0 if all(sides) else max(DYNAMIC_SIDE, *(side or 0 for side in sides)),
    )
    if layout.channels_first:
        pixels = pixels.transpose(2, 0, 1)
    if spec.dtype == "UINT8":
        return np.ascontiguousarray(pixels)
    wanted = np.float16 if spec.dtype == "FP16" else np.float32
    return np.ascontiguousarray(pixels.astype(np.float32) / 255, wanted)


def sound(path: Path, spec: TensorSpec) -> np.ndarray[Any, Any]:
    """A sound file as one channel: INT16, or floats in -1…1; at the file's own rate."""
    import numpy as np

    samples = sounds.sound(path, spec.name).samples
    if spec.dtype == "INT16":
        return np.asarray(np.clip(samples * 32768, -32768, 32767).round(), np.int16)
    return samples


# ---------------------------------------------------------------------------- kept tensors


def keep(array: np.ndarray[Any, Any], folder: Path | None = None) -> Path:
    """Save `array` as an ``.npy`` file (0600) named by its content, and return the file."""
    import numpy as np

    whole = np.ascontiguousarray(array)
    told = hashlib.sha256(f"{whole.dtype.str} {whole.shape}".encode())
    told.update(whole.reshape(-1).view(np.uint8).data)
    place = private_folder(folder) if folder is not None else _own_folder()
    file = place / f"{told.hexdigest()[:16]}.npy"
    if not file.exists():
        descriptor, fresh = tempfile.mkstemp(dir=place, suffix=".part")
        with os.fdopen(descriptor, "wb") as out:
            np.save(out, whole)
        Path(fresh).replace(file)
    return file


def stay() -> None:
    """Leave the kept tensors where they are when this process ends: a copied request names them."""
    atexit.unregister(_remove)


@cache
def _own_folder() -> Path:
    place = Path(tempfile.mkdtemp(prefix="tritondeck-tensors-"))
    atexit.register(_remove, place)
    return place


def _remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
