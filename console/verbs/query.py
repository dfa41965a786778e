"""`query`: one request, one answer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from console.facts import (
    DeckError,
    Endpoint,
    FieldKind,
    InferenceAnswer,
    PromptAdapter,
    UsageError,
)
from console.prompts import TextAnswer, TextRequest
from console.text import clean
from console.verbs import common, output

if TYPE_CHECKING:
    from console.desk.desk import Desk


def query(args: argparse.Namespace) -> int:
    on = common.desk(args)
    endpoint, model = _target(on, args.name, args.model)
    metadata = on.metadata(endpoint, model)
    form = on.adapter(endpoint, metadata)
    request = form.request(_values(args, form))
    if args.curl or args.python:
        text = on.as_curl(endpoint, request) if args.curl else on.as_python(endpoint, request)
        if args.json:
            output.emit("curl" if args.curl else "python", text)
        else:
            print(text)
        return 0
    if isinstance(request, TextRequest):
        return _text(on, endpoint, request, args.json)
    answer = on.infer(endpoint, request)
    words = on.words(form, answer)
    if args.json:
        outputs = answer.outputs if isinstance(answer, InferenceAnswer) else ()
        output.emit("answer", words, model=model, latency=answer.latency, outputs=outputs)
    else:
        output.say(words, multiline=True)
    return 0


def _text(on: Desk, endpoint: Endpoint, request: TextRequest, as_json: bool) -> int:
    """Text as it arrives; with ``--json`` whole, with what the server counted."""
    if not as_json:
        on.infer(endpoint, request, lambda piece: print(piece, end="", flush=True))
        print()
        return 0
    answer = on.infer(endpoint, request)
    assert isinstance(answer, TextAnswer), "a text request is answered with text"
    output.emit(
        "answer",
        answer.text,
        model=answer.model,
        latency=answer.latency,
        first_text=answer.first_text,
        finish_reason=answer.finish_reason,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
    )
    return 0


def _target(on: Desk, name: str, model: str) -> tuple[Endpoint, str]:
    """Where to ask and which model: of a service of ours, or of any server by its URL."""
    models: tuple[str, ...] = ()
    if name.startswith(("http://", "https://")):
        endpoint = Endpoint(url=name.rstrip("/"))
    else:
        service = on.service(name)
        if not service.living:
            raise DeckError(
                f"{clean(service.deployment)} is not being served",
                why=service.reason,
                fix=f"tritondeck deploy {clean(service.deployment)}",
            )
        # The last one is what the deployment serves, the others are called by it.
        endpoint, models = service.endpoint, service.models[-1:]
    if model:
        return endpoint, model
    if not models:
        models = tuple(state.name for state in on.health(endpoint).models if state.ready)
    if len(models) != 1:
        raise UsageError(
            "say which model with --model",
            why=f"served there: {', '.join(clean(m) for m in models) or 'unknown'}",
        )
    return endpoint, models[0]


def _values(args: argparse.Namespace, form: PromptAdapter) -> dict[str, str]:
    """What the flags say, under the names of the form's fields."""
    values = {field.name: field.default for field in form.fields if field.default}
    for flag, kind, text in (
        ("--audio", FieldKind.SOUND, args.audio and str(Path(args.audio).absolute())),
        ("--image", FieldKind.IMAGE, args.image and str(Path(args.image).absolute())),
        ("--video", FieldKind.VIDEO, args.video and str(Path(args.video).absolute())),
        ("--text", FieldKind.TEXT, args.text),
    ):
        if text is None or text == "":
            continue
        field = next((field for field in form.fields if field.kind is kind), None)
        if field is None and kind is FieldKind.IMAGE:  # a video of one frame
            field = next((f for f in form.fields if f.kind is FieldKind.VIDEO), None)
        if field is None:
            raise UsageError(f"this model takes no {kind.value} ({flag})", why=_listed(form))
        values[field.name] = text
    for name, text in common.pairs(args.inputs, "--input").items():
        if name not in {field.name for field in form.fields}:
            raise UsageError(f"this model has no input {clean(name)!r}", why=_listed(form))
        values[name] = text
    return values


def _listed(form: PromptAdapter) -> str:
    return "; ".join(
        f"{clean(field.name)} ({field.kind.value}{'' if field.required else ', optional'}): "
        f"{clean(field.title)}"
        for field in form.fields
    )
