"""What a lower precision costs a real model: ``python benchmarks/precision.py --nemo ENV --modelopt ENV``.

The vision tower of ``examples/shapes`` is exported to ONNX (in the environment `nemo`), rewritten for
fp16 and int8 by the worker that a TensorRT deployment runs (in `modelopt`, on the CPU), and all three
name held-out pictures by the nearest of twelve captions. INT8 is calibrated with pictures of the
training range. Prints a Markdown table, or one JSON object with ``--json``; ends with 1 when fp16 names
fewer pictures right than the original, less one in a hundred, or int8 less five.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SHAPES = ROOT / "examples" / "shapes"
WORKER = ROOT / "backends" / "workers" / "modelopt_precision.py"
CALIBRATED = 256
BATCH = 8
LIMITS = {"fp16": 0.01, "int8": 0.25}


def export(folder: Path, images: int) -> None:
    """In the environment `nemo`: the graph, captions' vectors, pictures to name and to calibrate with."""
    import numpy as np
    import torch
    from transformers import AutoTokenizer, CLIPModel

    sys.path.insert(0, str(SHAPES))
    import make_shapes as shapes  # type: ignore[import-not-found]

    model = CLIPModel.from_pretrained(SHAPES, attn_implementation="eager").eval()
    texts = shapes.captions(AutoTokenizer.from_pretrained(SHAPES), "a photo of a {}", "cpu")

    class Vision(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower, self.head = model.vision_model, model.visual_projection

        def forward(self, pixel_values: torch.Tensor) -> Any:
            return self.head(self.tower(pixel_values=pixel_values).pooler_output)

    torch.onnx.export(
        Vision(), (torch.zeros(2, 3, shapes.SIZE, shapes.SIZE),), str(folder / "vision.onnx"),
        input_names=["pixel_values"], output_names=["image_embeds"], opset_version=17,
        dynamic_axes={"pixel_values": {0: "batch"}, "image_embeds": {0: "batch"}}, dynamo=False,
    )  # fmt: skip
    with torch.no_grad():
        np.save(folder / "texts.npy", model(
            pixel_values=torch.zeros(1, 3, shapes.SIZE, shapes.SIZE), **texts
        ).text_embeds.numpy())  # fmt: skip
    for name, first, count in (
        ("held-out", shapes.HELD_OUT_SEED, images), ("calibration", 0, CALIBRATED),
    ):  # fmt: skip
        kinds = shapes.CLASSES
        drawn = [shapes.picture(first + n, kinds[n % len(kinds)]) for n in range(count)]
        np.savez(folder / f"{name}.npz", pixel_values=shapes.pixels(drawn))


def judge(graph: Path, folder: Path) -> None:
    """In `modelopt`: how many held-out pictures a graph names right, and how long a batch takes."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    pixels = np.load(folder / "held-out.npz")["pixel_values"]
    texts = np.load(folder / "texts.npy")
    began, found = time.perf_counter(), []
    for start in range(0, len(pixels), BATCH):
        (vectors,) = session.run(None, {"pixel_values": pixels[start : start + BATCH]})
        found += (vectors @ texts.T).argmax(1).tolist()
    took = (time.perf_counter() - began) / (len(pixels) / BATCH)
    right = sum(best == number % len(texts) for number, best in enumerate(found))
    print(json.dumps({"right": right, "batch_ms": took * 1000, "bytes": graph.stat().st_size}))


def measured(nemo: Path, modelopt: Path, images: int, folder: Path) -> dict[str, Any]:
    """One row for each precision."""
    run(nemo, Path(__file__), "--export", str(folder), "--images", str(images))
    size = [1, 3, 64, 64]
    sample = {"name": "pixel_values", "dtype": "FP32", "sent": "FP32", "shape": size}
    signature = folder / "signature.json"
    signature.write_text(json.dumps({"sample": [sample | {"graph_shape": size, "batched": True}]}))
    graph = folder / "vision.onnx"
    rows = {"fp32": judged(modelopt, graph, folder)}
    for precision, limit in LIMITS.items():
        into, report = folder / precision, folder / f"{precision}.json"
        began = time.perf_counter()
        run(
            modelopt, WORKER, "--graph", str(graph), "--into", str(into), "--report", str(report),
            "--signature", str(signature), "--precision", precision, "--limit", str(limit),
            "--calibration", str(folder / "calibration.npz"), "--shape", f"pixel_values:{BATCH}x3x64x64",
        )  # fmt: skip
        took = time.perf_counter() - began
        said = json.loads(report.read_text())
        rows[precision] = {
            **judged(modelopt, into / "model.onnx", folder),
            "relative": said["relative"],
            "max_abs_diff": said["outputs"]["image_embeds"]["max_abs_diff"],
            "rewriting_s": took,
        }
    return {"images": images, "rows": rows}


def judged(modelopt: Path, graph: Path, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        run(modelopt, Path(__file__), "--judge", str(graph), str(folder)).splitlines()[-1]
    )
    return found


def run(environment: Path, script: Path, *words: str) -> str:
    done = subprocess.run(
        [str(environment / "bin" / "python"), str(script), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{script.name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def table(found: dict[str, Any]) -> str:
    lines = [
        "| precision | named right | of the output's norm | largest difference | kB | ms a batch of 8 "
        "| rewriting s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in found["rows"].items():
        cells = [
            name,
            f"{row['right']} of {found['images']}",
            f"{row['relative']:.5f}" if "relative" in row else "",
            f"{row['max_abs_diff']:.4f}" if "max_abs_diff" in row else "",
            f"{row['bytes'] / 1000:.0f}",
            f"{row['batch_ms']:.1f}",
            f"{row['rewriting_s']:.1f}" if "rewriting_s" in row else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nemo", type=Path, help="folder of the environment nemo")
    parser.add_argument("--modelopt", type=Path, help="folder of the environment modelopt")
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--export", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--judge", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.export:
        export(args.export, args.images)
        return 0
    if args.judge:
        judge(*args.judge)
        return 0
    if not args.nemo or not args.modelopt:
        parser.error("name both environments: tritondeck env lists their folders")
    with tempfile.TemporaryDirectory() as folder:
        found = measured(args.nemo, args.modelopt, args.images, Path(folder))
    print(json.dumps(found) if args.json else table(found))
    rows, images = found["rows"], found["images"]
    lost = {name: rows["fp32"]["right"] - rows[name]["right"] for name in LIMITS}
    return 1 if lost["fp16"] > images / 100 or lost["int8"] > images / 20 else 0


if __name__ == "__main__":
    sys.exit(main())
