"""The served shape of a speech model: its tensors, its requests, its form on the Try screen.

One model, whatever runs the graph. Inputs: ``WAV`` (one file's bytes) or ``SAMPLES`` (mono, -1…1) with
``RATE`` (Hz), exactly one of the two; optional ``WORD_TIMES``; ``LANG`` for a checkpoint of several
languages. Outputs: ``TEXT``; ``WORDS``, a JSON
list of {"word", "start", "end", "confidence"} (seconds), empty unless word times are wanted;
``CONFIDENCE``, the geometric mean of the tokens' probabilities; ``SECONDS``, the recording's length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from console.checkpoints.model import Checkpoint, GraphFacts
from console.facts import (
    FieldKind,
    InferenceAnswer,
    InferenceRequest,
    ModelMetadata,
    PromptField,
    TensorSpec,
    TensorValue,
    UsageError,
)
from console.planning.deployment import VerifyCase
from console.planning.plan import Expected, Inference, SavedTensor
from console.planning.variables import literal
from console.storage import is_file, named
from console.text import clean

ADAPTER = "speech-text"
ADAPTER_KEY = "tritondeck_adapter"
NO_TABLE_SECONDS = 600.0
"""Longest recording of an encoder without a positional table: bounds one request's memory."""
FORK_KEYS = ("multisoftmax", "multilingual", "language_keys")
YES, NO = frozenset({"true", "yes", "on", "1"}), frozenset({"", "false", "no", "off", "0"})


def spec(batching: bool, name: str, dtype: str, size: int, optional: bool = False) -> TensorSpec:
    """A tensor of `size` elements a recording, as Triton reports it."""
    return TensorSpec(name, dtype, (-1, size) if batching else (size,), optional)


def sound_inputs(batching: bool) -> tuple[TensorSpec, ...]:
    """The two ways to send a recording."""
    return (
        spec(batching, "WAV", "BYTES", 1, True),
        spec(batching, "SAMPLES", "FP32", -1, True),
        spec(batching, "RATE", "INT32", 1, True),
    )


def tensors(
    batching: bool, languages: bool = False
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs as Triton reports them, with the batch dimension where there is one."""
    inputs = (*sound_inputs(batching), spec(batching, "WORD_TIMES", "BOOL", 1, True))
    if languages:
        inputs += (spec(batching, "LANG", "BYTES", 1, True),)
    outputs = (
        spec(batching, "TEXT", "BYTES", 1),
        spec(batching, "WORDS", "BYTES", 1),
        spec(batching, "CONFIDENCE", "FP32", 1),
        spec(batching, "SECONDS", "FP32", 1),
    )
    return inputs, outputs


Head = Literal["ctc", "rnnt", "classification", "speaker"]
TEXT_HEADS = frozenset({"ctc", "rnnt"})


def head(checkpoint: Checkpoint, wanted: str) -> Head:
    """The head that is served: `wanted` is the option `decoder`. Raises `UsageError` for a head that
    the checkpoint has not."""
    spoken = checkpoint.speech
    assert spoken is not None, "only called for speech checkpoints"
    heads: dict[str, tuple[Head, ...]] = {
        "ctc": ("ctc",),
        "rnnt": ("rnnt",),
        "hybrid": ("ctc", "rnnt"),
        "classification": ("classification",),
        "speaker": ("speaker",),
    }
    there = heads[spoken.decoder]
    for name in there:
        if wanted == name or wanted == "auto" or name not in TEXT_HEADS:
            return name
    raise UsageError(
        f"the checkpoint has no {wanted} decoder",
        why=f"it has {there[0]}",
        fix='set decoder = "auto"',
    )


def is_fork(checkpoint: Checkpoint) -> bool:
    """Whether AI4Bharat's fork of NeMo wrote the checkpoint: its heads mean something only within
    one language, and its configuration has keys that NeMo does not know."""
    return bool(fork_keys(checkpoint)) or (
        checkpoint.speech is not None and checkpoint.speech.tokenizer == "multilingual"
    )


def fork_keys(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The fork's own keys in the configuration, dotted."""
    found = []
    for place in ("decoder", "joint", "aux_ctc.decoder"):
        section: Any = checkpoint.config
        for key in place.split("."):
            section = section.get(key) if isinstance(section, Mapping) else None
        if isinstance(section, Mapping):
            found += [f"{place}.{key}" for key in FORK_KEYS if key in section]
    return tuple(found)


def signature(checkpoint: Checkpoint, head: Head) -> dict[str, list[dict[str, Any]]]:
    """Inputs and outputs of the first graph, predicted from the checkpoint's facts; None stands for
    a size that they do not tell."""
    spoken = checkpoint.speech
    assert spoken is not None, "only called for speech checkpoints"
    classes = spoken.vocabulary_size
    logits = {"name": "logits", "dtype": "FP32", "shape": [-1, classes or None]}
    lengths = {"name": "encoded_lengths", "dtype": "INT64", "shape": [-1]}
    outputs: dict[Head, list[dict[str, Any]]] = {
        "ctc": [{"name": "logprobs", "dtype": "FP32", "shape": [-1, -1, classes + 1]}, lengths],
        "rnnt": [{"name": "outputs", "dtype": "FP32", "shape": [-1, None, -1]}, lengths],
        "classification": [logits],
        "speaker": [logits, {"name": "embs", "dtype": "FP32", "shape": [-1, None]}],
    }
    inputs = [
        {"name": "audio_signal", "dtype": "FP32", "shape": [-1, spoken.features, -1]},
        {"name": "length", "dtype": "INT64", "shape": [-1]},
    ]
    return {"inputs": inputs, "outputs": outputs[head]}


def acoustic_graph(checkpoint: Checkpoint, opset: int) -> GraphFacts:
    """The CTC graph that the export will make."""
    predicted = signature(checkpoint, "ctc")

    def specs(side: str) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(t["name"], t["dtype"], tuple(t["shape"])) for t in predicted[side])

    return GraphFacts(specs("inputs"), specs("outputs"), opset=opset, ir_version=0)


def longest_seconds(checkpoint: Checkpoint) -> float:
    """Seconds of audio that the graph takes at once."""
    spoken = checkpoint.speech
    assert spoken is not None, "only called for speech checkpoints"
    return spoken.max_seconds or NO_TABLE_SECONDS


# ---------------------------------------------------------------------------- requests


def truth(value: str, field: str) -> bool:
    """A flag that a person wrote; `UsageError` names the field."""
    word = value.strip().lower()
    if word in YES | NO:
        return word in YES
    raise UsageError(f"{field}: {clean(value)!r} is neither yes nor no", fix="write true or false")


def verify_case(case: VerifyCase, number: int, model: str, batching: bool) -> Inference:
    """One verify case of a deployment as a saved request. Raises `UsageError`."""
    where = f"verify[{number}]"
    unknown = sorted(set(case.fields) - {"word_times", "lang"})
    if not case.input or case.text or unknown:
        raise UsageError(
            f"{where}: a speech model is verified with a sound",
            why=f"there is no field {unknown[0]}" if unknown else "input must name a WAV file",
            fix='input = "sound.wav", expect = "the words"',
        )
    shape = (1, 1) if batching else (1,)
    inputs = [SavedTensor(name="WAV", dtype="BYTES", shape=shape, file=literal(case.input))]
    if "word_times" in case.fields:
        flag = truth(case.fields["word_times"], f"{where}.fields.word_times")
        inputs.append(SavedTensor(name="WORD_TIMES", dtype="BOOL", shape=shape, values=(flag,)))
    if language := case.fields.get("lang"):
        inputs.append(SavedTensor(name="LANG", dtype="BYTES", shape=shape, values=(language,)))
    expected = Expected(output="TEXT", equals=(case.expect,) if case.expect else None, shape=shape)
    title = f"{Path(case.input).name} is “{case.expect}”" if case.expect else Path(case.input).name
    return Inference(title=clean(title), model=model, inputs=tuple(inputs), expect=(expected,))


def default_case(model: str, batching: bool, sample: str, language: str = "") -> Inference:
    """A request with the sound that the export made; any text counts, for nobody knows the right one."""
    shape = (1, 1) if batching else (1,)
    said = [SavedTensor(name="LANG", dtype="BYTES", shape=shape, values=(language,))]
    return Inference(
        title="a generated sound is answered",
        model=model,
        inputs=(
            SavedTensor(name="WAV", dtype="BYTES", shape=shape, file=sample),
            *(said if language else ()),
        ),
        expect=(Expected(output="TEXT", shape=shape), Expected(output="CONFIDENCE", shape=shape)),
    )


def sound_file(values: Mapping[str, str], field: str) -> Path:
    """The WAV file that a form's field names; `UsageError` when there is none."""
    sound = values.get(field, "").strip()
    if not sound:
        raise UsageError(f"{field}: no file is named", fix="pick a WAV file")
    path = named(sound)
    if not is_file(path):
        raise UsageError(f"{field}: no such file: {clean(sound)}", fix="pick a WAV file")
    return path


class SpeechForm:
    """Prompt adapter: a sound file in, words out."""

    def __init__(self, metadata: ModelMetadata) -> None:
        self._model = metadata.name
        self._shape = (1, 1) if metadata.max_batch_size > 0 else (1,)
        longest = metadata.parameters.get("max_seconds", "")
        chunked = metadata.parameters.get("long_audio") == "chunk"
        limit = f"; at most {float(longest):g} s" if longest and not chunked else ""
        self.fields: Sequence[PromptField] = (
            PromptField(
                "sound",
                FieldKind.SOUND,
                "Sound",
                f"a WAV file, PCM or float, any rate and number of channels{limit}",
            ),
            PromptField(
                "word_times",
                FieldKind.FLAG,
                "Word times",
                "when each word begins and ends",
                required=False,
                default=metadata.parameters.get("word_times", "false"),
            ),
        )

        self._languages = tuple(filter(None, metadata.parameters.get("languages", "").split(",")))
        if self._languages:
            self.fields = (*self.fields, self._language_field(metadata))

    def _language_field(self, metadata: ModelMetadata) -> PromptField:
        needed = metadata.parameters.get("language_needed") == "true"
        default = metadata.parameters.get("language", "")
        return PromptField(
            "lang",
            FieldKind.CHOICE,
            "Language",
            "the language that is spoken" + ("" if needed else "; empty: any of them"),
            required=needed,
            default=default or (self._languages[0] if needed else ""),
            choices=self._languages if needed else ("", *self._languages),
        )

    def request(self, values: Mapping[str, str]) -> InferenceRequest:
        """The request for these values; `UsageError` names the field that is wrong."""
        path = sound_file(values, "sound")
        inputs = [TensorValue("WAV", "BYTES", self._shape, file=path)]
        if language := values.get("lang", "").strip():
            if language not in self._languages:
                raise UsageError(
                    f"lang: {clean(language)} is none of {', '.join(map(clean, self._languages))}"
                )
            inputs.append(TensorValue("LANG", "BYTES", self._shape, values=(language,)))
        if "word_times" in values:
            flag = truth(values["word_times"], "word_times")
            inputs.append(TensorValue("WORD_TIMES", "BOOL", self._shape, values=(flag,)))
        return InferenceRequest(self._model, tuple(inputs))

    def answer(self, answer: InferenceAnswer) -> str:
        """The text, and one line a word when word times were asked for."""
        outputs = {tensor.name: tensor.values for tensor in answer.outputs}
        text = clean(str((outputs.get("TEXT") or ("",))[0]))
        lines = [text if text.strip() else "(no words)"]
        try:
            words = json.loads(str((outputs.get("WORDS") or ("[]",))[0]))
            lines += [
                f"{float(w['start']):8.2f} – {float(w['end']):.2f} s  {clean(str(w['word']))}"
                f"  {float(w['confidence']):.0%}"
                for w in words
            ]
        except (ValueError, TypeError, KeyError):
            lines.append("(the word times could not be read)")
        return "\n".join(lines)
