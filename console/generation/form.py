"""The prompt form of a language model: what a person types becomes a text request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from console.facts import FieldKind, InferenceAnswer, PromptField, UsageError
from console.prompts import Names, Style, TextRequest, Turn
from console.text import clean

_FIELDS = (
    PromptField("prompt", FieldKind.TEXT, "Prompt", "What the model is asked or begins with."),
    PromptField(
        "system", FieldKind.TEXT, "System message", "How it is to behave; empty sends none.", False
    ),
    PromptField(
        "max_tokens", FieldKind.TEXT, "Tokens at most", "Length of the answer.", False, "128"
    ),
    PromptField(
        "temperature",
        FieldKind.TEXT,
        "Temperature",
        "0 always takes the likeliest token.",
        False,
        "0",
    ),
    PromptField("top_p", FieldKind.TEXT, "Top p", "Empty leaves it to the server.", False),
    PromptField("seed", FieldKind.TEXT, "Seed", "Empty leaves it to the server.", False),
)


@dataclass(frozen=True)
class TextForm:
    """The form of one served language model.

    `style` says how the server takes the request and `names` what a Triton model calls its parts;
    with `declared` (the served model's inputs) nothing is sent that the model does not take. An
    answer that begins with `never` is an error.
    """

    model: str
    style: Style = Style.CHAT
    names: Names = field(default_factory=Names)
    stream: bool = True
    declared: frozenset[str] = frozenset()
    never: str = ""

    @property
    def fields(self) -> Sequence[PromptField]:
        """Without a system message where the server takes no conversation."""
        chat = self.style is Style.CHAT
        return tuple(f for f in _FIELDS if (chat or f.name != "system") and self._taken(f.name))

    def _taken(self, name: str) -> bool:
        if not self.declared or name == "prompt" or self.names.sampling:
            return True
        called = self.names.length if name == "max_tokens" else name
        return f"{self.names.prefix}{called}" in self.declared

    def request(self, values: Mapping[str, str]) -> TextRequest:
        """`UsageError` names the field that is empty or no number."""
        prompt = values.get("prompt", "")
        if not prompt.strip():
            raise UsageError("the prompt is empty", fix="type what the model is to answer")
        system = values.get("system", "").strip()
        turns = (Turn("system", system),) if system and self.style is Style.CHAT else ()
        return TextRequest(
            model=self.model,
            turns=(*turns, Turn("user", prompt)),
            style=self.style,
            stream=self.stream,
            max_tokens=_whole(values, "max_tokens"),
            temperature=_number(values, "temperature"),
            top_p=_number(values, "top_p"),
            seed=_whole(values, "seed"),
            names=self.names,
            never=self.never,
        )

    def answer(self, answer: InferenceAnswer) -> str:
        """The text outputs of a tensor answer, for a model that was asked with tensors."""
        texts = (str(v) for out in answer.outputs for v in out.values if out.dtype == "BYTES")
        return clean(" ".join(texts), multiline=True)


def _whole(values: Mapping[str, str], name: str) -> int | None:
    number = _number(values, name)
    if number is None:
        return None
    if number != int(number) or number < 0:
        raise UsageError(f"{name} is not a whole number", why=clean(values[name]))
    return int(number)


def _number(values: Mapping[str, str], name: str) -> float | None:
    text = values.get(name, "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{name} is not a number", why=clean(text))
    return number
