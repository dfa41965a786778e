"""Export the CTC graph of a NeMo speech checkpoint to ONNX and prove that it is the same model.

Runs in the `nemo` environment, imports nothing of tritondeck, Python 3.10 syntax. Writes

* ``model.onnx`` (with ``model.onnx.data`` when it is large) into the graph folder:
  audio_signal FP32 [B, features, frames], length INT64 [B] →
  logprobs FP32 [B, steps, vocabulary + blank], encoded_lengths INT64 [B];
* ``frontend.npz`` (the checkpoint's filterbank and window) and ``vocabulary.json`` into the
  front-end folder;
* the report: the largest difference between ONNX Runtime and PyTorch on the same input, whether
  decisions and texts are equal, versions, signature, seconds.

Nothing is published unless the graph has the predicted signature and stays within tolerance. The
text path that is compared is the very one that is served: its sources are loaded from `--sources`.
Exit codes: 0 published, 1 refused or different (the last line says why), 2 wrong usage.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import random
import re
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
from pathlib import Path

OLDEST_NEMO = (2, 6, 2)  # older ones unpickle weights: code execution
TARGET = re.compile(r"^nemo\.collections\.[\w.]+$")
CONFIG_CAP = 4 << 20
MASK_FRAMES = 60000  # 600 s at 10 ms: length table of convolutional encoders
COMPARED_SECONDS = 30
OUTPUTS = ("logprobs", "encoded_lengths")


class Refused(Exception):
    """The checkpoint or the result is not acceptable; the message is for the operator."""


def progress(fraction, message):
    print("[tritondeck] progress %.2f %s" % (fraction, message), flush=True)


# ------------------------------------------------------------------------------ the archive


def check_archive(path):
    """Refuse archives that show one file to a preview and another to the loader.

    Walks every header: no duplicate names, absolute paths, ``..``, links or devices; the root
    ``target`` must be a class of NeMo's collections, because NeMo imports whatever it names.
    Returns the parsed configuration.
    """
    import yaml

    if not path.is_file():
        raise Refused("no such checkpoint: %s" % path)
    seen, text = set(), None
    try:
        # Mode r|* streams: a header is judged before anything after it is read.
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                name = os.path.normpath(member.name)
                if member.name.startswith("/") or ".." in member.name.split("/"):
                    raise Refused("the archive has an unsafe member name: %r" % member.name)
                if not (member.isfile() or member.isdir()):
                    raise Refused("the archive has a link or device: %r" % member.name)
                if name in seen:
                    raise Refused("the archive has two members named %r" % name)
                seen.add(name)
                if name == "model_config.yaml":
                    if member.size > CONFIG_CAP:
                        raise Refused("model_config.yaml has %d bytes" % member.size)
                    text = archive.extractfile(member).read()
    except tarfile.TarError as error:
        raise Refused("not a whole .nemo archive (%s): download it again" % error) from error
    if text is None or "model_weights.ckpt" not in seen:
        raise Refused("the archive lacks model_config.yaml or model_weights.ckpt")
    config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    target = str(config.get("target", "")) if isinstance(config, dict) else ""
    if not TARGET.match(target):
        raise Refused("target %r is no class of nemo.collections" % target)
    return config


def check_versions():
    """Versions of what decides the result; refuses a NeMo that executes code of a checkpoint."""
    names = ("nemo_toolkit", "torch", "onnx", "onnxruntime", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    found = tuple(int(part) for part in re.findall(r"\d+", versions["nemo_toolkit"])[:3])
    if found < OLDEST_NEMO:
        raise Refused(
            "NeMo %s loads weights with pickle; 2.6.2 or newer is needed" % versions["nemo_toolkit"]
        )
    return versions


# ------------------------------------------------------------------------------ the model


def restore(path, device):
    """The checkpoint as a NeMo model in eval mode on `device`, hybrids with their CTC head."""
    # Said on every import, about tools that this worker does not use.
    warnings.filterwarnings("ignore", message="Couldn't find ffmpeg")
    logging.getLogger("nv_one_logger").setLevel(logging.ERROR)
    import torch
    from nemo.collections.asr.models import ASRModel

    if device == "cuda" and not torch.cuda.is_available():
        raise Refused("device is cuda, but PyTorch sees no GPU here: set device to cpu")
    progress(0.30, "restoring the checkpoint")
    # TF32 convolutions differ from ONNX Runtime by more than any tolerance worth having.
    torch.backends.cudnn.allow_tf32 = False
    try:
        model = ASRModel.restore_from(str(path), map_location=torch.device(device))
    # NeMo ends with a misleading error of some class ("Can't instantiate abstract class ModelPT") when
    # the real one was logged before; both are in the log, the sentence says where to look.
    except Exception as error:
        traceback.print_exc()
        raise Refused(
            'NeMo does not restore the checkpoint (%s: %s); where the log says "Model instantiation '
            'failed", that block has the cause' % (type(error).__name__, str(error).split("\n")[0])
        ) from error
    model.eval()
    if hasattr(model, "ctc_decoder"):
        model.set_export_config({"decoder_type": "ctc"})
    elif hasattr(model, "joint"):
        raise Refused("%s is a transducer without a CTC head" % type(model).__name__)
    featurizer = model.preprocessor.featurizer
    featurizer.pad_to = 0
    featurizer.dither = 0.0
    return model


def head(model):
    """The CTC head and its decoding, of CTC and hybrid models."""
    if hasattr(model, "ctc_decoder"):
        return model.ctc_decoder, model.ctc_decoding
    return model.decoder, model.decoding


class Reference:
    """What PyTorch says, before the export rewrites the modules."""

    def __init__(self, model, batches):
        import torch

        decoder, self.decoding = head(model)
        self.cases = []
        with torch.inference_mode():
            for samples in batches:
                lengths = torch.tensor([len(row) for row in samples], device=model.device)
                signal = torch.zeros(len(samples), int(lengths.max()), device=model.device)
                for row, values in zip(signal, samples):  # noqa: B905
                    row[: len(values)] = torch.from_numpy(values)
                features, frames = model.preprocessor(input_signal=signal, length=lengths)
                encoded, steps = model.encoder(audio_signal=features, length=frames)[:2]
                logprobs = decoder(encoder_output=encoded)
                found = self.decoding.ctc_decoder_predictions_tensor(
                    logprobs, decoder_lengths=steps
                )
                texts = [getattr(item, "text", item) for item in found]
                self.cases.append(
                    {
                        "samples": samples,
                        "features": features.float().cpu().numpy(),
                        "frames": frames.cpu().numpy(),
                        "logprobs": logprobs.float().cpu().numpy(),
                        "steps": steps.cpu().numpy(),
                        "texts": texts,
                    }
                )
            # One long silent input tells the encoder's whole subsampling.
            probe = torch.zeros(1, features.shape[1], 800, device=model.device)
            count = torch.tensor([800], device=model.device)
            steps = model.encoder(audio_signal=probe, length=count)[1]
        self.factor = round(800 / int(steps[0]))

    def text(self, ids):
        """What NeMo makes of token ids (a space before a punctuation mark is dropped)."""
        return self.decoding.decode_tokens_to_str_with_strip_punctuation(ids)


def save_frontend(model, path):
    """Save filterbank, window and parameters of the mel front end as one .npz."""
    import numpy as np
    import torch

    featurizer = model.preprocessor.featurizer
    normalize, mean, std = featurizer.normalize, [], []
    if isinstance(normalize, str):
        kind = normalize if normalize in ("per_feature", "all_features") else "none"
    elif normalize and "fixed_mean" in normalize and "fixed_std" in normalize:
        kind, mean, std = "fixed", list(normalize["fixed_mean"]), list(normalize["fixed_std"])
    else:
        kind = "none"
    window = featurizer.window
    width = featurizer.win_length
    guard = featurizer.log_zero_guard_value_fn(torch.zeros(1))
    np.savez(
        path,
        sample_rate=featurizer.sample_rate,
        n_fft=featurizer.n_fft,
        hop_length=featurizer.hop_length,
        window=np.ones(width, np.float32) if window is None else window.float().cpu().numpy(),
        filterbank=featurizer.fb[0].float().cpu().numpy(),
        preemphasis=0.0 if featurizer.preemph is None else featurizer.preemph,
        mag_power=featurizer.mag_power,
        log=bool(featurizer.log),
        log_zero_guard_type=featurizer.log_zero_guard_type,
        log_zero_guard_value=float(guard),
        normalize=kind,
        fixed_mean=np.array(mean, np.float32),
        fixed_std=np.array(std, np.float32),
        exact_pad=bool(featurizer.exact_pad),
    )


def vocabulary(model, seconds_per_step):
    """The pieces and the rules that join them, as `decoding.Vocabulary` reads them."""
    decoder, decoding = head(model)
    saved = {
        "kind": "char",
        "pieces": [str(piece) for piece in decoder.vocabulary],
        "seconds_per_step": seconds_per_step,
        "unknown": [],
        "unknown_text": "",
        "control": [],
        "byte": [],
        "strip_first": False,
        "strip_all": False,
        "punctuation": sorted(decoding.supported_punctuation or ()),
    }
    tokenizer = getattr(model, "tokenizer", None)
    processor = getattr(tokenizer, "tokenizer", None)
    if hasattr(processor, "id_to_piece"):
        saved.update(sentencepiece_rules(processor))
    elif tokenizer is not None:
        saved["kind"] = "wpe"
        saved["pieces"] = tokenizer.ids_to_tokens(list(range(len(decoder.vocabulary))))
    saved["blank"] = len(saved["pieces"])
    if saved["blank"] + 1 != decoder.num_classes_with_blank:
        raise Refused(
            "the tokenizer has %d pieces, the CTC head %d outputs"
            % (saved["blank"], decoder.num_classes_with_blank)
        )
    return saved


def sentencepiece_rules(processor):
    """Pieces and joining rules of a SentencePiece model, as its own processor answers.

    (The package's protobuf module needs a newer protobuf than NeMo allows.)
    """
    ids = range(processor.get_piece_size())
    pieces = [processor.id_to_piece(i) for i in ids]
    unknown = [i for i in ids if processor.is_unknown(i)]
    boundary = "\u2581"
    words = [i for i in ids if pieces[i].startswith(boundary) and len(pieces[i]) > 1]
    bare = [i for i in ids if pieces[i] == boundary]
    return {
        "kind": "bpe",
        "pieces": pieces,
        "unknown": unknown,
        "unknown_text": processor.decode(unknown[:1]) if unknown else "",
        "control": [i for i in ids if processor.is_control(i)],
        "byte": [i for i in ids if processor.is_byte(i)],
        "strip_first": bool(words) and not processor.decode(words[:1]).startswith(" "),
        "strip_all": bool(words and bare)
        and not processor.decode([bare[0], words[0]]).startswith(" "),
    }


# ------------------------------------------------------------------------------ the graph


def export_graph(model, folder, opset, verbose):
    """Write ``model.onnx`` into the empty `folder`, with the encoded lengths as second output."""
    import torch

    base = type(model)

    class WithLengths(base):
        """NeMo's CTC graph drops the encoded lengths, which a padded batch needs."""

        @property
        def output_names(self):
            return list(OUTPUTS)

        def forward_for_export(self, audio_signal, length):
            run = getattr(self.encoder, "forward_for_export", self.encoder.forward)
            encoded, steps = run(audio_signal=audio_signal, length=length)[:2]
            decoder = self.output_module
            decode = getattr(decoder, "forward_for_export", decoder.forward)
            return decode(encoder_output=encoded), steps.to(torch.int64)

    if hasattr(model.encoder, "update_max_sequence_length"):
        # NeMo turns convolution masks off for export; then padding leaks into a batch. They are
        # kept instead, with a length table that is long enough for every recording.
        model.encoder.update_max_sequence_length(MASK_FRAMES, model.device)
        model.encoder._prepare_for_export = lambda **_: None
    model.__class__ = WithLengths
    axes = {
        "audio_signal": {0: "batch", 2: "frames"},
        "length": {0: "batch"},
        "logprobs": {0: "batch", 1: "steps"},
        "encoded_lengths": {0: "batch"},
    }
    path = folder / "model.onnx"
    features = model.encoder._feat_in
    example = (
        torch.randn(2, features, 256, device=model.device),
        torch.tensor([256, 200], device=model.device),
    )
    with warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")  # the tracer's remarks on shapes that are meant
        model.export(str(path), input_example=example, onnx_opset_version=opset, dynamic_axes=axes)
    return path


def consolidate(source, target, threshold):
    """Move the graph to the empty folder `target`, weights in one sidecar when they are large.

    PyTorch writes one file a tensor next to a graph above 2 GB. Returns the graph's path.
    """
    import onnx
    from onnx.external_data_helper import uses_external_data

    size = sum(file.stat().st_size for file in source.parent.iterdir())
    graph = onnx.load(str(source), load_external_data=False)
    external = any(uses_external_data(tensor) for tensor in graph.graph.initializer)
    path = target / "model.onnx"
    if not external and size <= threshold:
        shutil.move(str(source), str(path))
        return path
    whole = onnx.load(str(source))
    onnx.save_model(
        whole,
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="model.onnx.data",
        size_threshold=1024,
    )
    return path


def signature(path):
    """Inputs and outputs of the graph: name, Triton type, shape with -1 for dynamic."""
    import onnx

    types = {1: "FP32", 6: "INT32", 7: "INT64", 10: "FP16", 11: "FP64"}
    graph = onnx.load(str(path), load_external_data=False).graph

    def tensors(values):
        found = []
        for value in values:
            tensor = value.type.tensor_type
            shape = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
            kind = types.get(tensor.elem_type, str(tensor.elem_type))
            found.append({"name": value.name, "dtype": kind, "shape": shape})
        return found

    return {"inputs": tensors(graph.input), "outputs": tensors(graph.output)}


# ------------------------------------------------------------------------------ comparison


def load_sources(folder):
    """The modules that are served, from the model's version folder."""
    loaded = []
    for name in ("sound", "features", "decoding"):
        spec = importlib.util.spec_from_file_location(
            "served_" + name, str(folder / (name + ".py"))
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded.append(module)
    return loaded


def sounds(paths, sound, rate, longest):
    """Batches of float32 rows at `rate` Hz: each given WAV alone, then three of unequal length.

    A sound counts with its first COMPARED_SECONDS, and never with more than `longest` seconds, which
    is all that the graph takes at once. Without a WAV: two seconds of seeded tones and noise.
    """
    import numpy as np

    rows = []
    for path in paths:
        try:
            samples, found = sound.decode_wav(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            raise Refused("cannot use the sound %s: %s" % (path, error)) from error
        limit = int(min(COMPARED_SECONDS, longest) * rate)
        rows.append(sound.resample(samples, found, rate)[:limit])
    rows = [row for row in rows if len(row) >= rate // 10]
    if not rows:
        rng = np.random.default_rng(20)
        at = np.arange(2 * rate) / rate
        tones = sum(np.sin(2 * np.pi * f * at * (1 + 0.2 * at)) for f in (180, 420, 900, 2100))
        made = 0.1 * tones * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * at))
        rows.append((made + 0.01 * rng.standard_normal(len(at))).astype(np.float32))
    batches = [[row] for row in rows]
    trio = [rows[0], rows[len(rows) // 2][: len(rows[len(rows) // 2]) * 7 // 10]]
    trio.append(rows[-1][: max(rate // 4, len(rows[-1]) * 4 // 10)])
    return [*batches, trio]


def compare(path, reference, frontend, words):
    """ONNX Runtime against PyTorch on the same input, and the served text path against NeMo's."""
    import numpy as np
    import onnxruntime

    _, features, decoding = words
    mel = features.Frontend(str(frontend / "frontend.npz"))
    vocabulary = decoding.Vocabulary(str(frontend / "vocabulary.json"))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    figures = {"max_abs_diff": 0.0, "frontend_max_abs_diff": 0.0, "decisions_equal": True}
    texts, different = [], []
    for case in reference.cases:
        feed = {"audio_signal": case["features"], "length": case["frames"].astype(np.int64)}
        logprobs, steps = session.run(list(OUTPUTS), feed)
        figures["decisions_equal"] &= bool(np.array_equal(steps, case["steps"]))
        for row, expected, count in zip(logprobs, case["logprobs"], case["steps"]):  # noqa: B905
            gap = float(np.abs(row[:count] - expected[:count]).max(initial=0.0))
            figures["max_abs_diff"] = max(figures["max_abs_diff"], gap)
            same = np.array_equal(row[:count].argmax(-1), expected[:count].argmax(-1))
            figures["decisions_equal"] &= bool(same)
        ours = [mel(samples) for samples in case["samples"]]
        lengths = np.array([item.shape[1] for item in ours], np.int64)
        batch = np.zeros((len(ours), ours[0].shape[0], lengths.max()), np.float32)
        for index, item in enumerate(ours):
            batch[index, :, : item.shape[1]] = item
            theirs = case["features"][index][:, : item.shape[1]]
            gap = float(np.abs(item - theirs).max(initial=0.0))
            figures["frontend_max_abs_diff"] = max(figures["frontend_max_abs_diff"], gap)
        served = session.run(list(OUTPUTS), {"audio_signal": batch, "length": lengths})
        for row, count, expected in zip(*served, case["texts"]):  # noqa: B905
            tokens = decoding.greedy(row, int(count), vocabulary.blank)
            text = vocabulary.text([token[0] for token in tokens])
            texts.append(text)
            if text != expected:
                different.append([text, expected])
    figures.update(text_equal=not different, texts=texts, texts_different=different)
    figures.update(joined_equal(vocabulary, reference))
    return figures


def joined_equal(vocabulary, reference, count=300):
    """Whether our piece joiner equals the checkpoint's tokenizer on seeded random id sequences."""
    rng = random.Random(7)
    wrong = []
    for _ in range(count):
        ids = [rng.randrange(vocabulary.blank) for _ in range(rng.randint(1, 12))]
        if vocabulary.text(ids) != reference.text(ids):
            wrong.append([ids, vocabulary.text(ids), reference.text(ids)])
    return {"vocabulary_equal": not wrong, "vocabulary_different": wrong[:3]}


def judge(figures, tolerance):
    """Raise `Refused` naming the figure that is past its bound."""
    if not figures["max_abs_diff"] <= tolerance:  # also true for NaN
        raise Refused(
            "ONNX Runtime differs from PyTorch by %.3g, tolerance %.3g"
            % (figures["max_abs_diff"], tolerance)
        )
    if not figures["decisions_equal"]:
        raise Refused("ONNX Runtime and PyTorch decide differently on the same input")
    if not figures["vocabulary_equal"]:
        ids, ours, theirs = figures["vocabulary_different"][0]
        raise Refused("ids %s read %r with our joiner, %r with NeMo" % (ids, ours, theirs))
    if not figures["text_equal"]:
        ours, theirs = figures["texts_different"][0]
        raise Refused("the served path reads %r, NeMo %r" % (ours, theirs))


# ------------------------------------------------------------------------------ publishing


def publish(files, stale):
    """Move files into place, each whole or not at all; then remove `stale` ones."""
    for source, target in files:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name("." + target.name + ".partial")
        shutil.move(str(source), str(partial))
        partial.replace(target)
    for path in stale:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def write_wav(path, samples, rate):
    """Write float samples as 16-bit mono WAV, atomically."""
    import wave

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name("." + path.name + ".partial")
    with wave.open(str(partial), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
    partial.replace(path)


def write_json(path, value):
    """Write JSON atomically, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name("." + path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.chmod(0o600)
    partial.replace(path)


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="the .nemo file")
    parser.add_argument("--graph-folder", type=Path, required=True)
    parser.add_argument("--frontend-folder", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--sources", type=Path, required=True, help="sound.py, features.py, …")
    parser.add_argument("--signature", type=Path, required=True, help="predicted, as JSON")
    parser.add_argument("--max-seconds", type=float, required=True, help="predicted limit")
    parser.add_argument("--opset", type=int, default=17)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--sound", action="append", default=[], help="a WAV file to compare with")
    parser.add_argument("--sample", type=Path, help="where to write the sound of the comparison")
    parser.add_argument("--sidecar-above", type=int, default=1_900_000_000, help="bytes")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args(argv)


def check_signature(found, options, model, factor):
    """Refuse a graph that the repository's configuration does not describe."""
    predicted = json.loads(options.signature.read_text(encoding="utf-8"))
    if found != predicted:
        raise Refused(
            "the exported graph is not the one that the plan predicted: %s instead of %s"
            % (json.dumps(found), json.dumps(predicted))
        )
    table = model.cfg.encoder.get("pos_emb_max_len")
    stride = model.preprocessor.featurizer.hop_length / model.preprocessor.featurizer.sample_rate
    if hasattr(model.encoder, "update_max_sequence_length"):
        limit = MASK_FRAMES * stride
    else:
        limit = table * factor * stride if table else float("inf")
    if options.max_seconds > limit * 1.0001:
        raise Refused(
            "the plan allows %.1f s of audio, the graph %.1f s" % (options.max_seconds, limit)
        )


def run(options, scratch):
    started = time.monotonic()
    progress(0.02, "checking the archive")
    check_archive(options.checkpoint)
    versions = check_versions()
    progress(0.05, "importing NeMo %s" % versions["nemo_toolkit"])
    model = restore(options.checkpoint, options.device)
    progress(0.45, "asking PyTorch")
    words = load_sources(options.sources)
    featurizer = model.preprocessor.featurizer
    batches = sounds(options.sound, words[0], featurizer.sample_rate, options.max_seconds)
    reference = Reference(model, batches)
    save_frontend(model, scratch / "frontend.npz")
    step = reference.factor * featurizer.hop_length / featurizer.sample_rate
    write_json(scratch / "vocabulary.json", vocabulary(model, step))
    progress(0.55, "exporting with opset %d" % options.opset)
    traced, final = scratch / "traced", scratch / "final"
    traced.mkdir()
    final.mkdir()
    source = export_graph(model, traced, options.opset, options.verbose)
    graph = consolidate(source, final, options.sidecar_above)
    progress(0.80, "checking the graph")
    import onnx

    onnx.checker.check_model(str(graph), full_check=True)
    found = signature(graph)
    check_signature(found, options, model, reference.factor)
    progress(0.88, "comparing ONNX Runtime with PyTorch")
    figures = compare(graph, reference, scratch, words)
    report = {
        **figures,
        "tolerance": options.tolerance,
        "signature": found,
        "versions": versions,
        "opset": options.opset,
        "subsampling_factor": reference.factor,
        "bytes": sum(file.stat().st_size for file in final.iterdir()),
        "seconds": round(time.monotonic() - started, 2),
    }
    write_json(options.report, report)
    judge(figures, options.tolerance)
    if options.sample:
        write_wav(options.sample, batches[0][0], featurizer.sample_rate)
    place = options.graph_folder
    files = [
        (scratch / n, options.frontend_folder / n) for n in ("frontend.npz", "vocabulary.json")
    ]
    # The sidecar first: a graph never stands without its weights.
    names = sorted((file.name for file in final.iterdir()), reverse=True)
    files += [(final / name, place / name) for name in names]
    publish(files, [] if "model.onnx.data" in names else [place / "model.onnx.data"])
    progress(
        1.0,
        "largest difference %.2g, decisions equal, texts equal" % figures["max_abs_diff"],
    )


def main(argv=None):
    options = arguments(argv)
    options.graph_folder.mkdir(parents=True, exist_ok=True)
    for left in options.graph_folder.glob(".export-*"):  # of an export that was killed
        shutil.rmtree(str(left), ignore_errors=True)
    # On the graph's own file system, so that publishing a large graph is a rename.
    scratch = Path(tempfile.mkdtemp(prefix=".export-", dir=str(options.graph_folder)))
    try:
        run(options, scratch)
    except Refused as error:
        print("[tritondeck] error: %s" % error, file=sys.stderr, flush=True)
        return 1
    finally:
        shutil.rmtree(str(scratch), ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
