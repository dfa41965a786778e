"""The served shape of a classifier or speaker model: tensors, requests, its form on the Try screen.

Inputs: ``WAV`` or ``SAMPLES`` with ``RATE``, as for speech. Outputs: ``LABEL``, the class with the highest
score; ``SCORE``, a probability (or the cosine that an angular head gives); ``RANKING``, a JSON list of the
best five {"label", "score"}; ``SCORES`` of all classes; ``SECONDS``; a speaker model adds ``EMBEDDING``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from backends.speech import Head, sound_file, sound_inputs, spec
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

ADAPTER = "sound-labels"
SHOWN = 6
"""How many numbers of an embedding are shown."""


def tensors(batching: bool, head: Head) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs as Triton reports them, with the batch dimension where there is one."""
    outputs: tuple[TensorSpec, ...] = (
        spec(batching, "LABEL", "BYTES", 1),
        spec(batching, "SCORE", "FP32", 1),
        spec(batching, "RANKING", "BYTES", 1),
        spec(batching, "SCORES", "FP32", -1),
        spec(batching, "SECONDS", "FP32", 1),
    )
    if head == "speaker":
        outputs += (spec(batching, "EMBEDDING", "FP32", -1),)
    return sound_inputs(batching), outputs


def verify_case(case: VerifyCase, number: int, model: str, batching: bool) -> Inference:
    """One verify case of a deployment as a saved request. Raises `UsageError`."""
    if not case.input or case.text or case.fields:
        raise UsageError(
            f"verify[{number}]: this model is verified with a sound",
            why="input must name a WAV file, and there are no fields",
            fix='input = "sound.wav", expect = "the label"',
        )
    title = Path(case.input).name + (f" is “{case.expect}”" if case.expect else "")
    return _inference(clean(title), model, batching, literal(case.input), case.expect)


def default_case(model: str, batching: bool, sample: str) -> Inference:
    """A request with the sound that the export made; any label counts."""
    return _inference("a generated sound is answered", model, batching, sample, "")


def _inference(title: str, model: str, batching: bool, file: str, label: str) -> Inference:
    shape = (1, 1) if batching else (1,)
    return Inference(
        title=title,
        model=model,
        inputs=(SavedTensor(name="WAV", dtype="BYTES", shape=shape, file=file),),
        expect=(
            Expected(output="LABEL", equals=(label,) if label else None, shape=shape),
            Expected(output="SCORE", shape=shape),
        ),
    )


class LabelsForm:
    """Prompt adapter: a sound file in, labels out; of a speaker model also the embedding, and how
    near a second recording is."""

    def __init__(self, metadata: ModelMetadata) -> None:
        self._model = metadata.name
        self._batching = metadata.max_batch_size > 1
        self._shape = (1, 1) if metadata.max_batch_size > 0 else (1,)
        longest = float(metadata.parameters.get("max_seconds", "600"))
        help_ = f"a WAV file, PCM or float, any rate and number of channels; at most {longest:g} s"
        fields = [PromptField("sound", FieldKind.SOUND, "Sound", help_)]
        speaker = any(tensor.name == "EMBEDDING" for tensor in metadata.outputs)
        if speaker and self._batching:
            fields.append(
                PromptField(
                    "other",
                    FieldKind.SOUND,
                    "Second sound",
                    "another WAV file: how alike the two voices are",
                    required=False,
                )
            )
        self.fields: Sequence[PromptField] = tuple(fields)

    def request(self, values: Mapping[str, str]) -> InferenceRequest:
        """The request for these values; `UsageError` names the field that is wrong."""
        first = sound_file(values, "sound")
        if not values.get("other", "").strip():
            return InferenceRequest(
                self._model, (TensorValue("WAV", "BYTES", self._shape, file=first),)
            )
        if not self._batching:
            raise UsageError("other: this model takes one sound at a time")
        paths = (first, sound_file(values, "other"))
        try:
            sounds = tuple(path.read_bytes() for path in paths)
        except OSError as error:
            raise UsageError("a sound cannot be read", why=clean(str(error))) from error
        return InferenceRequest(self._model, (TensorValue("WAV", "BYTES", (2, 1), values=sounds),))

    def answer(self, answer: InferenceAnswer) -> str:
        """The ranking; of a speaker model the embedding's size, norm and first numbers."""
        outputs = {tensor.name: tensor for tensor in answer.outputs}
        lines = []
        for ranking in outputs["RANKING"].values if "RANKING" in outputs else ():
            lines += _ranked(str(ranking))
        if "EMBEDDING" in outputs:
            tensor = outputs["EMBEDDING"]
            vectors = _rows(tuple(map(float, tensor.values)), tensor.shape)
            lines += [_described(vector) for vector in vectors]
            if len(vectors) == 2:
                lines.append(f"cosine of the two voices: {cosine(*vectors):.3f}")
        return "\n".join(lines) or "(no labels)"


def _ranked(ranking: str) -> list[str]:
    try:
        return [
            f"{float(entry['score']):8.3f}  {clean(str(entry['label']))}"
            for entry in json.loads(ranking)
        ]
    except (ValueError, TypeError, KeyError):
        return ["(the ranking could not be read)"]


def _rows(values: tuple[float, ...], shape: tuple[int, ...]) -> list[tuple[float, ...]]:
    width = shape[-1] if shape else 0
    return [values[at : at + width] for at in range(0, len(values), width)] if width else []


def _described(vector: tuple[float, ...]) -> str:
    first = ", ".join(f"{value:.3f}" for value in vector[:SHOWN])
    more = ", …" if len(vector) > SHOWN else ""
    return f"embedding of {len(vector)} numbers, norm {math.hypot(*vector):.3f}: {first}{more}"


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """Cosine of the angle between two vectors; 0 when one of them is 0."""
    norms = math.hypot(*first) * math.hypot(*second)
    return sum(a * b for a, b in zip(first, second, strict=True)) / norms if norms else 0.0
