"""Saved requests for a plain ONNX graph: made up from its signature, or from verify cases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from console.checkpoints.model import GraphFacts
from console.facts import TensorSpec, UsageError
from console.planning.deployment import VerifyCase
from console.planning.plan import Expected, Inference, SavedTensor
from console.planning.variables import literal
from console.text import clean

OPEN_SIZE = 16
"""What a made-up request puts for a dimension that the graph leaves open."""
OPEN_IMAGE_SIZE = 224
"""… and for height and width of something that looks like an image."""


FLOATS = frozenset({"FP16", "FP32", "FP64"})


def graph_shape(spec: TensorSpec) -> tuple[int, ...]:
    """A concrete shape for one input: a batch of one, usual sizes for what is open."""
    size = OPEN_IMAGE_SIZE if len(spec.shape) == 4 else OPEN_SIZE
    first = tuple(1 if n < 0 else n for n in spec.shape[:1])
    return (*first, *(size if n < 0 else n for n in spec.shape[1:]))


def request_shape(spec: TensorSpec, batching: bool) -> tuple[int, ...]:
    """The same shape as Triton wants it: a rank-0 tensor has one dimension of one, and so has a
    tensor that is nothing but the batch."""
    shape = graph_shape(spec)
    return shape if len(shape) > (1 if batching else 0) else (*shape, 1)


def sample(graph: GraphFacts, asked: GraphFacts, batching: bool) -> list[dict[str, Any]]:
    """What the worker makes up, as data: name, type, request shape and graph shape of each input of
    `graph`, and the type that it is sent as where that is another. `asked` is what requests look like."""
    return [
        {
            "name": spec.name,
            "dtype": spec.dtype,
            "sent": sent.dtype,
            "shape": list(request_shape(sent, batching)),
            "graph_shape": list(graph_shape(sent)),
            "batched": spec.shape[:1] == (-1,),
        }
        for spec, sent in zip(graph.inputs, asked.inputs, strict=True)
    ]


def reference(index: int, folder: str) -> str:
    """Where the worker puts what ONNX Runtime answered in output `index`."""
    return f"{folder}/answer-{index}.npy"


def default_case(
    model: str, graph: GraphFacts, batching: bool, folder: str, tolerance: float
) -> Inference:
    """The made-up request. Floating-point outputs must be what ONNX Runtime made of the graph, within
    `tolerance` of their 2-norm; with 0 any finite answer counts."""
    inputs = []
    for index, spec in enumerate(graph.inputs):
        shape = request_shape(spec, batching)
        if spec.dtype == "BYTES":
            count = 1
            for size in shape:
                count *= size
            inputs.append(
                SavedTensor(name=spec.name, dtype="BYTES", shape=shape, values=("sample",) * count)
            )
        else:
            file = f"{folder}/{index}.npy"
            inputs.append(SavedTensor(name=spec.name, dtype=spec.dtype, shape=shape, file=file))
    return Inference(
        title="a made-up request is answered",
        model=model,
        inputs=tuple(inputs),
        expect=tuple(
            Expected(output=spec.name, near_file=reference(index, folder), tolerance=tolerance)
            if tolerance and spec.dtype in FLOATS
            else Expected(output=spec.name)
            for index, spec in enumerate(graph.outputs)
        ),
    )


def verify_case(
    case: VerifyCase, number: int, model: str, graph: GraphFacts, batching: bool
) -> Inference:
    """One verify case: ``input`` is an .npy file for the first input, ``fields`` name files (or
    JSON values) for inputs by name, ``expect`` is a JSON list of the first output's flat values.

    Raises `UsageError` naming the case and what is wrong with it.
    """
    where = f"verify[{number}]"
    given = dict(case.fields)
    if case.input:
        given.setdefault(graph.inputs[0].name, case.input)
    known = {spec.name: spec for spec in graph.inputs}
    for name in given:
        if name not in known:
            raise UsageError(
                f"{where}: the graph has no input {clean(name)}", why=f"it has {', '.join(known)}"
            )
    missing = [name for name in known if name not in given]
    if missing or case.text:
        raise UsageError(
            f"{where}: an ONNX graph is verified with tensors",
            why=f"no value for {', '.join(missing)}" if missing else "text is given",
            fix='input = "tensor.npy", or fields = { name = "tensor.npy" }',
        )
    inputs = tuple(_tensor(known[name], value, where) for name, value in given.items())
    near = _numbers(case.expect, where) if case.expect else None
    expect = [Expected(output=spec.name) for spec in graph.outputs]
    if near is not None:
        expect[0] = Expected(output=graph.outputs[0].name, near=near, tolerance=1e-3)
    title = Path(case.input).name if case.input else f"request {number + 1}"
    return Inference(title=clean(title), model=model, inputs=inputs, expect=tuple(expect))


def _tensor(spec: TensorSpec, value: str, where: str) -> SavedTensor:
    if value.lower().endswith(".npy"):
        shape = npy_shape(Path(value), where)
        return SavedTensor(name=spec.name, dtype=spec.dtype, shape=shape, file=literal(value))
    try:
        parsed = json.loads(value)
    except ValueError as error:
        raise UsageError(
            f"{where}: {clean(spec.name)} is neither an .npy file nor JSON",
            why=clean(str(error)),
        ) from error
    shape, flat = _flatten(parsed, where)
    return SavedTensor(name=spec.name, dtype=spec.dtype, shape=shape, values=flat)


def _flatten(value: Any, where: str) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    if not isinstance(value, list):
        return (), (value,)
    parts = [_flatten(item, where) for item in value]
    if len({shape for shape, _ in parts}) > 1:
        raise UsageError(f"{where}: the rows of a nested list differ in length")
    inner: tuple[int, ...] = parts[0][0] if parts else ()
    flat: Sequence[Any] = [item for _, items in parts for item in items]
    return (len(parts), *inner), tuple(flat)


def npy_shape(path: Path, where: str) -> tuple[int, ...]:
    """The shape in an .npy file's header; `UsageError` when there is none to read."""
    import numpy as np

    try:
        # Mapped, not read: only the header is looked at. Pickled arrays are refused.
        return tuple(int(n) for n in np.load(path, mmap_mode="r", allow_pickle=False).shape)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(
            f"{where}: cannot read {clean(str(path))} as an .npy file", why=clean(str(error))
        ) from error


def _numbers(text: str, where: str) -> tuple[float, ...]:
    try:
        return tuple(float(n) for n in json.loads(text))
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{where}: expect must be a JSON list of numbers",
            why=f"the first output's values, flat: {clean(text)[:60]}",
        ) from error
