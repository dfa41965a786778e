"""Export the towers of a retrieval model to ONNX and prove that what is served equals PyTorch.

Runs in the `nemo` environment (PyTorch, transformers, ONNX Runtime), imports nothing of tritondeck but
the python models' own `pixels.py` and `tokens.py` (``--sources``), Python 3.10 syntax.

``--kind pair``: a vision and a text tower with one space (CLIP, SigLIP and whatever else
transformers loads with `get_image_features` and `get_text_features`). ``--kind sentence``: a sentence
encoder, pooled as its own modules say. Every tower's output is divided by its norm in the graph.

Compared are: pixels with the Hugging Face image processor's, token ids with the tokenizer's,
embeddings of ONNX Runtime with PyTorch's, from image files and texts to vectors. Exit codes: 0
published, 1 refused (the last line says why), 2 wrong usage.
"""

import argparse
import hashlib
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

TEXTS = (
    "a photo of a red circle",
    "Zwei Katzen auf einem Sofa, über 3 m²!",
    "word " * 300,
    "x",
    "the quick brown fox jumps over the lazy dog while it rains",
)
SIZES = ((64, 64), (97, 33), (40, 120), (301, 200))
HASHED = (".safetensors", ".bin", ".json", ".txt", ".model")


class Refused(Exception):
    """The model is not exported; the message is for the operator."""


def progress(fraction, message):
    print("[tritondeck] progress %.2f %s" % (fraction, message), flush=True)


def fingerprint(folder):
    """What the vectors of a model are known by: a digest of its weights and settings.

    Of the files, which are read once more for it, and not of what was loaded: collections keep it, and
    the names and types of loaded weights change with transformers.
    """
    total = hashlib.sha256()
    for file in sorted(p for p in Path(folder).rglob("*") if p.suffix in HASHED and p.is_file()):
        total.update(str(file.relative_to(folder)).encode() + b"\0")
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                total.update(block)
    return total.hexdigest()[:16]


def tensor_of(found):
    """Features, whether this release of transformers returns them bare or in an output object."""
    return found if hasattr(found, "shape") else found.pooler_output


def modules(torch):
    """The three graphs as modules of `torch`."""

    def unit(vectors):
        return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)

    class Vision(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, pixel_values):
            return unit(tensor_of(self.model.get_image_features(pixel_values=pixel_values)))

    class Text(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask=None):
            given = {} if attention_mask is None else {"attention_mask": attention_mask}
            return unit(tensor_of(self.model.get_text_features(input_ids=input_ids, **given)))

    class Sentence(torch.nn.Module):
        def __init__(self, model, pooling):
            super().__init__()
            self.model, self.pooling = model, pooling

        def forward(self, input_ids, attention_mask):
            states = self.model(input_ids=input_ids, attention_mask=attention_mask)
            states = states.last_hidden_state
            if self.pooling == "cls":
                return unit(states[:, 0])
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            return unit((states * mask).sum(1) / mask.sum(1).clamp(min=1e-9))

    return Vision, Text, Sentence


def load(folder, kind):
    from transformers import AutoModel

    try:
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, attn_implementation="eager", trust_remote_code=False
        )
    # transformers raises OSError, ValueError, KeyError, ImportError and safetensors' own errors.
    except Exception as error:
        raise Refused("transformers does not load the model: %s" % error) from error
    wanted = ("get_image_features", "get_text_features") if kind == "pair" else ()
    if missing := [name for name in wanted if not hasattr(model, name)]:
        raise Refused("%s has no %s: not a two-tower model" % (type(model).__name__, missing[0]))
    return model.float().eval()


# ---------------------------------------------------------------------------- in front of towers


def write_pixels(folder, into):
    """`pixels.json` of the model's image processor; the processor."""
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, use_fast=False
        )
    except (OSError, ValueError, ImportError) as error:
        raise Refused("its image processor cannot be read: %s" % error) from error
    said = processor.to_dict()
    size = dict(said["size"]) if said.get("do_resize") else None
    if size and not ("shortest_edge" in size or {"height", "width"} <= set(size)):
        raise Refused("its image processor resizes to %s, which is not known here" % size)
    settings = {
        "resize": size,
        "resample": int(said.get("resample") or 2),
        "crop": dict(said["crop_size"]) if said.get("do_center_crop") else None,
        "rescale": float(said["rescale_factor"]) if said.get("do_rescale", True) else 1.0,
        "mean": said["image_mean"] if said.get("do_normalize") else None,
        "std": said["image_std"] if said.get("do_normalize") else None,
    }
    (into / "pixels.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return processor


def write_tokens(folder, into, length, multiple, padding):
    """`tokenizer.json` and `tokens.json`; the tokenizer that they must agree with."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
    except (OSError, ValueError, ImportError) as error:
        raise Refused("its tokenizer cannot be read: %s" % error) from error
    if not tokenizer.is_fast:
        raise Refused("its tokenizer has no form that the tokenizers library runs")
    tokenizer.backend_tokenizer.save(str(into / "tokenizer.json"))
    settings = {"length": length, "multiple": multiple, "pad": tokenizer.pad_token_id or 0}
    (into / "tokens.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    def encode(texts):
        made = tokenizer(
            list(texts), padding=padding, truncation=True, max_length=length, return_tensors="np"
        )
        mask = made.get("attention_mask")
        mask = mask if mask is not None else np.ones_like(made["input_ids"])
        return made["input_ids"].astype(np.int64), mask.astype(np.int64)

    return encode


def images():
    """Seeded test images of several shapes, as PNG files."""
    from PIL import Image

    draw = np.random.default_rng(7)
    for width, height in SIZES:
        coarse = draw.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        image.save(file, "PNG")
        yield file.getvalue()


def same_pixels(processor, front, sources):
    """Our pixels of the test images, and the largest difference from the processor's."""
    sys.path.insert(0, str(sources))
    import pixels

    settings = pixels.load(front)
    decoded = [pixels.decode(data) for data in images()]
    ours = np.stack([pixels.pixels(image, settings) for image in decoded])
    theirs = np.stack(
        [processor(image, return_tensors="np")["pixel_values"][0] for image in decoded]
    )
    if ours.shape != theirs.shape:
        raise Refused("pixels of shape %s, the processor makes %s" % (ours.shape, theirs.shape))
    return ours, float(np.abs(ours - theirs).max())


def same_tokens(encode, front, sources):
    """Our ids and mask of the test texts; refuses those that differ from the tokenizer's.

    Where ours are padded further, what lies behind the tokenizer's must be padding.
    """
    sys.path.insert(0, str(sources))
    import tokens

    ids, mask = tokens.Tokens(front).encode(TEXTS)
    wanted, wanted_mask = encode(TEXTS)
    width = wanted.shape[1]
    used = wanted_mask.astype(bool)
    equal = np.array_equal(ids[:, :width][used], wanted[used]) and not mask[:, width:].any()
    if not equal:
        raise Refused("the served tokenizer makes other ids than transformers'")
    return ids, mask


# ---------------------------------------------------------------------------- graphs


def export(torch, module, inputs, output, file, opset):
    """Write the graph; the first two dimensions of integer inputs and the batch stay open."""
    axes = {
        name: {0: "batch", **({1: "tokens"} if v.ndim == 2 else {})} for name, v in inputs.items()
    }
    torch.onnx.export(
        module,
        tuple(torch.from_numpy(value) for value in inputs.values()),
        str(file),
        input_names=list(inputs),
        output_names=[output],
        dynamic_axes={**axes, output: {0: "batch"}},
        opset_version=opset,
        dynamo=False,
    )


def compare(torch, module, inputs, output, file):
    """Largest difference from PyTorch over whole and single batches; every row is of length 1."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    rows, worst = len(next(iter(inputs.values()))), 0.0
    for part in (slice(None), *(slice(row, row + 1) for row in range(rows))):
        feed = {name: value[part] for name, value in inputs.items()}
        (found,) = session.run([output], feed)
        with torch.no_grad():
            right = module(*(torch.from_numpy(value) for value in feed.values())).numpy()
        if not np.isfinite(found).all() or np.abs(np.linalg.norm(found, axis=1) - 1).max() > 1e-3:
            raise Refused("the graph's vectors are not of length 1")
        worst = max(worst, float(np.abs(found - right).max()))
    return found.shape[1], worst


def tower(torch, module, inputs, output, into, options):
    """Export and compare one tower; what the report says of it."""
    file = into / "model.onnx"
    # The whole of it: the exporter gives a module back in the mode that it had, dropout included.
    module.eval()
    export(torch, module, {n: v[:2] for n, v in inputs.items()}, output, file, options.opset)
    dimension, difference = compare(torch, module, inputs, output, file)
    if dimension != options.dimension:
        raise Refused(
            "its vectors have %d dimensions, the plan predicted %d" % (dimension, options.dimension)
        )
    return {"dimension": dimension, "max_abs_diff": difference}


def pair(options, scratch):
    import torch

    vision, text, _ = modules(torch)
    progress(0.05, "loading the model")
    model = load(options.model, "pair")
    processor = write_pixels(options.model, scratch["pixels"])
    encode = write_tokens(options.model, scratch["tokens"], options.length, 0, "max_length")
    values, difference = same_pixels(processor, scratch["pixels"], options.sources)
    ids, mask = same_tokens(encode, scratch["tokens"], options.sources)
    inputs = {"input_ids": ids} | ({"attention_mask": mask} if options.masked else {})
    progress(0.2, "exporting the vision tower")
    seen = {"pixel_values": values}
    report = {"pixels_max_abs_diff": difference, "tokens_equal": True}
    report["vision"] = tower(torch, vision(model), seen, "image_embeds", scratch["vision"], options)
    progress(0.6, "exporting the text tower")
    report["text"] = tower(torch, text(model), inputs, "text_embeds", scratch["text"], options)
    return report


def pooling_of(folder):
    """``mean`` or ``cls``, as the modules of a sentence-transformers folder say; mean without them."""
    listed = Path(folder, "modules.json")
    if not listed.is_file():
        return "mean"
    for module in json.loads(listed.read_text(encoding="utf-8")):
        if module["type"].rsplit(".", 1)[-1] != "Pooling":
            continue
        file = Path(folder, module["path"], "config.json")
        said = json.loads(file.read_text(encoding="utf-8"))
        if said.get("pooling_mode_cls_token"):
            return "cls"
        if not said.get("pooling_mode_mean_tokens", said.get("pooling_mode") == "mean"):
            raise Refused("its pooling is neither mean nor the first token")
    return "mean"


def length_of(folder, most):
    """Most tokens of a sentence: what the encoder was trained for, where its folder says so."""
    from transformers import AutoTokenizer

    said = [most, AutoTokenizer.from_pretrained(folder, local_files_only=True).model_max_length]
    file = Path(folder, "sentence_bert_config.json")
    if file.is_file():
        said.append(json.loads(file.read_text(encoding="utf-8")).get("max_seq_length") or most)
    return int(min(said))


def sentence(options, scratch):
    import torch

    _, _, module = modules(torch)
    progress(0.05, "loading the sentence encoder")
    model = load(options.model, "sentence")
    pooling = pooling_of(options.model)
    length = length_of(options.model, options.length)
    encode = write_tokens(options.model, scratch["tokens"], length, 16, True)
    ids, mask = same_tokens(encode, scratch["tokens"], options.sources)
    inputs = {"input_ids": ids, "attention_mask": mask}
    progress(0.3, "exporting the sentence encoder")
    made = module(model, pooling)
    report = {"pooling": pooling, "length": length, "tokens_equal": True}
    report["text"] = tower(torch, made, inputs, "text_embeds", scratch["text"], options)
    return report


# ---------------------------------------------------------------------------- publishing


def publish(scratch, targets):
    """Move every file into place, graphs last."""
    for name in sorted(targets, key=lambda name: name in ("vision", "text")):
        targets[name].mkdir(parents=True, exist_ok=True)
        for file in sorted(scratch[name].iterdir()):
            file.chmod(0o600)
            file.replace(targets[name] / file.name)


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=("pair", "sentence"), required=True)
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face folder")
    parser.add_argument("--sources", type=Path, required=True, help="pixels.py and tokens.py")
    for name in ("vision", "text", "pixels", "tokens"):
        parser.add_argument("--%s-into" % name, type=Path, help="version folder")
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--dimension", type=int, required=True, help="of the predicted vectors")
    parser.add_argument("--length", type=int, required=True, help="most tokens of a text")
    parser.add_argument("--masked", action="store_true", help="the text tower takes a mask")
    parser.add_argument("--opset", type=int, default=17)
    return parser.parse_args(argv)


def run(options):
    targets = {
        name: getattr(options, "%s_into" % name)
        for name in ("vision", "text", "pixels", "tokens")
        if getattr(options, "%s_into" % name)
    }
    options.report.parent.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix=".towers-", dir=str(options.report.parent)))
    try:
        scratch = {name: root / name for name in targets}
        for folder in scratch.values():
            folder.mkdir()
        report = pair(options, scratch) if options.kind == "pair" else sentence(options, scratch)
        report |= {"dimension": options.dimension, "fingerprint": fingerprint(options.model)}
        towers = [report[name] for name in ("vision", "text") if name in report]
        report["max_abs_diff"] = max(tower["max_abs_diff"] for tower in towers)
        publish(scratch, targets)
    finally:
        shutil.rmtree(str(root), ignore_errors=True)
    partial = options.report.with_name("." + options.report.name + ".partial")
    partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    partial.chmod(0o600)
    partial.replace(options.report)
    progress(1.0, "the towers are in the repository")


def main(argv=None):
    options = arguments(argv)
    try:
        run(options)
    except (Refused, OSError) as error:  # OSError: a full disk, a file that cannot be read
        print("[tritondeck] error: %s" % error, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
