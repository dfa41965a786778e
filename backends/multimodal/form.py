"""The tensors of a multimodal model that NeMo serves: saved requests, and the form of the Try screen.

``input_text`` is BYTES [1, 1]. Vision: ``input_media`` UINT8 [1, frames, height, width, 3], one frame for
a picture. Sound: ``input_signal`` FP32 [1, samples] and ``input_signal_length`` INT32 [1, 1], at 16 kHz.
The others are [1, 1] and always sent, as upstream's client does: one kind of model fails without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backends.language.common import FAILED, answered, token_limit
from backends.multimodal.kinds import (
    IMAGE_MARK,
    KINDS,
    LONGEST_SOUND,
    SHORTEST_SOUND,
    SOUND_RATE,
    Kind,
)
from console.facts import (
    FieldKind,
    InferenceAnswer,
    InferenceRequest,
    ModelMetadata,
    PromptField,
    TensorValue,
    UsageError,
)
from console.media import films, pictures, sounds
from console.planning.deployment import Deployment
from console.planning.plan import Expected, Inference, SavedTensor
from console.storage import named
from console.text import clean
from console.triton.media import keep

if TYPE_CHECKING:
    import numpy as np

TEXT, PICTURE, SIGNAL, LENGTH = "input_text", "input_media", "input_signal", "input_signal_length"
ANSWER = "outputs"
QUESTIONS = {
    "image": "What is in this image?",
    "video": "What happens in this video?",
    "sound": "Q: what's the transcription of the audio? A:",
}
SHAPE = (1, 1)
LONGEST_SIDE = 2048
"""Pixels: a larger picture is scaled down. No encoder here sees more than 1120."""
_SETTINGS: dict[str, tuple[str, str, str]] = {
    "batch_size": ("INT64", "1", "Copies of the request that are computed together."),
    "max_output_len": ("INT64", "64", "Tokens of the answer at most."),
    "top_k": ("INT64", "1", "1 takes the likeliest token."),
    "top_p": ("FP32", "0.0", "0 looks at top k alone."),
    "temperature": ("FP32", "1.0", "1 leaves the probabilities as they are."),
    "repetition_penalty": ("FP32", "1.0", "Above 1 repeats less."),
    "num_beams": ("INT64", "1", "Answers that are followed at once."),
}
"""Name to type, what upstream's client sends, and its meaning."""


# ---------------------------------------------------------------------------- saved requests


@dataclass(frozen=True, slots=True)
class Case:
    """One request of a verify step; no file means made-up media."""

    text: str
    file: str = ""
    expect: str = ""
    limit: int = 8


def media_names(kind: Kind) -> tuple[str, ...]:
    """The tensors that a picture, video or sound becomes."""
    return (SIGNAL, LENGTH) if kind.media == "sound" else (PICTURE,)


def cases(deployment: Deployment, limit: int) -> tuple[Case, ...]:
    """The deployment's verify cases; one of our own where it names none.

    Each names a picture, video or sound (``input``) and a text; ``max_output_len`` (at most `limit`
    tokens) may stand in its fields. Raises `UsageError`.
    """
    found = []
    for number, case in enumerate(deployment.verify):
        where = f"verify[{number}]"
        unknown = sorted(set(case.fields) - {"max_output_len"})
        if not case.text or not case.input or unknown:
            raise UsageError(
                f"{where}: a multimodal model is verified with a file and a text",
                why=f"there is no field {clean(unknown[0])}" if unknown else "",
                fix='input = "picture.jpg", text = "What is in this image?", expect = "…"',
            )
        wanted = token_limit(case.fields, "max_output_len", min(64, limit), limit, where)
        found.append(Case(case.text, case.input, case.expect, wanted))
    return tuple(found) or (Case("", limit=min(8, limit)),)


def saved(deployment: Deployment, kind: Kind, name: str, case: Case, folder: str) -> Inference:
    """A case as a saved request, whose media are files of `folder` (template)."""
    asked = case.text or QUESTIONS[kind.media]
    shapes = {PICTURE: (1, -1, -1, -1, 3), SIGNAL: (1, -1), LENGTH: SHAPE}
    types = {PICTURE: "UINT8", SIGNAL: "FP32", LENGTH: "INT32"}
    settings = {key: _number(key, value[1]) for key, value in _SETTINGS.items()}
    settings["max_output_len"] = case.limit
    said = f"“{asked}” → “{case.expect}”" if case.expect else f"“{asked}” is answered"
    return Inference(
        title=clean(said),
        model=deployment.served_name,
        inputs=(
            SavedTensor(name=TEXT, dtype="BYTES", shape=SHAPE, values=(marked(asked, kind),)),
            *(
                SavedTensor(
                    name=tensor,
                    dtype=types[tensor],
                    shape=shapes[tensor],
                    file=f"{folder}/{tensor}.npy",
                )
                for tensor in media_names(kind)
            ),
            *(
                SavedTensor(name=key, dtype=_SETTINGS[key][0], shape=SHAPE, values=(value,))
                for key, value in settings.items()
            ),
        ),
        expect=(Expected(output=ANSWER, text=case.expect, never=FAILED),),
        timeout=max(120.0, deployment.server.load_timeout),
    )


def marked(text: str, kind: Kind) -> str:
    """`text` as the model wants it: some need a mark where the picture belongs."""
    return f"{IMAGE_MARK}{text}" if kind.marked and "<image>" not in text else text


def _number(name: str, text: str) -> float | int:
    whole = _SETTINGS[name][0].startswith("INT")
    try:
        return int(text) if whole else float(text)
    except ValueError:
        wanted = "a whole number" if whole else "a number"
        raise UsageError(f"{name} is {wanted}", why=clean(text)) from None


# ---------------------------------------------------------------------------- the form


class MultimodalForm:
    """The form of one served model: text, one file, and the settings that it declares.

    `name` is its ``model_type``; where nobody told, the form asks for it.
    """

    def __init__(self, model: ModelMetadata, name: str = "") -> None:
        self._model = model
        self._declared = {spec.name for spec in model.inputs}
        self._name = "salm" if SIGNAL in self._declared else name
        self.fields: Sequence[PromptField] = tuple(self._fields())

    def _fields(self) -> Sequence[PromptField]:
        kind = KINDS.get(self._name)
        found = [PromptField("text", FieldKind.TEXT, "Text", _text_help(kind))]
        found.append(_media_field(kind))
        if kind is None:
            names = tuple(name for name, one in KINDS.items() if one.media != "sound")
            found.append(
                PromptField(
                    "model_type",
                    FieldKind.CHOICE,
                    "Model type",
                    "vila, lita and vita get <image> and a new line before the text; lita and vita "
                    "at most 256 frames",
                    default="neva",
                    choices=names,
                )
            )
        elif kind.marked:
            found.append(
                PromptField(
                    "mark",
                    FieldKind.FLAG,
                    "Put <image> and a new line before the text",
                    f"{kind.title} sees no picture without it",
                    required=False,
                    default="true",
                )
            )
        for name, (_, default, help_) in _SETTINGS.items():
            if name in self._declared and name != "batch_size":
                found.append(
                    PromptField(name, FieldKind.TEXT, _titled(name), help_, False, default)
                )
        if "lora_uids" in self._declared:
            found.append(
                PromptField("lora_uids", FieldKind.TEXT, "Adapter", "Number of a LoRA.", False)
            )
        return found

    def request(self, values: Mapping[str, str]) -> InferenceRequest:
        """`UsageError` names the field that is empty, no number, or a file that cannot be read."""
        kind = KINDS.get(self._name or values.get("model_type", ""))
        if kind is None:
            known = ", ".join(KINDS)
            raise UsageError("model_type is needed", fix=f"give one of {known}")
        text = values.get("text", "")
        if not text.strip():
            raise UsageError("text is empty", fix="type what the model is asked")
        if values.get("mark", "true") != "false":
            text = marked(text, kind)
        settings = {
            name: _number(name, values.get(name, "").strip() or default)
            for name, (_, default, _) in _SETTINGS.items()
            if name in self._declared
        }
        tensors = [TensorValue(TEXT, "BYTES", SHAPE, (text,))]
        tensors += _media(values.get("media", ""), kind)
        tensors += [
            TensorValue(name, _SETTINGS[name][0], SHAPE, (value,))
            for name, value in settings.items()
        ]
        if lora := values.get("lora_uids", "").strip():
            tensors.append(TensorValue("lora_uids", "BYTES", SHAPE, (lora,)))
        return InferenceRequest(self._model.name, tuple(tensors), outputs=(ANSWER,))

    def answer(self, answer: InferenceAnswer) -> str:
        """The text; `DeckError` for the error that the server answers as if it were one."""
        return answered(
            "".join(str(v) for o in answer.outputs if o.name == ANSWER for v in o.values)
        )


def _titled(name: str) -> str:
    return name.replace("_", " ").replace("len", "length").replace("num ", "").capitalize()


def _text_help(kind: Kind | None) -> str:
    return f"for example: {QUESTIONS[kind.media if kind else 'image']}"


def _media_field(kind: Kind | None) -> PromptField:
    scaled = f"longer sides than {LONGEST_SIDE} pixels are scaled down"
    if kind is None:
        return PromptField(
            "media", FieldKind.VIDEO, "Picture or video", "JPEG, PNG, WebP, GIF, MP4"
        )
    if kind.media == "sound":
        said = (
            f"WAV or FLAC, {SHORTEST_SOUND:g} to {LONGEST_SOUND:g} s; sent as {SOUND_RATE} Hz mono"
        )
        return PromptField("media", FieldKind.SOUND, "Sound", said)
    if kind.media == "image":
        return PromptField("media", FieldKind.IMAGE, "Picture", f"JPEG, PNG, WebP or GIF; {scaled}")
    few = f"{kind.frames} frames at most, evenly spaced" if kind.frames else "all of its frames"
    said = f"MP4, WebM, AVI or GIF: {few}; the shorter side is scaled down to 384 pixels"
    return PromptField("media", FieldKind.VIDEO, "Video", said)


def _media(typed: str, kind: Kind) -> list[TensorValue]:
    """The tensors of the file that was named. Arrays are kept in files while this process lives."""
    if not typed.strip():
        raise UsageError("media is empty", fix=_media_field(kind).help)
    path = named(typed.strip().removeprefix("file:"))
    if kind.media == "sound":
        samples = sounds.sound(path, "media", rate=SOUND_RATE, longest=LONGEST_SOUND).samples
        if len(samples) < SHORTEST_SOUND * SOUND_RATE:
            raise UsageError(
                f"media: {clean(path.name)} is too short",
                why=f"{len(samples) / SOUND_RATE:.2f} s, and {SHORTEST_SOUND:g} s are needed",
            )
        length = TensorValue(LENGTH, "INT32", SHAPE, (len(samples),))
        return [_kept(SIGNAL, "FP32", samples[None]), length]
    if kind.media == "image":
        frames = pictures.picture(path, "media", longest=LONGEST_SIDE)[None]
    else:
        frames = films.film(path, "media", films.Sampling(kind.frames))
    return [_kept(PICTURE, "UINT8", frames[None])]


def _kept(name: str, dtype: str, array: np.ndarray[Any, Any]) -> TensorValue:
    return TensorValue(name, dtype, array.shape, file=keep(array))


def form(model: ModelMetadata, name: str = "") -> MultimodalForm | None:
    """The form where the model's tensors are those of NeMo's multimodal class; else None."""
    inputs = {spec.name for spec in model.inputs}
    outputs = {spec.name for spec in model.outputs}
    sees, hears = PICTURE in inputs, {SIGNAL, LENGTH} <= inputs
    ours = TEXT in inputs and (sees or hears) and ANSWER in outputs
    return MultimodalForm(model, name) if ours else None
