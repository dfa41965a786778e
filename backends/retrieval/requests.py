"""Saved requests that prove the models: vectors of the right size, right answers among candidates."""

from __future__ import annotations

import json
from pathlib import Path

from backends.retrieval.work import Work
from console.facts import UsageError
from console.planning.deployment import VerifyCase
from console.planning.plan import Expected, Inference, SavedTensor
from console.planning.variables import literal
from console.text import clean

KNOWN = ("against", "candidates", "filter", "top")
SAMPLE = "a photo of a cat"


def verification(work: Work) -> tuple[Inference, ...]:
    """The deployment's cases, else a text's vector from each text model and one answer of the store."""
    cases = tuple(_case(work, case, number) for number, case in enumerate(work.deployment.verify))
    return cases or tuple(_made_up(work))


def _made_up(work: Work) -> list[Inference]:
    asked = [(work.model("text_embed"), work.towers.dimension)]
    if work.sentence is not None:
        asked.append((work.model("sentence_embed"), work.sentence.dimension))
    found = [
        Inference(
            title=f"{model} makes a vector of {dimension} numbers",
            model=model,
            inputs=(_bytes("TEXT", SAMPLE),),
            expect=(Expected(output="EMBEDDING", shape=(1, dimension)),),
        )
        for model, dimension in asked
    ]
    found.append(
        Inference(
            title="the store is searched with a text",
            model=work.name,
            inputs=(_bytes("TEXT", SAMPLE),),
            expect=(Expected(output="MATCHES", shape=(1, 1)), Expected(output="SCORE")),
        )
    )
    return found


def _case(work: Work, case: VerifyCase, number: int) -> Inference:
    """One verify case. Raises `UsageError` naming it and what is wrong."""
    where = f"verify[{number}]"
    if bool(case.input) == bool(case.text):
        raise UsageError(
            f"{where}: give input (an image file) or text",
            fix='input = "image.png", fields = { candidates = "a cat|a dog" }, expect = "a cat"',
        )
    if unknown := sorted(set(case.fields) - set(KNOWN)):
        raise UsageError(
            f"{where}: there is no field {clean(unknown[0])}", why=f"there are {', '.join(KNOWN)}"
        )
    given = (
        SavedTensor(name="IMAGE", dtype="BYTES", shape=(1, 1), file=literal(case.input))
        if case.input
        else _bytes("TEXT", case.text)
    )
    more = [
        _bytes(name.upper(), value)
        for name, value in case.fields.items()
        if name in ("against", "filter")
    ]
    if candidates := case.fields.get("candidates"):
        more.append(_bytes("CANDIDATES", candidates_json(candidates)))
    what = Path(case.input).name if case.input else f"“{case.text}”"
    title = f"{what} is “{case.expect}”" if case.expect else what
    return Inference(
        title=clean(title),
        model=work.name,
        inputs=(given, *more),
        expect=(
            Expected(output="BEST", equals=(case.expect,) if case.expect else None, shape=(1, 1)),
        ),
    )


def candidates_json(text: str) -> str:
    """``a cat|a dog`` as the JSON list that the model takes."""
    return json.dumps(
        [part.strip() for part in text.split("|") if part.strip()], ensure_ascii=False
    )


def _bytes(name: str, value: str) -> SavedTensor:
    return SavedTensor(name=name, dtype="BYTES", shape=(1, 1), values=(value,))
