"""The form of the match model: an image or a text in, records out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from backends.retrieval.requests import candidates_json
from console.facts import (
    FieldKind,
    InferenceAnswer,
    InferenceRequest,
    ModelMetadata,
    PromptField,
    TensorValue,
    UsageError,
)
from console.storage import is_file, named
from console.text import clean

SHOWN = 300
"""Characters of a document that an answer shows."""
ONE = (1, 1)


class MatchForm:
    """Prompt adapter of a match model."""

    def __init__(self, metadata: ModelMetadata) -> None:
        self._model = metadata.name
        parameters = metadata.parameters
        against = ["", "image", "text"]
        if parameters.get("sentence_model"):
            against.append("sentence")
        self._against = tuple(against)
        usual = (
            f"by itself an image searches {parameters.get('image_searches', 'text')} vectors, "
            f"a text {parameters.get('text_searches', 'image')} vectors"
        )
        self.fields: Sequence[PromptField] = (
            _field(
                "image", FieldKind.IMAGE, "Image", "JPEG, PNG, WebP, GIF, BMP or TIFF; or a text"
            ),
            _field("text", FieldKind.TEXT, "Text", "what to look for; or an image"),
            PromptField(
                "top",
                FieldKind.TEXT,
                "Records",
                "how many of the best records are shown",
                required=False,
                default=parameters.get("top", "5"),
            ),
            _field(
                "filter", FieldKind.TEXT, "Filter", 'records with these values: {"color": "red"}'
            ),
            PromptField(
                "against",
                FieldKind.CHOICE,
                "Against",
                usual,
                required=False,
                choices=self._against,
            ),
            _field(
                "candidates",
                FieldKind.TEXT,
                "Candidates",
                "compare with these texts in place of the store: a cat|a dog",
            ),
        )

    def request(self, values: Mapping[str, str]) -> InferenceRequest:
        """The request for these values; `UsageError` names the field that is wrong."""
        given = {name: value.strip() for name, value in values.items() if value.strip()}
        if ("image" in given) == ("text" in given):
            raise UsageError("give an image or a text", why="one of the two is compared")
        inputs = [_image(given["image"])] if "image" in given else [_words("TEXT", given["text"])]
        inputs.append(TensorValue("TOP", "INT32", ONE, values=(_top(given.get("top", "5")),)))
        if wanted := given.get("filter"):
            inputs.append(_words("FILTER", _filter(wanted)))
        if against := given.get("against"):
            if against not in self._against:
                raise UsageError(
                    f"against: {clean(against)} is none of {', '.join(self._against[1:])}"
                )
            inputs.append(_words("AGAINST", against))
        if candidates := given.get("candidates"):
            inputs.append(_words("CANDIDATES", candidates_json(candidates)))
        return InferenceRequest(self._model, tuple(inputs))

    def answer(self, answer: InferenceAnswer) -> str:
        """The best one's caption, then a line a record: cosine, id, document."""
        outputs = {tensor.name: tensor.values for tensor in answer.outputs}
        best = clean(str((outputs.get("BEST") or ("",))[0]))
        try:
            matches = json.loads(str((outputs.get("MATCHES") or ("[]",))[0]))
            lines = [_line(match) for match in matches]
        except (ValueError, TypeError, KeyError):
            lines = ["(the records could not be read)"]
        return "\n".join([best, *lines]) if lines else "(no record)"


def _field(name: str, kind: FieldKind, title: str, text: str) -> PromptField:
    return PromptField(name, kind, title, text, required=False)


def _line(match: Mapping[str, Any]) -> str:
    document = json.dumps(match["document"], ensure_ascii=False)
    return f"{float(match['score']):8.3f}  {clean(str(match['id']))}  {clean(document, cap=SHOWN)}"


def _words(name: str, value: str) -> TensorValue:
    return TensorValue(name, "BYTES", ONE, values=(value,))


def _image(text: str) -> TensorValue:
    path = named(text)
    if not is_file(path):
        raise UsageError(f"image: no such file: {clean(text)}", fix="pick an image file")
    return TensorValue("IMAGE", "BYTES", ONE, file=path)


def _top(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1000:
        raise UsageError(f"top: {clean(text)} is no number from 1 to 1000")
    return int(text)


def _filter(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(
            "filter: not JSON", why=clean(str(error)), fix='{"color": "red"}'
        ) from error
    if not isinstance(value, dict):
        raise UsageError("filter: not a JSON object", fix='{"color": "red"}')
    return json.dumps(value, ensure_ascii=False)
