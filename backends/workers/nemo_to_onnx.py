"""Export a NeMo speech checkpoint to ONNX and prove that it is the same model.

Runs in the `nemo` environment, imports nothing of tritondeck, Python 3.10 syntax; `nemo_archive.py`,
`nemo_model.py` and `nemo_compare.py` lie beside it. Writes

* the graphs into the graph folder, each with a ``.data`` file beside it when it is large. All take
  audio_signal FP32 [B, features, frames] and length INT64 [B]. ``--decoder ctc``: ``model.onnx`` →
  logprobs FP32 [B, steps, vocabulary + blank], encoded_lengths INT64 [B]. ``rnnt``: ``model.onnx``, the
  encoder → outputs FP32 [B, D, steps], encoded_lengths; ``decoder_joint.onnx``, one step of the
  search. ``classification`` and ``speaker``: ``model.onnx`` → logits FP32 [B, classes] (and embs [B, D]);
* ``frontend.npz`` (the checkpoint's filterbank and window), and ``vocabulary.json``,
  ``transducer.json`` or ``labels.json``, into the front-end folder;
* the report: the largest difference between ONNX Runtime and PyTorch on the same input, whether
  decisions and texts are equal, versions, signature, dropped configuration keys, seconds.

Nothing is published unless the graph has the predicted signature and stays within tolerance. The
path that is compared is the very one that is served: its sources are loaded from `--sources`.
Exit codes: 0 published, 1 refused or different (the last line says why), 2 wrong usage.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from nemo_archive import Refused, check_archive, check_versions, progress
from nemo_compare import (
    Labelled,
    Spoken,
    compare_labels,
    compare_text,
    judge,
    load_sources,
    sounds,
)
from nemo_model import (
    MASK_FRAMES,
    consolidate,
    export_graphs,
    greedy_search,
    labels,
    restore,
    save_frontend,
    search,
    signature,
    subsampling,
    timing,
    vocabulary,
)

TEXT = ("ctc", "rnnt")


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
    parser.add_argument(
        "--decoder", choices=("ctc", "rnnt", "classification", "speaker"), default="ctc"
    )
    parser.add_argument("--language", default="", help="the one that a fork's transducer hears")
    parser.add_argument("--masked", action="store_true", help="each row is of one language")
    parser.add_argument("--max-symbols", type=int, default=0, help="0: as the checkpoint says")
    parser.add_argument("--opset", type=int, default=17)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--sound", action="append", default=[], help="a WAV file to compare with")
    parser.add_argument("--sample", type=Path, help="where to write the sound of the comparison")
    parser.add_argument("--sidecar-above", type=int, default=1_900_000_000, help="bytes")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args(argv)


def matches(found, predicted):
    """Whether a signature is the predicted one; null in a predicted shape stands for any size."""
    if len(found) != len(predicted):
        return False
    for ours, theirs in zip(found, predicted):  # noqa: B905
        if (ours["name"], ours["dtype"]) != (theirs["name"], theirs["dtype"]):
            return False
        if len(ours["shape"]) != len(theirs["shape"]):
            return False
        pairs = zip(ours["shape"], theirs["shape"])  # noqa: B905
        if any(wanted is not None and size != wanted for size, wanted in pairs):
            return False
    return True


def check_signature(found, options, model, factor):
    """Refuse a graph that the repository's configuration does not describe."""
    predicted = json.loads(options.signature.read_text(encoding="utf-8"))
    if not all(matches(found[side], predicted[side]) for side in ("inputs", "outputs")):
        raise Refused(
            "the exported graph is not the one that the plan predicted: %s instead of %s"
            % (json.dumps(found), json.dumps(predicted))
        )
    table = model.cfg.encoder.get("pos_emb_max_len")
    rate, hop = timing(model)
    if hasattr(model.encoder, "update_max_sequence_length"):
        limit = MASK_FRAMES * hop / rate
    else:
        limit = table * factor * hop / rate if table else float("inf")
    if options.max_seconds > limit * 1.0001:
        raise Refused(
            "the plan allows %.1f s of audio, the graph %.1f s" % (options.max_seconds, limit)
        )


class Export:
    """One checkpoint on its way to the model repository; `scratch` is an empty folder."""

    def __init__(self, options, scratch):
        self.options, self.scratch = options, scratch
        self.text = options.decoder in TEXT
        self.saved = ["frontend.npz"]
        self.factor = 1

    def prepare(self):
        """Restore the model, ask PyTorch, and save what stands beside the graph."""
        options = self.options
        names = (
            ("sound", "features", "decoding", "transducer") if self.text else ("sound", "features")
        )
        self.model, self.dropped = restore(
            options.checkpoint, options.device, options.decoder, options.language
        )
        if options.decoder == "rnnt":
            greedy_search(self.model, options.max_symbols)
        progress(0.45, "asking PyTorch")
        self.sources = load_sources(options.sources, names)
        rate, hop = timing(self.model)
        longest = options.max_seconds
        save_frontend(self.model, self.scratch / "frontend.npz")
        if self.text:
            self.factor = subsampling(self.model)
            self._save("vocabulary.json", self._vocabulary(self.factor * hop / rate))
            if options.decoder == "rnnt":
                self.search = search(self.model, options.language)
                self._save("transducer.json", self.search)
        else:
            self.labels = labels(self.model)
            self._save("labels.json", self.labels)
            if self.labels["frames"]:
                longest = min(longest, (self.labels["frames"] - 1) * hop / rate)
        self.batches = sounds(options.sound, self.sources["sound"], rate, longest)
        if self.text:
            one = (options.language, self.search) if options.language else None
            self.reference = Spoken(self.model, options.decoder, self.batches, options.masked, one)
        else:
            self.reference = Labelled(self.model, options.decoder, self.batches)

    def _vocabulary(self, step):
        options = self.options
        return vocabulary(self.model, options.decoder, step, options.masked, options.language)

    def _save(self, name, value):
        write_json(self.scratch / name, value)
        self.saved.append(name)

    def export(self):
        """Write and check the graphs. Returns the signature of the first one."""
        import onnx

        options = self.options
        progress(0.55, "exporting with opset %d" % options.opset)
        traced, self.final = self.scratch / "traced", self.scratch / "final"
        traced.mkdir()
        self.final.mkdir()
        made = export_graphs(self.model, options.decoder, traced, options.opset, options.verbose)
        graphs = [
            consolidate(source, self.final, options.sidecar_above, name)
            for name, source in made.items()
        ]
        progress(0.80, "checking the graph")
        for graph in graphs:
            onnx.checker.check_model(str(graph), full_check=True)
        found = signature(graphs[0])
        check_signature(found, options, self.model, self.factor)
        return found

    def compare(self):
        """Figures of ONNX Runtime against PyTorch."""
        import onnxruntime

        progress(0.88, "comparing ONNX Runtime with PyTorch")
        sessions = {
            path.name: onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            for path in self.final.glob("*.onnx")
        }
        if self.text:
            return compare_text(sessions, self.reference, self.scratch, self.sources)
        frames = self.labels["frames"]
        return compare_labels(sessions, self.reference, self.scratch, self.sources, frames)

    def publish(self):
        """Move everything into the repository, and write the sound of the comparison."""
        options = self.options
        if options.sample:
            write_wav(options.sample, self.batches[0][0], timing(self.model)[0])
        place = options.graph_folder
        files = [(self.scratch / name, options.frontend_folder / name) for name in self.saved]
        # The sidecars first: a graph never stands without its weights.
        names = sorted(
            (file.name for file in self.final.iterdir()), key=lambda n: not n.endswith(".data")
        )
        files += [(self.final / name, place / name) for name in names]
        sidecars = [n + ".data" for n in ("model.onnx", "decoder_joint.onnx")]
        publish(files, [place / name for name in sidecars if name not in names])


def run(options, scratch):
    started = time.monotonic()
    progress(0.02, "checking the archive")
    check_archive(options.checkpoint)
    versions = check_versions()
    progress(0.05, "importing NeMo %s" % versions["nemo_toolkit"])
    export = Export(options, scratch)
    export.prepare()
    found = export.export()
    figures = export.compare()
    report = {
        **figures,
        "decoder": options.decoder,
        "tolerance": options.tolerance,
        "signature": found,
        "versions": versions,
        "opset": options.opset,
        "dropped_keys": export.dropped,
        "subsampling_factor": export.factor,
        "bytes": sum(file.stat().st_size for file in export.final.iterdir()),
        "seconds": round(time.monotonic() - started, 2),
    }
    write_json(options.report, report)
    judge(figures, options.tolerance)
    export.publish()
    equal = "decisions equal, texts equal" if export.text else "decisions equal"
    progress(1.0, "largest difference %.2g, %s" % (figures["max_abs_diff"], equal))


def main(argv=None):
    options = arguments(argv)
    options.graph_folder.mkdir(parents=True, exist_ok=True)
    for left in options.graph_folder.glob(".export-*"):  # of an export that was killed
        shutil.rmtree(str(left), ignore_errors=True)
    # On the graph's own file system, so that publishing a large graph is a rename.
    scratch = Path(tempfile.mkdtemp(prefix=".export-", dir=str(options.graph_folder)))
    try:
        run(options, scratch)
    except (Refused, OSError) as error:  # OSError: a full disk, a file that cannot be read
        print("[tritondeck] error: %s" % error, file=sys.stderr, flush=True)
        return 1
    finally:
        shutil.rmtree(str(scratch), ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
