"""Triton python model: recordings to text through ONNX Runtime.

Sound → mono at the checkpoint's rate → log-mel features (NumPy) → graph → greedy search → text. A CTC
graph runs in this process (``model.onnx`` beside this file) or, where the server has the onnxruntime
Triton backend, as the model named by the parameter ``acoustic_model``. A transducer's encoder and its
``decoder_joint.onnx`` run here: its search asks the second one at every step. Inputs, outputs
and answers are the same either way. Recordings of all requests that arrive together are padded and
run as batches; a recording that cannot be used fails its own request only. Python 3.10 syntax.
"""

import json
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from decoding import confidence, greedy, load_vocabulary
from features import load_frontend
from graphs import open_graph
from sound import BadSound, resample, sounds_of
from transducer import Transducer


class LocalAcoustics:
    """The first graph in this process: two outputs, the second one their lengths."""

    def __init__(self, session):
        self.session = session
        self.outputs = [output.name for output in session.get_outputs()]

    def __call__(self, features, lengths):
        return self.session.run(self.outputs, {"audio_signal": features, "length": lengths})


class RemoteAcoustics:
    """The graph as another model of this server, which keeps the batch dimension of lengths.

    It is asked for the caller's own version: while one version takes over from another, both serve.
    """

    def __init__(self, name, version, batching):
        self.name = name
        self.version = version
        self.batching = batching

    def __call__(self, features, lengths):
        if self.batching:
            lengths = lengths[:, None]
        answer = pb_utils.InferenceRequest(
            model_name=self.name,
            model_version=self.version,
            requested_output_names=["logprobs", "encoded_lengths"],
            inputs=[
                pb_utils.Tensor("audio_signal", features),
                pb_utils.Tensor("length", lengths),
            ],
        ).exec()
        if answer.has_error():
            raise RuntimeError(answer.error().message())
        outputs = {tensor.name(): tensor.as_numpy() for tensor in answer.output_tensors()}
        return outputs["logprobs"], outputs["encoded_lengths"].reshape(-1)


class Recording:
    """One row of one request: its features in segments, and what was recognised of each."""

    def __init__(self, seconds, word_times, language):
        self.seconds = seconds
        self.word_times = word_times
        self.language = language
        self.segments = []  # [start in seconds, features, tokens, columns]


class TritonPythonModel:
    """See the module."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {k: v["string_value"] for k, v in config["parameters"].items()}
        folder = Path(args["model_repository"], args["model_version"])
        self.frontend = load_frontend(str(folder / "frontend.npz"))
        self.vocabulary = load_vocabulary(str(folder / "vocabulary.json"))
        self.language = parameters.get("language", "")
        self.transducer = None
        self.max_seconds = float(parameters["max_seconds"])
        self.chunk_seconds = float(parameters["chunk_seconds"])
        self.long_audio = parameters["long_audio"]
        self.word_times = parameters["word_times"] == "true"
        self.verbose = parameters["verbose"] == "true"
        self.batching = config["max_batch_size"] > 0
        self.batch = max(1, config["max_batch_size"])
        if "acoustic_model" in parameters:
            version = int(args["model_version"])
            self.acoustics = RemoteAcoustics(parameters["acoustic_model"], version, self.batching)
            return
        gpu = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else 0
        wanted = (parameters["device"], gpu, int(parameters["threads"]))
        self.acoustics = LocalAcoustics(open_graph(str(folder / "model.onnx"), *wanted))
        if parameters.get("decoder") == "rnnt":
            search = open_graph(str(folder / "decoder_joint.onnx"), *wanted)
            self.transducer = Transducer(str(folder / "transducer.json"), search)

    def execute(self, requests):
        started = time.perf_counter()
        answers, recordings = [], []
        for request in requests:
            try:
                answers.append(self._read(request))
                recordings += answers[-1]
            except BadSound as error:
                answers.append(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error))))
        self._recognise([segment for r in recordings for segment in r.segments])
        if self.verbose:
            pb_utils.Logger.log_info(
                "%d request(s), %d recording(s), %.2f s of sound in %.3f s"
                % (
                    len(requests),
                    len(recordings),
                    sum(r.seconds for r in recordings),
                    time.perf_counter() - started,
                )
            )
        return [self._answer(a) if isinstance(a, list) else a for a in answers]

    # -- in ---------------------------------------------------------------------------------

    def _read(self, request):
        """The recordings of one request; raises `BadSound`."""
        found = (pb_utils.get_input_tensor_by_name(request, n) for n in ("WAV", "SAMPLES", "RATE"))
        arrays = (None if tensor is None else tensor.as_numpy() for tensor in found)
        sounds = sounds_of(*arrays, self.batching)
        flag = pb_utils.get_input_tensor_by_name(request, "WORD_TIMES")
        flags = [self.word_times] * len(sounds)
        if flag is not None:
            flags = [bool(f) for f in flag.as_numpy().reshape(-1)]
        languages = self._languages(request, len(sounds))
        rows = zip(sounds, flags, languages)  # noqa: B905
        return [self._recording(s, r, flag, language) for (s, r), flag, language in rows]

    def _languages(self, request, count):
        """The language of each row, empty for any; raises `BadSound`."""
        known = self.vocabulary.languages
        tensor = pb_utils.get_input_tensor_by_name(request, "LANG") if known else None
        said = [b""] * count if tensor is None else tensor.as_numpy().reshape(-1)
        found = [value.decode("utf-8", "replace").strip() or self.language for value in said]
        for language in found:
            if language and language not in known:
                raise BadSound("LANG %r is none of %s" % (language, ", ".join(known)))
            if not language and self.vocabulary.masked and len(known) > 1:
                raise BadSound("this model needs LANG, one of %s" % ", ".join(known))
        return [language or (known[0] if self.vocabulary.masked else "") for language in found]

    def _recording(self, samples, rate, word_times, language):
        seconds = len(samples) / rate
        if seconds > self.max_seconds and self.long_audio != "chunk":
            raise BadSound(
                "the recording lasts %.1f s and this model takes at most %.1f s; "
                'cut it, or deploy with long_audio = "chunk"' % (seconds, self.max_seconds)
            )
        samples = resample(samples, rate, self.frontend.sample_rate)
        recording = Recording(seconds, word_times, language)
        columns = self.vocabulary.columns(language)
        start = 0
        for end in self._cuts(samples):
            if self.frontend.frames(end - start) < 1:
                if start == 0:
                    raise BadSound(
                        "the recording holds %d samples, less than one frame of %d"
                        % (len(samples), self.frontend.hop)
                    )
                continue
            features = self.frontend(samples[start:end])
            recording.segments.append([start / self.frontend.sample_rate, features, [], columns])
            start = end
        return recording

    def _cuts(self, samples):
        """Where segments end: at the quietest 30 ms of the last quarter of each chunk."""
        rate, start, cuts = self.frontend.sample_rate, 0, []
        if len(samples) > self.max_seconds * rate:
            chunk, window = int(self.chunk_seconds * rate), max(1, int(0.03 * rate))
            while len(samples) - start > chunk:
                begin = start + chunk * 3 // 4
                energy = np.cumsum(samples[begin : start + chunk].astype(np.float64) ** 2)
                quietest = int(np.argmin(energy[window:] - energy[:-window]))
                start = begin + quietest + window // 2
                cuts.append(start)
        return [*cuts, len(samples)]

    # -- recognition ------------------------------------------------------------------------

    def _recognise(self, segments):
        """Run all segments, those of similar length together, and keep their tokens."""
        ordered = sorted(segments, key=lambda segment: segment[1].shape[1])
        for first in range(0, len(ordered), self.batch):
            group = ordered[first : first + self.batch]
            lengths = np.array([s[1].shape[1] for s in group], np.int64)
            features = np.zeros((len(group), group[0][1].shape[0], lengths.max()), np.float32)
            for row, segment in zip(features, group):  # noqa: B905
                row[:, : segment[1].shape[1]] = segment[1]
            found, steps = self.acoustics(features, lengths)
            columns = [segment[3] for segment in group]
            if self.transducer is not None:
                tokens = self.transducer(found, steps, columns)
            else:
                rows = zip(found, steps, columns)  # noqa: B905
                blank = self.vocabulary.blank
                tokens = [greedy(row, int(count), blank, limits) for row, count, limits in rows]
            for segment, spoken in zip(group, tokens):  # noqa: B905
                segment[2] = spoken

    # -- out --------------------------------------------------------------------------------

    def _answer(self, recordings):
        texts, words, scores, seconds = [], [], [], []
        for recording in recordings:
            parts = [self.vocabulary.text([t[0] for t in s[2]]) for s in recording.segments]
            texts.append(
                parts[0] if len(parts) == 1 else " ".join(p.strip() for p in parts if p.strip())
            )
            found = []
            if recording.word_times:
                for start, _, tokens, _ in recording.segments:
                    found += self.vocabulary.words(tokens, start)
            words.append(json.dumps(found, ensure_ascii=False))
            scores.append(confidence([t for s in recording.segments for t in s[2]]))
            seconds.append(recording.seconds)
        return pb_utils.InferenceResponse(
            output_tensors=[
                self._tensor("TEXT", [t.encode("utf-8") for t in texts], object),
                self._tensor("WORDS", [w.encode("utf-8") for w in words], object),
                self._tensor("CONFIDENCE", scores, np.float32),
                self._tensor("SECONDS", seconds, np.float32),
            ]
        )

    def _tensor(self, name, values, dtype):
        array = np.array(values, dtype)
        return pb_utils.Tensor(name, array[:, None] if self.batching else array)
