"""Image bytes to the pixels that a vision tower takes, as its Hugging Face processor makes them.

Pillow and NumPy alone. What is done is data (`pixels.json`): resize, crop, rescale, normalise, in the
processor's order and with its filter. The export compares this with the processor itself.
"""

import io
import json
from pathlib import Path

import numpy as np

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MOST_BYTES = 64 << 20
MOST_PIXELS = 64_000_000


class BadImage(ValueError):
    """What was sent cannot be used; the message is for whoever sent it."""


def load(folder):
    """The settings beside a model's source."""
    return json.loads(Path(folder, "pixels.json").read_text(encoding="utf-8"))


def decode(data):
    """RGB image of one file's bytes, turned as its camera was held; of an animation the first frame."""
    from PIL import Image, ImageOps

    if len(data) > MOST_BYTES:
        raise BadImage("the image has %d bytes, %d are allowed" % (len(data), MOST_BYTES))
    # The size is checked below, in words of ours and before anything is decoded.
    Image.MAX_IMAGE_PIXELS = None
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise BadImage(
                "the image has %d x %d pixels, %d million are allowed"
                % (width, height, MOST_PIXELS // 1_000_000)
            )
        return ImageOps.exif_transpose(image).convert("RGB")
    except BadImage:
        raise
    # Pillow's decoders raise OSError, SyntaxError, ValueError, EOFError, struct.error and others
    # for damaged files; each is the sender's file that cannot be read.
    except Exception as error:
        known = "JPEG, PNG, WebP, GIF, BMP or TIFF"
        raise BadImage("not an image that can be read (%s): %s" % (known, error)) from error


def resized(image, settings):
    """`image` in the size that `settings` ask for, still RGB."""
    size = settings["resize"]
    if "shortest_edge" in size:
        short, wide = size["shortest_edge"], image.width < image.height
        longer = int(short * max(image.size) / min(image.size))
        new = (short, longer) if wide else (longer, short)
    else:
        new = (size["width"], size["height"])
    if new != image.size:
        image = image.resize(new, settings["resample"])
    return image


def cropped(array, height, width):
    """The middle [height, width, 3] of `array`, with black around what is smaller."""
    top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
    if top < 0 or left < 0:
        above, beside = max(0, -top), max(0, -left)
        below = max(0, height - array.shape[0] - above)
        after = max(0, width - array.shape[1] - beside)
        array = np.pad(array, ((above, below), (beside, after), (0, 0)))
        top, left = max(0, top), max(0, left)
    return array[top : top + height, left : left + width]


def pixels(image, settings):
    """float32 [3, height, width] of one RGB image."""
    if settings.get("resize"):
        image = resized(image, settings)
    array = np.asarray(image, np.float32)
    if settings.get("crop"):
        array = cropped(array, settings["crop"]["height"], settings["crop"]["width"])
    array = array * np.float32(settings["rescale"])
    if settings.get("mean"):
        mean, std = np.array(settings["mean"], np.float32), np.array(settings["std"], np.float32)
        array = (array - mean) / std
    return np.ascontiguousarray(array.transpose(2, 0, 1))
