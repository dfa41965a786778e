"""Triton python model: recordings to a label or to a speaker's embedding through ONNX Runtime.

Sound → mono at the checkpoint's rate → features (NumPy, the checkpoint's own filters) → graph →
scores. Recordings are run together only when they have equally many frames: these models pool over
time, where padding would change the answer. A recording that cannot be used fails its own request
only. Python 3.10 syntax.
"""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from features import fitted, load_frontend
from graphs import open_graph
from sound import BadSound, resample, sounds_of

LISTED = 5
"""How many labels the ranking holds."""


def scores_of(logits, kind):
    """Scores [C] of one row: probabilities, or the cosines that an angular head gives."""
    if kind == "cosine":
        return logits
    shifted = np.exp(logits - logits.max())
    return shifted / shifted.sum()


class TritonPythonModel:
    """See the module."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {k: v["string_value"] for k, v in config["parameters"].items()}
        folder = Path(args["model_repository"], args["model_version"])
        self.frontend = load_frontend(str(folder / "frontend.npz"))
        saved = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        self.labels, self.scores, self.frames = saved["labels"], saved["scores"], saved["frames"]
        self.max_seconds = float(parameters["max_seconds"])
        self.unit = parameters.get("unit_embedding") == "true"
        self.verbose = parameters["verbose"] == "true"
        self.batching = config["max_batch_size"] > 0
        self.batch = max(1, config["max_batch_size"])
        gpu = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else 0
        self.session = open_graph(
            str(folder / "model.onnx"), parameters["device"], gpu, int(parameters["threads"])
        )
        self.outputs = [output.name for output in self.session.get_outputs()]

    def execute(self, requests):
        answers, rows = [], []
        for request in requests:
            try:
                answers.append(self._read(request))
                rows += answers[-1]
            except BadSound as error:
                answers.append(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))))
        self._run(rows)
        if self.verbose:
            pb_utils.Logger.log_info("%d request(s), %d recording(s)" % (len(requests), len(rows)))
        return [self._answer(a) if isinstance(a, list) else a for a in answers]

    def _read(self, request):
        """Rows of one request: {"features", "length", "seconds"}; raises `BadSound`."""
        found = (pb_utils.get_input_tensor_by_name(request, n) for n in ("WAV", "SAMPLES", "RATE"))
        arrays = (None if tensor is None else tensor.as_numpy() for tensor in found)
        return [self._row(*sound) for sound in sounds_of(*arrays, self.batching)]

    def _row(self, samples, rate):
        seconds = len(samples) / rate
        if seconds > self.max_seconds:
            raise BadSound(
                "the recording lasts %.1f s and this model takes at most %.1f s"
                % (seconds, self.max_seconds)
            )
        samples = resample(samples, rate, self.frontend.sample_rate)
        if self.frontend.frames(len(samples)) < 1:
            raise BadSound("the recording holds %d samples, too few for a frame" % len(samples))
        features, length = fitted(*self.frontend.padded(samples), self.frames)
        return {"features": features, "length": length, "seconds": seconds}

    def _run(self, rows):
        """Run rows of the same shape together and keep what the graph says of each."""
        groups = {}
        for row in rows:
            groups.setdefault((row["features"].shape[1], row["length"]), []).append(row)
        for group in groups.values():
            for first in range(0, len(group), self.batch):
                part = group[first : first + self.batch]
                feed = {
                    "audio_signal": np.stack([row["features"] for row in part]),
                    "length": np.array([row["length"] for row in part], np.int64),
                }
                found = self.session.run(self.outputs, feed)
                for name, values in zip(self.outputs, found):  # noqa: B905
                    for row, value in zip(part, values):  # noqa: B905
                        row[name] = value

    def _answer(self, rows):
        labels, best, rankings, scores = [], [], [], []
        for row in rows:
            found = scores_of(row["logits"].astype(np.float64), self.scores)
            order = np.argsort(-found, kind="stable")[:LISTED]
            ranking = [{"label": self.labels[i], "score": round(float(found[i]), 6)} for i in order]
            labels.append(self.labels[order[0]].encode("utf-8"))
            best.append(found[order[0]])
            rankings.append(json.dumps(ranking, ensure_ascii=False).encode("utf-8"))
            scores.append(found)
        tensors = [
            self._column("LABEL", labels, object),
            self._column("SCORE", best, np.float32),
            self._column("RANKING", rankings, object),
            self._rows("SCORES", scores),
            self._column("SECONDS", [row["seconds"] for row in rows], np.float32),
        ]
        if "embs" in self.outputs:
            tensors.append(self._rows("EMBEDDING", [self._embedding(row) for row in rows]))
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def _embedding(self, row):
        vector = row["embs"].astype(np.float64)
        return vector / max(float(np.linalg.norm(vector)), 1e-12) if self.unit else vector

    def _column(self, name, values, dtype):
        array = np.array(values, dtype)
        return pb_utils.Tensor(name, array[:, None] if self.batching else array)

    def _rows(self, name, values):
        array = np.stack(values).astype(np.float32)
        return pb_utils.Tensor(name, array if self.batching else array[0])
