"""One picture of a file as pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from console.facts import UsageError
from console.media import files
from console.text import clean

if TYPE_CHECKING:
    import numpy as np

PIXEL_CAP = 64 << 20
"""Pixels of a picture that are decoded at most; a small file can claim any size."""
FIX = "give a JPEG, PNG, WebP or GIF file"
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")
"""What Pillow may take a file for: it knows formats that other programs are started for."""


def picture(
    path: Path,
    field: str,
    *,
    mode: Literal["RGB", "L"] = "RGB",
    size: tuple[int | None, int | None] = (None, None),
    longest: int = 0,
) -> np.ndarray[Any, Any]:
    """The (first) picture as UINT8 [height, width, channels], RGB or grey.

    `size` (width, height) is what it is resized to, bilinear and without cropping; None keeps a side.
    `longest`: a picture with a longer side (pixels) is scaled down to it, its proportions kept; 0
    keeps any. Raises `UsageError` in one sentence for what is no picture, too large, or cut off.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    found = files.look(path, field)
    if found in (files.Kind.TEXT, files.Kind.EMPTY):
        raise files.wrong(path, field, "a picture that can be read", found, FIX)
    try:
        with Image.open(path, formats=FORMATS) as opened:
            too_large(path, field, opened.size)
            if longest and max(opened.size) > longest:
                opened.thumbnail((longest, longest), Image.Resampling.BICUBIC)
            image = opened.convert(mode)
    except Image.DecompressionBombError as error:
        raise bomb(path, field, error) from error
    except UnidentifiedImageError as error:
        raise files.wrong(path, field, "a picture that can be read", found, FIX) from error
    except (OSError, ValueError, SyntaxError) as error:  # SyntaxError: Pillow's for a broken PNG
        raise files.damaged(path, field, str(error)) from error
    wanted = (size[0] or image.width, size[1] or image.height)
    if wanted != image.size:
        image = image.resize(wanted, Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(wanted[1], wanted[0], len(mode))


def bomb(path: Path, field: str, error: Exception) -> UsageError:
    """Pillow itself refuses a size that stands in the file's header."""
    return UsageError(
        f"{field}: {clean(path.name)} has too many pixels",
        why=clean(str(error)),
        fix="scale it down",
    )


def too_large(path: Path, field: str, size: tuple[int, int]) -> None:
    """Raises `UsageError` for more pixels (width, height) than are decoded."""
    width, height = size
    if width * height > PIXEL_CAP:
        raise UsageError(
            f"{field}: {clean(path.name)} has too many pixels",
            why=f"{width:,} × {height:,}, and {PIXEL_CAP:,} are decoded at most",
            fix="scale it down",
        )
