"""Read what a server says to a text request: a whole answer, a stream of events, or an error.

Errors of a stream come inside it after a status of 200, so every event is looked at.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from console.facts import CancelCheck, DeckError
from console.prompts import Style, TextRequest
from console.text import clean, redact

ANSWER_CAP = 16 << 20
"""Bytes of one answer that are read."""
LINE_CAP = 1 << 20
OnText = Callable[[str], None]
"""Called with each piece of text as it arrives, from the thread that asked."""


@dataclass
class Heard:
    """What has been heard of one answer so far."""

    started: float
    on_text: OnText | None
    never: str = ""
    """Beginning of a text that is an error in an answer's place."""
    pieces: list[str] = field(default_factory=list)
    held: str = ""
    """Text that may be such an error, or its beginning: nobody has been told of it."""
    first: float | None = None
    finish: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def text(self, piece: str) -> None:
        if not piece:
            return
        if self.first is None:
            self.first = time.monotonic() - self.started
        piece = self.held + clean(piece, multiline=True)
        begun = piece.lstrip()
        if self.never and not self.pieces and begun[: len(self.never)] == self.never[: len(begun)]:
            self.held = piece
        else:
            self._tell(piece)

    def end(self) -> None:
        """The answer is over. `DeckError` where all of it is an error."""
        require_answer(self.held, self.never)
        if self.held:
            self._tell(self.held)

    def _tell(self, piece: str) -> None:
        self.held = ""
        self.pieces.append(piece)
        if self.on_text:
            self.on_text(piece)

    def usage(self, told: Any) -> None:
        if isinstance(told, dict):
            self.prompt_tokens = _count(told.get("prompt_tokens"), self.prompt_tokens)
            self.completion_tokens = _count(told.get("completion_tokens"), self.completion_tokens)


def _count(value: Any, before: int | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else before


def words(content: bytes) -> str:
    """What a server says in the body of an error, cleaned."""
    text = content.decode(errors="replace")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return redact(clean(text.strip(), multiline=True))
    return redact(clean(_message(told) or text.strip(), multiline=True))


def _message(told: Any) -> str:
    """The message of an error object: ``{"error": "…"}``, ``{"error": {"message": "…"}}``,
    ``{"detail": …}`` (FastAPI), ``{"object": "error", "message": "…"}``."""
    if not isinstance(told, dict):
        return ""
    for key in ("error", "detail", "message"):
        value = told.get(key)
        if isinstance(value, dict):
            return str(value.get("message") or value)
        if value:
            return str(value)
    return ""


def read_whole(response: http.client.HTTPResponse, asked: TextRequest, heard: Heard) -> None:
    content = response.read(ANSWER_CAP + 1)
    if len(content) > ANSWER_CAP:
        raise DeckError(f"the answer is larger than {ANSWER_CAP} bytes", why="not read further")
    try:
        told = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DeckError(
            "the server's answer is not JSON",
            why=clean(str(error)),
            raw=clean(content[:2000].decode(errors="replace"), multiline=True),
        ) from error
    _take(told, asked, heard)


def read_stream(
    response: http.client.HTTPResponse,
    asked: TextRequest,
    heard: Heard,
    cancelled: CancelCheck | None,
) -> None:
    """Events of a stream: lines ``data: {…}``, ended by ``data: [DONE]`` or the connection."""
    total = 0
    while line := response.readline(LINE_CAP):
        total += len(line)
        if total > ANSWER_CAP:
            raise DeckError(f"the answer is larger than {ANSWER_CAP} bytes", why="not read further")
        if cancelled and cancelled():
            heard.finish = "cancelled"
            return
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        try:
            told = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DeckError(
                "an event of the stream is not JSON",
                why=clean(str(error)),
                raw=clean(data[:2000].decode(errors="replace")),
            ) from error
        _take(told, asked, heard)


def _take(told: Any, asked: TextRequest, heard: Heard) -> None:
    if not isinstance(told, dict):
        raise DeckError("the server's answer is not an object", raw=clean(str(told))[:2000])
    if told.get("error") or told.get("object") == "error":
        raise DeckError(
            "the server refused the request",
            why=redact(clean(_message(told), multiline=True))[:500],
        )
    if asked.style is Style.GENERATE:
        value = told.get(asked.names.text)
        if value is None:
            raise DeckError(
                f"the answer has no {clean(asked.names.text)}",
                why=f"it has {clean(', '.join(map(str, told)))[:200]}",
            )
        heard.text("".join(map(str, value)) if isinstance(value, list) else str(value))
        heard.finish = clean(str(told.get("finish_reason") or heard.finish))
        heard.completion_tokens = _count(told.get("num_output_tokens"), heard.completion_tokens)
        heard.prompt_tokens = _count(told.get("num_input_tokens"), heard.prompt_tokens)
        return
    heard.usage(told.get("usage"))
    choices = told.get("choices")
    if not isinstance(choices, list):
        raise DeckError("the answer has no choices", raw=clean(json.dumps(told))[:2000])
    for choice in choices[:1]:
        heard.text(_choice_text(choice))
        heard.finish = clean(str(choice.get("finish_reason") or heard.finish))


def require_answer(text: str, never: str) -> None:
    """`DeckError` for a text that begins with `never`: an error in an answer's place."""
    begun = text.lstrip()
    if never and begun.startswith(never):
        raise DeckError(
            "the model answered with an error",
            why=redact(clean(begun.removeprefix(never).strip(), multiline=True))[:500],
            fix="read the server's log: it has the whole error",
        )


def _choice_text(choice: Any) -> str:
    """Text of a choice: a chat's message or a stream's delta, or a completion's text (a list of
    texts from NeMo's servers)."""
    if not isinstance(choice, dict):
        return ""
    part = choice.get("delta") or choice.get("message")
    value = part.get("content") if isinstance(part, dict) else choice.get("text")
    while isinstance(value, list):
        value = value[0] if value else ""
    return str(value) if value is not None else ""
