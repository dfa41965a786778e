#!/usr/bin/env python3
"""Make the small two-tower model of the examples: coloured shapes and their captions.

Subcommands (``--help`` shows their options)::

    train     make the tokenizer and a CLIP model, and train until the step count is reached
    evaluate  the caption of held-out images by the nearest text; 1 below the wanted accuracy
    pictures  write held-out images as PNG files with a captions.jsonl (needs Pillow and NumPy only)

Training stops by a count of steps and never by the clock. It takes 7 minutes on one CPU core. The
result is a Hugging Face folder (``CLIPModel``, 64 × 64 pixels, 64 dimensions) of 2.2 MB.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    import torch

SHAPES = ("circle", "square", "triangle")
COLORS = {
    "red": (214, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 210),
    "yellow": (235, 205, 40),
}
CLASSES = tuple(f"{color} {shape}" for shape in SHAPES for color in COLORS)
TEMPLATES = (
    "a {}",
    "a photo of a {}",
    "a picture of a {}",
    "a drawing of a {}",
    "one {}",
)
SIZE, DRAWN = 64, 256
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TEXT_LENGTH = 16
END = "<|endoftext|>"
HELD_OUT_SEED = 1_000_003
"""Images of this seed and above are never in training."""


def picture(number: int, name: str, spread: float = 1.0) -> Image.Image:
    """One image of `name`, RGB `SIZE` × `SIZE`, decided by `number` alone.

    `spread` 0…1: how far from the middle, how noisy, how various; training begins with easy ones.
    """
    draw = np.random.default_rng(number)
    color, shape = name.split()
    background = draw.integers(0, 256, 3)
    image = Image.new("RGB", (DRAWN, DRAWN), tuple(int(v) for v in background))
    radius = draw.uniform(12 + 6 * (1 - spread), 23) * DRAWN / SIZE
    room = DRAWN / 2 - radius
    x, y = DRAWN / 2 + draw.uniform(-room, room, 2) * spread
    fill = np.clip(np.array(COLORS[color]) + draw.normal(0, 12 * spread, 3), 0, 255)
    paint = ImageDraw.Draw(image)
    if np.abs(fill - background).sum() < 120:  # a shape that nobody could see teaches nothing
        paint.rectangle((0, 0, DRAWN, DRAWN), fill=tuple(int(255 - v) for v in fill))
    words = {"fill": tuple(int(v) for v in fill)}
    if shape == "circle":
        paint.ellipse((x - radius, y - radius, x + radius, y + radius), **words)
    elif shape == "square":
        side = radius * 0.86
        paint.rectangle((x - side, y - side, x + side, y + side), **words)
    else:
        low, wide = radius * 0.7, radius * 0.95
        paint.polygon([(x, y - radius), (x - wide, y + low), (x + wide, y + low)], **words)
    small = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS), np.float32)
    noisy = small + draw.normal(0, draw.uniform(0, 30 * spread + 1e-6), small.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def pixels(images: list[Image.Image]) -> np.ndarray:
    """float32 [N, 3, SIZE, SIZE], normalised as CLIP's image processor does it."""
    raw = np.stack([np.asarray(image, np.float32) for image in images]) / 255
    return ((raw - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).transpose(0, 3, 1, 2)


def make_tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer over bytes and the words of the captions; the end token has the highest id,
    so that both rules for pooling the text (largest id, first end token) agree."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    words = sorted({w for t in TEMPLATES for c in CLASSES for w in t.format(c).split()})
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            parts[:2] = ["".join(pair)]
            if pair not in merges:
                merges.append(pair)
            if parts[0] not in pieces:
                pieces.append(parts[0])
    vocabulary = {piece: number for number, piece in enumerate([*pieces, "<|startoftext|>", END])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=TEXT_LENGTH, pad_token=END)
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    # The name that every version of transformers knows.
    settings = json.loads(file.read_text()) | {"tokenizer_class": "CLIPTokenizer"}
    file.write_text(json.dumps(settings, indent=2) + "\n")
    return tokenizer


def make_model(tokenizer: Any) -> Any:
    """0.5 million parameters: 3 vision layers of 128, 2 text layers of 64, one space of 64."""
    from torch import nn
    from transformers import CLIPConfig, CLIPModel

    end = tokenizer.convert_tokens_to_ids(END)
    config = CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": TEXT_LENGTH,
            "bos_token_id": end - 1,
            "eos_token_id": end,
            "pad_token_id": end,
        },
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": SIZE,
            "patch_size": 8,
        },
        projection_dim=64,
    )
    model = CLIPModel(config)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    return model


def captions(tokenizer: Any, template: str, device: str) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` of every class, int64 [12, tokens]."""
    texts = [template.format(name) for name in CLASSES]
    made = tokenizer(texts, padding=True, return_tensors="pt")
    return {name: made[name].to(device) for name in ("input_ids", "attention_mask")}


def train(args: argparse.Namespace) -> int:
    import torch
    from torch.nn import functional

    torch.manual_seed(args.seed)
    draw = random.Random(args.seed)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = make_tokenizer(args.out)
    model = make_model(tokenizer).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, args.steps, pct_start=0.1)
    for step in range(1, args.steps + 1):
        done = step / args.steps
        spread = 0.0 if done < 0.09 else 0.35 if done < 0.16 else 0.65 if done < 0.22 else 1.0
        labels = torch.tensor([draw.randrange(len(CLASSES)) for _ in range(args.batch)])
        images = [
            picture(draw.randrange(HELD_OUT_SEED), CLASSES[label], spread) for label in labels
        ]
        inputs = torch.from_numpy(pixels(images)).to(device)
        labels = labels.to(device)
        texts = captions(tokenizer, draw.choice(TEMPLATES), device)
        logits = model(pixel_values=inputs, **texts).logits_per_image
        # Both ways; several images share one caption, so that way has several right answers.
        right = functional.one_hot(labels, len(CLASSES)).float().T
        share = right / right.sum(1, keepdim=True).clamp(min=1)
        back = -(share * functional.log_softmax(logits.T, dim=1)).sum(1).mean()
        loss = functional.cross_entropy(logits, labels) + back
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}/{args.steps} loss {loss.item():.4f}", flush=True)
    model.eval().save_pretrained(args.out)
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": SIZE},
        "do_center_crop": True,
        "crop_size": {"height": SIZE, "width": SIZE},
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "image_mean": MEAN,
        "image_std": STD,
        "resample": 3,
    }
    (args.out / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    for file in args.out.iterdir():
        file.chmod(0o644)  # a server in a container runs as another user
    return 0


def evaluate(args: argparse.Namespace) -> int:
    import torch
    from transformers import AutoTokenizer, CLIPModel

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = CLIPModel.from_pretrained(args.folder).to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    total = 0.0
    for template in TEMPLATES[:3]:
        right = 0
        texts = captions(tokenizer, template, device)
        for start in range(0, args.images, 100):
            numbers = range(start, min(start + 100, args.images))
            images = [
                picture(HELD_OUT_SEED + number, CLASSES[number % len(CLASSES)])
                for number in numbers
            ]
            with torch.no_grad():
                inputs = torch.from_numpy(pixels(images)).to(device)
                best = model(pixel_values=inputs, **texts).logits_per_image.argmax(1).tolist()
            right += sum(
                b == number % len(CLASSES) for b, number in zip(best, numbers, strict=True)
            )
        accuracy = right / args.images
        total += accuracy / 3
        print(f"{template.format('…'):20} {right} of {args.images}", flush=True)
    print(json.dumps({"images": args.images, "accuracy": round(total, 4)}))
    return 0 if total >= args.wanted else 1


def pictures(args: argparse.Namespace) -> int:
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "captions.jsonl").open("w") as lines:
        for number in range(args.first, args.first + args.count):
            name = CLASSES[number % len(CLASSES)]
            file = f"{number:05d}-{name.replace(' ', '-')}.png"
            picture(HELD_OUT_SEED + number, name).save(args.out / file)
            color, shape = name.split()
            record = {"image": file, "caption": f"a {name}", "color": color, "shape": shape}
            lines.write(json.dumps(record) + "\n")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("train", help="make and train the model")
    verb.add_argument("out", type=Path)
    verb.add_argument("--steps", type=int, default=1900)
    verb.add_argument("--batch", type=int, default=48)
    verb.add_argument("--seed", type=int, default=20)
    verb.add_argument("--device", default="")
    verb.set_defaults(run=train)
    verb = verbs.add_parser("evaluate", help="the nearest caption of held-out images")
    verb.add_argument("folder", type=Path)
    verb.add_argument("--images", type=int, default=1200)
    verb.add_argument("--wanted", type=float, default=0.97)
    verb.add_argument("--device", default="")
    verb.set_defaults(run=evaluate)
    verb = verbs.add_parser("pictures", help="write held-out images and their captions")
    verb.add_argument("out", type=Path)
    verb.add_argument("--count", type=int, default=24)
    verb.add_argument("--first", type=int, default=0)
    verb.set_defaults(run=pictures)
    args = parser.parse_args()
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
