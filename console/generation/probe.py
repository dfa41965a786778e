"""A text request as a success probe of a plan: data that runs and scripts send as it is."""

from __future__ import annotations

from dataclasses import replace

from console.generation.client import body, path
from console.planning.plan import TextAnswered
from console.prompts import Style, TextRequest


def probe(asked: TextRequest, title: str, equals: str = "", timeout: float = 120.0) -> TextAnswered:
    """`asked`, whole and without sampling noise, whose answer must be `equals` (any when empty)."""
    whole = replace(
        asked, stream=False, temperature=0.0 if asked.temperature is None else asked.temperature
    )
    places = {Style.CHAT: "choices.0.message.content", Style.COMPLETION: "choices.0.text"}
    return TextAnswered(
        title=title,
        path=path(whole),
        body=body(whole),
        answer=places.get(whole.style, whole.names.text),
        equals=equals,
        timeout=timeout,
    )
