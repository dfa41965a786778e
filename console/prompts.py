"""Text generation as data: what is asked, how a server wants it asked, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Style(StrEnum):
    """How a server takes a text request."""

    CHAT = "chat"
    """OpenAI's ``POST /v1/chat/completions``"""
    COMPLETION = "completion"
    """OpenAI's ``POST /v1/completions``"""
    GENERATE = "generate"
    """Triton's ``POST /v2/models/M/generate`` and ``generate_stream``"""


@dataclass(frozen=True, slots=True)
class Names:
    """What a Triton model calls the parts of a request: they differ by route and version.

    An empty name is not sent. With `sampling` the sampling parameters travel as one JSON text in
    that input (Triton's vLLM backend); else each under ``prefix`` + its own name.
    """

    prompt: str = "text_input"
    text: str = "text_output"
    stream: str = "stream"
    prefix: str = ""
    sampling: str = ""
    without_prompt: str = ""
    """Input that, set true, keeps the prompt out of the answer."""
    length: str = "max_tokens"
    """What bounds the answer (``max_length`` of NeMo's in-framework models)."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation; `role` is ``system``, ``user`` or ``assistant``."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class TextRequest:
    """One request for text. Unset sampling parameters are left to the server."""

    model: str
    turns: tuple[Turn, ...]
    """The last one is the question; `Style.COMPLETION` and `GENERATE` send its text alone."""
    style: Style = Style.CHAT
    stream: bool = True
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    names: Names = Names()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the body, as they are."""
    never: str = ""
    """Beginning of a text that is an error in an answer's place; empty: the server tells errors as such."""

    @property
    def prompt(self) -> str:
        return self.turns[-1].text if self.turns else ""

    @property
    def sampling(self) -> dict[str, Any]:
        """The parameters that are set, by their usual names."""
        named = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "seed": self.seed,
            "stop": list(self.stop) or None,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """What came back; times in seconds from sending."""

    model: str
    text: str
    """Cleaned for a terminal, line breaks kept."""
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """As the server counts them; None when it does not say."""
    latency: float = 0.0
    first_text: float | None = None
    """Until the first text of a stream."""

    @property
    def tokens_a_second(self) -> float | None:
        """Tokens after the first text over the time that they took; None where not counted."""
        if not self.completion_tokens:
            return None
        if self.first_text is None:
            return self.completion_tokens / self.latency if self.latency else None
        rest = self.latency - self.first_text
        return (
            (self.completion_tokens - 1) / rest if rest > 0 and self.completion_tokens > 1 else None
        )
