"""Media as the tensors of a multimodal model, written to ``.npy`` files, by NeMo's own client class.

Runs where NeMo or Export-Deploy is installed, imports nothing of tritondeck, Python 3.8 syntax.

    nemo_media.py --client MODULE --type MODEL_TYPE --media image|video|sound --out DIR [--input FILE]

With a file, ``NemoQueryMultimodal.setup_media`` of MODULE reads it: what it gives is what upstream's
query script would send. Without one, a small made-up picture, video or tone is written, for the request
that any answer satisfies. ``input_media.npy`` is UINT8 [1, frames, height, width, 3]; of sound,
``input_signal.npy`` is FP32 [1, samples] and ``input_signal_length.npy`` INT32 [1, 1]. Exit codes: 0 done,
1 failed (the last line says why), 2 wrong usage.
"""

import argparse
import importlib
import sys
from pathlib import Path

import numpy as np

RATE = 16000
SIDE, FRAMES = 64, 8


def made(kind):
    """Something that a model of this kind takes."""
    if kind == "sound":
        times = np.arange(RATE, dtype=np.float32) / RATE
        signal = np.sin(2 * np.pi * 440 * times).astype(np.float32)[np.newaxis] / 2
        length = np.array([[signal.shape[1]]], np.int32)
        return {"input_signal": signal, "input_signal_length": length}
    levels = np.linspace(0, 255, FRAMES if kind == "video" else 1).astype(np.uint8)
    frames = np.zeros((len(levels), SIDE, SIDE, 3), np.uint8)
    frames += levels[:, np.newaxis, np.newaxis, np.newaxis]
    return {"input_media": frames[np.newaxis]}


def read(module, model_type, file):
    """What upstream's client sends for a file."""
    client = importlib.import_module(module).NemoQueryMultimodal("", "", model_type)
    media = client.setup_media(file)
    if isinstance(media, dict):
        return media
    return {"input_media": np.ascontiguousarray(media)[np.newaxis]}


def main(argv):
    parser = argparse.ArgumentParser(description="media as tensors")
    parser.add_argument("--client", required=True)
    parser.add_argument("--type", required=True)
    parser.add_argument("--media", choices=("image", "video", "sound"), required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--input", default="")
    args = parser.parse_args(argv)
    if args.input and not Path(args.input).is_file():
        print("there is no file %s" % args.input, flush=True)
        return 1
    found = read(args.client, args.type, args.input) if args.input else made(args.media)
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in found.items():
        temporary = folder / (name + ".part.npy")
        np.save(str(temporary), array)
        temporary.replace(folder / (name + ".npy"))
        shape = "x".join(str(size) for size in array.shape)
        print("[tritondeck] %s %s %s" % (name, array.dtype, shape), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
