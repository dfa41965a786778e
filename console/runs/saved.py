"""Saved inference requests of a plan: made into real ones, and their answers into words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from console.facts import InferenceAnswer, InferenceRequest, TensorAnswer, TensorValue
from console.planning.plan import Expected, Inference, Probe, TextAnswered
from console.runs.context import Context
from console.text import clean

_SHOWN_VALUES = 6
_SHOWN_TEXT = 300


def request(context: Context, probe: Inference) -> InferenceRequest:
    """The request with its template paths filled in, to where the model is while it is verified."""
    model = context.run.staged.get(probe.model, probe.model)
    return filled(probe, context.path, model)


def filled(probe: Inference, path: Callable[[str], Path], model: str) -> InferenceRequest:
    """The request to `model`; `path` fills in a template path."""
    tensors = tuple(
        TensorValue(
            name=tensor.name,
            dtype=tensor.dtype,
            shape=tensor.shape,
            values=tensor.values,
            file=path(tensor.file) if tensor.file is not None else None,
        )
        for tensor in probe.inputs
    )
    return InferenceRequest(model=model, inputs=tensors)


def requests(
    probes: Iterable[Probe], path: Callable[[str], Path]
) -> tuple[Inference | TextAnswered, ...]:
    """The requests among a step's probes with their files' paths filled in, to be sent again later."""
    found: list[Inference | TextAnswered] = []
    for probe in probes:
        if isinstance(probe, Inference):
            inputs = tuple(
                t.model_copy(update={"file": str(path(t.file))}) if t.file else t
                for t in probe.inputs
            )
            expect = expected(probe, path)
            found.append(probe.model_copy(update={"inputs": inputs, "expect": expect}))
        elif isinstance(probe, TextAnswered):
            found.append(probe)
    return tuple(found)


def expected(probe: Inference, path: Callable[[str], Path]) -> tuple[Expected, ...]:
    """What its answer must be, with the template paths filled in."""
    return tuple(
        e.model_copy(update={"near_file": str(path(e.near_file))}) if e.near_file else e
        for e in probe.expect
    )


def words(answer: InferenceAnswer, probe: Inference) -> str:
    """The answer for a person: its text where it has one, otherwise names, shapes and first values.

    Outputs that the probe judges come first: they are what the request was made for.
    """
    judged = [expected.output for expected in probe.expect]
    outputs = sorted(answer.outputs, key=lambda out: (out.name not in judged, out.dtype != "BYTES"))
    texts = [str(v) for out in outputs if out.dtype == "BYTES" for v in out.values[:1]]
    if texts:
        return clean(texts[0])[:_SHOWN_TEXT]
    return "; ".join(_tensor(output) for output in outputs[:3])


def _tensor(output: TensorAnswer) -> str:
    first = ", ".join(
        f"{v:.4g}" if isinstance(v, float) else clean(str(v)) for v in output.values[:_SHOWN_VALUES]
    )
    more = ", …" if len(output.values) > _SHOWN_VALUES else ""
    return f"{clean(output.name)} {list(output.shape)}: {first}{more}"
