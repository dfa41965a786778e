"""Whether an answer is the right one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from console.facts import InferenceAnswer, TensorAnswer
from console.planning.plan import Expected
from console.text import clean
from console.triton.inference import fits, load_npy


def judge(answer: InferenceAnswer, expects: Iterable[Expected]) -> str | None:
    """None when every expectation holds, else what differs, in one sentence.

    Without any expectation an answer is right when it has outputs and all their numbers are finite:
    a served model may answer anything, but not nothing.
    """
    wanted = tuple(expects)
    if not answer.outputs:
        return "the answer has no outputs"
    given = {output.name: output for output in answer.outputs}
    for expected in wanted or tuple(Expected(output=name) for name in given):
        output = given.get(expected.output)
        if output is None:
            return f"there is no output {expected.output}, only {', '.join(given)}"
        difference = _difference(output, expected)
        if difference:
            return f"{expected.output}: {difference}"
    return None


def _difference(output: TensorAnswer, expected: Expected) -> str | None:
    values = output.values
    if expected.shape is not None and not fits(output.shape, expected.shape):
        return f"shape {list(output.shape)}, expected {list(expected.shape)}"
    if expected.finite:
        bad = [v for v in values if isinstance(v, float) and not math.isfinite(v)]
        if bad:
            return f"{len(bad)} of {len(values)} values are not finite ({bad[0]})"
    if expected.equals is not None and values != expected.equals:
        return f"{_shown(values)}, expected {_shown(expected.equals)}"
    texts = [v.strip() for v in values if isinstance(v, str)]
    if expected.never and any(text.startswith(expected.never) for text in texts):
        return f"an error instead of an answer: {_shown(texts)}"
    if expected.text and texts != [expected.text.strip()]:
        return f"{_shown(texts)}, expected {_shown((expected.text,))}"
    if expected.near is not None:
        return _far(values, expected.near, expected.tolerance)
    if expected.near_file is not None:
        return _apart(output, expected.near_file, expected.tolerance)
    return None


def _far(values: tuple[Any, ...], near: tuple[float, ...], tolerance: float) -> str | None:
    if len(values) != len(near):
        return f"{len(values)} values, expected {len(near)}"
    try:
        # Negated so that a NaN, which compares false with everything, counts as far.
        far = [i for i, v in enumerate(values) if not abs(float(v) - near[i]) <= tolerance]
    except (TypeError, ValueError):
        return f"{_shown(values)} are not numbers"
    if not far:
        return None
    at = far[0]
    return (
        f"{len(far)} of {len(near)} values are further than {tolerance:g} away "
        f"(value {at} is {float(values[at]):g}, expected {near[at]:g})"
    )


def _apart(output: TensorAnswer, file: str, tolerance: float) -> str | None:
    """Whether the values are those of the file, as far as the 2-norm of all tells."""
    import numpy as np

    wanted = load_npy(file, output.name).astype(np.float64).ravel()
    if not wanted.size:
        return None
    if wanted.size != len(output.values):
        return f"{len(output.values)} values, expected {wanted.size}"
    gap = float(np.linalg.norm(np.asarray(output.values, np.float64) - wanted))
    norm = float(np.linalg.norm(wanted))
    share = gap / norm if norm else gap
    if share <= tolerance:
        return None
    return f"it differs from the reference by {share:.2g} of its norm, {tolerance:g} is allowed"


def _shown(values: Iterable[Any]) -> str:
    items = [repr(v) if isinstance(v, str) else str(v) for v in values]
    text = ", ".join(items[:4]) + (f", … ({len(items)} values)" if len(items) > 4 else "")
    return clean(text, cap=300)
