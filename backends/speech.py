"""The served shape of a speech model: its tensors, its requests, its form on the Try screen.

One model, whatever runs the graph. Inputs: ``WAV`` (one file's bytes) or ``SAMPLES`` (mono, -1…1) with
``RATE`` (Hz), exactly one of the two; optional ``WORD_TIMES``. Outputs: ``TEXT``; ``WORDS``, a JSON
list of {"word", "start", "end", "confidence"} (seconds), empty unless word times are wanted;
``CONFIDENCE``, the geometric mean of the tokens' probabilities; ``SECONDS``, the recording's length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

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
from console.text import clean

ADAPTER = "speech-ctc"
ADAPTER_KEY = "tritondeck_adapter"
NO_TABLE_SECONDS = 600.0
"""Longest recording of an encoder without a positional table: bounds one request's memory."""
YES, NO = frozenset({"true", "yes", "on", "1"}), frozenset({"", "false", "no", "off", "0"})


def tensors(batching: bool) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs as Triton reports them, with the batch dimension where there is one."""

    def spec(name: str, dtype: str, size: int, optional: bool = False) -> TensorSpec:
        return TensorSpec(name, dtype, (-1, size) if batching else (size,), optional)

    inputs = (
        spec("WAV", "BYTES", 1, True),
        spec("SAMPLES", "FP32", -1, True),
        spec("RATE", "INT32", 1, True),
        spec("WORD_TIMES", "BOOL", 1, True),
    )
    outputs = (
        spec("TEXT", "BYTES", 1),
        spec("WORDS", "BYTES", 1),
        spec("CONFIDENCE", "FP32", 1),
        spec("SECONDS", "FP32", 1),
    )
    return inputs, outputs


def acoustic_graph(checkpoint: Checkpoint, opset: int) -> GraphFacts:
    """The graph that the export will make, predicted from the checkpoint's facts."""
    spoken = checkpoint.speech
    assert spoken is not None, "only called for speech checkpoints"
    return GraphFacts(
        inputs=(
            TensorSpec("audio_signal", "FP32", (-1, spoken.features, -1)),
            TensorSpec("length", "INT64", (-1,)),
        ),
        outputs=(
            TensorSpec("logprobs", "FP32", (-1, -1, spoken.vocabulary_size + 1)),
            TensorSpec("encoded_lengths", "INT64", (-1,)),
        ),
        opset=opset,
        ir_version=0,
    )


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
    unknown = sorted(set(case.fields) - {"word_times"})
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
    expected = Expected(output="TEXT", equals=(case.expect,) if case.expect else None, shape=shape)
    title = f"{Path(case.input).name} is “{case.expect}”" if case.expect else Path(case.input).name
    return Inference(title=clean(title), model=model, inputs=tuple(inputs), expect=(expected,))


def default_case(model: str, batching: bool, sample: str) -> Inference:
    """A request with the sound that the export made; any text counts, for nobody knows the right one."""
    shape = (1, 1) if batching else (1,)
    return Inference(
        title="a generated sound is answered",
        model=model,
        inputs=(SavedTensor(name="WAV", dtype="BYTES", shape=shape, file=sample),),
        expect=(Expected(output="TEXT", shape=shape), Expected(output="CONFIDENCE", shape=shape)),
    )


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

    def request(self, values: Mapping[str, str]) -> InferenceRequest:
        """The request for these values; `UsageError` names the field that is wrong."""
        sound = values.get("sound", "").strip()
        if not sound:
            raise UsageError("sound: no file is named", fix="pick a WAV file")
        path = Path(sound).expanduser()
        if not path.is_file():
            raise UsageError(f"sound: no such file: {clean(sound)}", fix="pick a WAV file")
        inputs = [TensorValue("WAV", "BYTES", self._shape, file=path)]
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
