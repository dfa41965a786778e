"""The prompt form of a model that no backend of ours built: one field an input.

Text inputs take text, sound-like inputs a WAV file, image-like inputs a picture; everything else, and
these too, take a tensor: JSON, a number, an ``.npy`` file, ``zeros`` or ``random``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.facts import (
    FieldKind,
    InferenceAnswer,
    InferenceRequest,
    ModelMetadata,
    PromptField,
    TensorAnswer,
    TensorSpec,
    TensorValue,
    UsageError,
)
from console.storage import is_file, named
from console.text import clean, human_seconds
from console.triton import media
from console.triton.inference import fits, load_npy, numpy_name

if TYPE_CHECKING:
    import numpy as np

SHOWN = 12
"""Values of an output tensor that `answer` shows."""

INLINE = 1024
"""Elements up to which a built tensor stands in the request as values; larger ones become files."""

GENERATED_CAP = 64 * 1024 * 1024
"""Elements that `zeros` and `random` make at most."""

_GENERATED = re.compile(r"^(zeros|random)\s*(?:\(\s*([\d\s,x]*)\s*\))?$")
_SOUNDS = (".wav", ".flac", ".ogg", ".mp3")
_SOUND = re.compile(r"(?:^|_)(?:wav|wave|audio|sound|speech|samples?|waveform|signal)(?:_|$)", re.I)


class TensorForm:
    """`PromptAdapter` from a model's metadata alone.

    `folder` is where tensors made from pictures, sounds and `random` are kept as ``.npy`` files (a
    copied request refers to them); without it, a private folder that lives as long as this process.
    """

    def __init__(self, metadata: ModelMetadata, folder: Path | None = None) -> None:
        self.metadata = metadata
        self.fields = tuple(_field(spec) for spec in metadata.inputs)
        self._folder = folder

    def request(self, values: Mapping[str, str]) -> InferenceRequest:
        """Build the request; raises `UsageError` naming the field that is wrong."""
        tensors = []
        for spec in self.metadata.inputs:
            typed = values.get(spec.name, "").strip()
            if not typed:
                if not spec.optional:
                    raise UsageError(f"{spec.name} is empty", fix=_help(spec, _kind(spec)))
                continue
            tensors.append(self._tensor(spec, typed))
        return InferenceRequest(self.metadata.name, tuple(tensors))

    def answer(self, answer: InferenceAnswer) -> str:
        """Each output on a line (texts as they are, numbers with their range), and the latency."""
        lines = [shown(output) for output in answer.outputs]
        return "\n".join([*lines, f"({human_seconds(answer.latency)})"])

    def _tensor(self, spec: TensorSpec, typed: str) -> TensorValue:
        if spec.dtype == "BYTES":
            return _bytes_tensor(spec, typed)
        array = numeric(spec, typed)
        if array.size <= INLINE and spec.dtype not in ("FP16", "BF16"):
            return TensorValue(
                spec.name, spec.dtype, array.shape, tuple(array.reshape(-1).tolist())
            )
        file = media.keep(array, self._folder)
        return TensorValue(spec.name, spec.dtype, array.shape, file=file)


# ---------------------------------------------------------------------------- fields


def _kind(spec: TensorSpec) -> FieldKind:
    if _SOUND.search(spec.name) and (spec.dtype == "BYTES" or _vector(spec)):
        return FieldKind.SOUND
    if spec.dtype == "BYTES":
        return FieldKind.TEXT
    if media.picture_layout(spec) is not None:
        return FieldKind.IMAGE
    return FieldKind.TENSOR


def _vector(spec: TensorSpec) -> bool:
    """A float or 16-bit tensor with one dimension to fill."""
    return spec.dtype in ("FP32", "INT16") and sum(d == -1 or d > 1 for d in spec.shape[-1:]) == 1


def _field(spec: TensorSpec) -> PromptField:
    kind = _kind(spec)
    title = f"{spec.name} · {spec.dtype} {list(spec.shape)}"
    return PromptField(spec.name, kind, title, _help(spec, kind), required=not spec.optional)


def _help(spec: TensorSpec, kind: FieldKind) -> str:
    tensor = "JSON such as [1, 2], a number, an .npy file, zeros or random"
    texts = {
        FieldKind.TEXT: 'text, ["several", "texts"] as JSON, or file:PATH',
        FieldKind.SOUND: "a WAV file" if spec.dtype == "BYTES" else f"a WAV file, or {tensor}",
        FieldKind.IMAGE: f"a picture (PNG, JPEG …; scaled to 0…1 for floats), or {tensor}",
    }
    return texts.get(kind, tensor)


# ---------------------------------------------------------------------------- BYTES


def _bytes_tensor(spec: TensorSpec, typed: str) -> TensorValue:
    path = _file(typed, spec.name, needed=_kind(spec) is FieldKind.SOUND)
    if path is not None:
        return TensorValue(spec.name, spec.dtype, _filled(spec, 1), file=path)
    texts = _json_texts(typed) or [typed]
    return TensorValue(spec.name, spec.dtype, _filled(spec, len(texts)), tuple(texts))


def _file(typed: str, name: str, *, needed: bool) -> Path | None:
    """The file that ``file:PATH`` (or a bare path, where only a file makes sense) names."""
    if not needed and not typed.startswith("file:"):
        return None
    path = named(typed.removeprefix("file:"))
    if not is_file(path):
        raise UsageError(f"{name}: no file {clean(str(path))}")
    return path


def _json_texts(typed: str) -> list[str] | None:
    """The texts of a JSON list of strings; None for anything else, which is one text."""
    if not typed.startswith("["):
        return None
    try:
        told = json.loads(typed)
    except (ValueError, RecursionError):
        return None
    return told if told and all(isinstance(t, str) for t in told) else None


def _filled(spec: TensorSpec, count: int) -> tuple[int, ...]:
    """The shape with `count` elements: the last dynamic dimension takes them, others become 1."""
    dims = [1 if d == -1 else d for d in spec.shape]
    dynamic = [i for i, d in enumerate(spec.shape) if d == -1]
    if dynamic:
        fixed = math.prod(dims)
        dims[dynamic[-1]] = count // fixed if fixed else 0
    if math.prod(dims) != count:
        raise UsageError(
            f"{spec.name} has shape {list(spec.shape)}: {count} text(s) do not fill it",
            fix='give the right number of texts as JSON: ["one", "two"]',
        )
    return tuple(dims)


# ---------------------------------------------------------------------------- numbers


def numeric(spec: TensorSpec, typed: str) -> np.ndarray[Any, Any]:
    """What was typed as an array of the input's type and a shape that it takes.

    JSON (nested lists give the shape), one number, ``.npy``, a picture, a WAV file, ``zeros`` or
    ``random`` (optionally with a shape: ``zeros(1, 3, 32, 32)``). BF16 is float32 here. `UsageError`
    says what does not fit.
    """
    if match := _GENERATED.match(typed):
        return _generated(spec, match[1], match[2])
    path = named(typed.removeprefix("file:"))
    if typed.startswith("file:") or (path.suffix and not _is_json(typed)):
        return _from_file(spec, path)
    try:
        told = json.loads(typed)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{spec.name}: neither JSON, a file, zeros nor random", why=clean(str(error))
        ) from error
    return shaped(spec, _typed(spec, told))


def _is_json(typed: str) -> bool:
    return typed[:1] in "[{-0123456789" and not is_file(named(typed))


def _from_file(spec: TensorSpec, path: Path) -> np.ndarray[Any, Any]:
    if not is_file(path):
        raise UsageError(f"{spec.name}: no file {clean(str(path))}")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return shaped(spec, _cast(spec, load_npy(path, spec.name)))
    if suffix in _SOUNDS:
        return shaped(spec, _cast(spec, media.sound(path, spec)))
    if media.picture_layout(spec) is None:
        raise UsageError(
            f"{spec.name} takes a tensor, not {clean(path.name)}", fix="give an .npy file"
        )
    return shaped(spec, media.picture(path, spec))


def _typed(spec: TensorSpec, told: Any) -> np.ndarray[Any, Any]:
    import numpy as np

    try:
        raw = np.array(told)
    except ValueError as error:
        raise UsageError(f"{spec.name}: the lists have different lengths") from error
    if raw.dtype.kind not in "biuf":
        raise UsageError(f"{spec.name} takes {spec.dtype} numbers", why=f"got {raw.dtype} values")
    return _cast(spec, raw)


def _cast(spec: TensorSpec, raw: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """To the input's type without changing a value; floats may be rounded."""
    import numpy as np

    wanted = np.dtype(numpy_name(spec.dtype))
    if raw.dtype.kind not in "biuf":
        raise UsageError(f"{spec.name} takes {spec.dtype}, the file holds {raw.dtype}")
    if wanted.kind == "f":
        return raw.astype(wanted)
    if raw.dtype.kind == "f" and not np.array_equal(raw, np.trunc(raw)):
        raise UsageError(f"{spec.name} takes {spec.dtype}: whole numbers only")
    limits = (0, 1) if wanted.kind == "b" else (np.iinfo(wanted).min, np.iinfo(wanted).max)
    if raw.size and (raw.min() < limits[0] or raw.max() > limits[1]):
        raise UsageError(f"{spec.name} takes {spec.dtype}: from {limits[0]} to {limits[1]}")
    return raw.astype(wanted)


def shaped(spec: TensorSpec, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """`array` in a shape that the input takes, `UsageError` when there is none.

    A missing leading dimension is added; a flat list fills the one free dimension.
    """
    if fits(array.shape, spec.shape):
        return array
    for leading in range(1, len(spec.shape) - array.ndim + 1):
        candidate = (1,) * leading + array.shape
        if fits(candidate, spec.shape):
            return array.reshape(candidate)
    dynamic = [i for i, d in enumerate(spec.shape) if d == -1]
    if array.ndim <= 1 and len(dynamic) <= 1 and 0 not in spec.shape:
        try:
            return array.reshape(spec.shape)
        except ValueError:
            pass  # told below, with both shapes
    raise UsageError(
        f"{spec.name} takes shape {list(spec.shape)}, got {list(array.shape)}",
        why="-1 stands for any number",
    )


def _generated(spec: TensorSpec, what: str, shape: str | None) -> np.ndarray[Any, Any]:
    import numpy as np

    given = [int(n) for n in re.findall(r"\d+", shape or "")]
    dims = tuple(given or (1 if d == -1 else d for d in spec.shape))
    if not fits(dims, spec.shape):
        raise UsageError(f"{spec.name} takes shape {list(spec.shape)}, not {list(dims)}")
    if math.prod(dims) > GENERATED_CAP:
        raise UsageError(f"{spec.name}: {list(dims)} is too large to make up")
    wanted = np.dtype(numpy_name(spec.dtype))
    if what == "zeros":
        return np.zeros(dims, wanted)
    source = np.random.default_rng(0)
    if wanted.kind == "f":
        return source.random(dims, np.float32).astype(wanted)
    return source.integers(0, 2 if wanted.kind == "b" else 100, dims).astype(wanted)


# ---------------------------------------------------------------------------- answers


def shown(output: TensorAnswer) -> str:
    """One output for a person: ``TEXT: one two``, or numbers with their smallest and largest."""
    values = output.values
    name = clean(output.name)
    if output.dtype == "BYTES" and len(values) == 1:
        return f"{name}: {clean(str(values[0]), multiline=True)}"
    head = ", ".join(_number(v) for v in values[:SHOWN])
    more = f", … ({len(values)} values)" if len(values) > SHOWN else ""
    line = f"{name} {output.dtype} {list(output.shape)}: {head}{more}"
    numbers = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    if len(numbers) > 1 and output.dtype not in ("BOOL", "BYTES"):
        top = max(range(len(values)), key=lambda i: _order(values[i]))
        line += f" · min {_number(min(numbers))} · max {_number(max(numbers))} at {top}"
    odd = sum(isinstance(v, float) and not math.isfinite(v) for v in values)
    return line + (f" · {odd} not finite" if odd else "")


def _order(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return clean(str(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
