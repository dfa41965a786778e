"""What a server would refuse about a model's configuration, said before it is asked.

The rules are those of Triton's `model_config_utils.cc` (core, r24.10) and of its backends, each seen
to fail on a real server. Pure functions over messages and file names; nothing is started.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from console.facts import Level, Verdict
from console.text import clean
from console.triton import messages

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

SOURCE = "Triton core r24.10, model_config_utils.cc"

NEWER_FIELDS = frozenset({"model_metrics", "max_inflight_requests"})
"""Fields of today's client that the protobuf of 2.51 (24.10) lacks: that server refuses the file."""

MODEL_FILES = {
    "python": "model.py",
    "onnxruntime": "model.onnx",
    "tensorrt": "model.plan",
    "pytorch": "model.pt",
    "openvino": "model.xml",
}
PLATFORM_BACKENDS = {
    "onnxruntime_onnx": "onnxruntime",
    "tensorrt_plan": "tensorrt",
    "pytorch_libtorch": "pytorch",
    "tensorflow_graphdef": "tensorflow",
    "tensorflow_savedmodel": "tensorflow",
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known about where the model will be served; None or empty means: not known, not judged."""

    directory: str = ""
    """Name of the model's folder in the repository."""
    files: frozenset[str] | None = None
    """Paths below that folder, with slashes: ``1/model.py``."""
    gpus: int | None = None
    backends: frozenset[str] | None = None
    """Triton backends that the server has (``ensemble`` is built in)."""
    server_version: tuple[int, int] | None = None
    models: Mapping[str, Any] = field(default_factory=dict)
    """Configurations of the repository's other models, for ensembles."""


ANYWHERE = Surroundings()


def lint(config: ModelConfig, around: Surroundings = ANYWHERE) -> tuple[Verdict, ...]:
    """Every rule that this configuration breaks; empty when the server will take it.

    `fail` is what a server refuses (or hangs on), `warn` what it accepts in silence and ignores.
    """
    found: list[Verdict] = []
    for rule in (_name, _backend, _tensors, _batching, _instances, _versions, _ensemble, _skew):
        found.extend(rule(config, around))
    return tuple(found)


def _verdict(
    rule: str, summary: str, fix: str = "", *, level: Level = Level.FAIL, source: str = SOURCE
) -> Verdict:
    return Verdict(f"config-{rule}", level, clean(summary), source=source, fix=clean(fix))


# ---------------------------------------------------------------------------- one model


def _name(config: ModelConfig, around: Surroundings) -> Iterator[Verdict]:
    if around.directory and config.name and config.name != around.directory:
        yield _verdict(
            "name",
            f"the model is called {config.name}, its folder {around.directory}",
            f'name: "{around.directory}"',
        )


def _is_ensemble(config: ModelConfig) -> bool:
    return bool(config.platform == "ensemble" or config.HasField("ensemble_scheduling"))


def _backend(config: ModelConfig, around: Surroundings) -> Iterator[Verdict]:
    if _is_ensemble(config):
        return
    implied = PLATFORM_BACKENDS.get(config.platform)
    backend = config.backend or implied or ""
    if config.backend and implied and config.backend != implied:
        yield _verdict(
            "backend",
            f"platform {config.platform} does not belong to backend {config.backend}",
            "remove platform",
            level=Level.WARN,
        )
    files = around.files or frozenset()
    if not backend and not any(f.endswith("/model.py") for f in files):
        yield _verdict("backend", "neither backend nor platform is given", 'backend: "python"')
    if around.backends is not None and backend and backend not in around.backends:
        have = ", ".join(sorted(around.backends)) or "none"
        yield _verdict(
            "backend",
            f"this server has no Triton backend {backend} (it has: {have})",
            "serve the model through the Python backend, or use a server that has it",
            source="the server's backend directory",
        )


def _tensors(config: ModelConfig, around: Surroundings) -> Iterator[Verdict]:
    for kind, tensors in (("input", config.input), ("output", config.output)):
        seen: set[str] = set()
        for number, tensor in enumerate(tensors, 1):
            label = f"{kind} {tensor.name or number}"
            if not tensor.name:
                yield _verdict("name", f"{label} has no name")
            elif tensor.name in seen:
                yield _verdict("name", f"{label} is there twice", level=Level.WARN)
            seen.add(tensor.name)
            yield from _one_tensor(label, tensor)
    if not _is_ensemble(config) and not (config.input and config.output):
        yield _verdict(
            "tensors", "there is no input or no output", "declare both", level=Level.WARN
        )


def _one_tensor(label: str, tensor: Any) -> Iterator[Verdict]:
    if tensor.data_type == 0:
        yield _verdict("dtype", f"{label} has no data_type", "data_type: TYPE_FP32")
    if not tensor.dims:
        yield _verdict("dims", f"{label} has no dims", "dims: [ -1 ] for a dynamic vector")
    bad = [d for d in tensor.dims if d < 1 and d != -1]
    if bad:
        yield _verdict(
            "dims", f"{label}: dimension {bad[0]}", "use a number from 1, or -1 for dynamic"
        )
    if tensor.HasField("reshape") and tensor.dims and not bad:
        yield from _reshape(label, list(tensor.dims), list(tensor.reshape.shape))


def _reshape(label: str, dims: list[int], shape: list[int]) -> Iterator[Verdict]:
    if any(d < 1 and d != -1 for d in shape):
        yield _verdict("reshape", f"{label}: reshape holds a dimension below 1")
        return
    # Between dynamic dimensions the elements must agree piece by piece.
    pieces = [_pieces(dims), _pieces(shape)]
    if pieces[0] != pieces[1]:
        yield _verdict(
            "reshape",
            f"{label}: dims {dims} and reshape {shape} do not hold the same number of elements",
        )


def _pieces(dims: list[int]) -> list[int]:
    pieces, current = [], 1
    for d in dims:
        if d == -1:
            pieces.append(current)
            current = 1
        else:
            current *= d
    return [*pieces, current]


def _batching(config: ModelConfig, around: Surroundings) -> Iterator[Verdict]:
    largest = config.max_batch_size
    if largest < 0:
        yield _verdict("batch", f"max_batch_size is {largest}", "0 means: no batching")
    if not config.HasField("dynamic_batching"):
        return
    preferred = list(config.dynamic_batching.preferred_batch_size)
    if largest <= 0:
        yield _verdict(
            "batch",
            "dynamic batching without max_batch_size has no effect",
            "set max_batch_size, or remove dynamic_batching",
            level=Level.WARN,
        )
        return
    wrong = [size for size in preferred if not 1 <= size <= largest]
    if wrong:
        yield _verdict(
            "batch",
            f"preferred batch size {wrong[0]} is not within 1 and {largest}",
            "max_batch_size must be at least the largest preferred size",
        )


def _instances(config: ModelConfig, around: Surroundings) -> Iterator[Verdict]:
    kinds = messages.model_config().ModelInstanceGroup
    if _is_ensemble(config) and config.instance_group:
        yield _verdict(
            "instances", "an ensemble has no instances of its own", "remove instance_group"
        )
    for group in config.instance_group:
        if group.count < 0:
            yield _verdict("instances", f"instance count {group.count}", "count: 1")
        if group.kind == kinds.KIND_CPU and group.gpus:
            yield _verdict("instances", "KIND_CPU with gpus", "remove gpus, or use KIND_GPU")
        if around.gpus is None or not (group.kind == kinds.KIND_GPU or group.gpus):
            continue
        absent = [gpu for gpu in group.gpus if not 0 <= gpu < around.gpus]
        if around.gpus == 0:
            yield _verdict(
                "gpu", "KIND_GPU, but this host has no GPU", "kind: KIND_CPU", source="this host"
            )
        elif absent:
            yield _verdict(
                "gpu",
                f"GPU {absent[0]} is asked for, this host has {around.gpus}",
                f"gpus from 0 to {around.gpus - 1}",
                source="this host",
            )


def _versions(config: ModelConfig, around: Surroundings) -> Iterator[Verdict]:
    if around.files is None or _is_ensemble(config):
        return
    tops = {f.split("/", 1)[0] for f in around.files if "/" in f}
    numbers = sorted({int(t) for t in tops if t.isascii() and t.isdigit() and int(t) > 0})
    odd = sorted(t for t in tops if t[:1] in "vV" and t[1:].isdigit())
    if not numbers:
        yield _verdict(
            "version",
            "there is no version folder" + (f" ({odd[0]} is not a number)" if odd else ""),
            "put the model into a folder called 1",
        )
        return
    chosen = list(config.version_policy.specific.versions) or numbers[-1:]
    missing = [v for v in chosen if v not in numbers]
    if missing:
        yield _verdict("version", f"version {missing[0]} is asked for, there is {numbers}")
    backend = config.backend or PLATFORM_BACKENDS.get(config.platform, "")
    file = config.default_model_filename or MODEL_FILES.get(backend, "")
    for version in chosen:
        path = f"{version}/{file}"
        if (
            file
            and version in numbers
            and not any(f == path or f.startswith(path + "/") for f in around.files)
        ):
            hang = "; the server waits for it for ever" if backend == "python" else ""
            yield _verdict(
                "file", f"{path} is missing{hang}", f"write {path}", source="seen on Triton 2.51"
            )


def _skew(config: ModelConfig, around: Surroundings) -> Iterator[Verdict]:
    if around.server_version is None or around.server_version > (2, 51):
        return
    here = ".".join(map(str, around.server_version))
    for name in sorted(NEWER_FIELDS & set(_fields(config))):
        yield _verdict(
            "skew",
            f"the server ({here}) does not know the field {name}",
            f"remove {name}, or use a newer server",
            source="model_config.proto of the client and of r24.10",
        )


def _fields(message: Any) -> Iterator[str]:
    """Names of all fields that are set, at any depth."""
    for descriptor, value in message.ListFields():
        yield descriptor.name
        if descriptor.message_type is None or descriptor.message_type.GetOptions().map_entry:
            continue
        for part in value if hasattr(value, "__len__") else (value,):
            yield from _fields(part)


# ---------------------------------------------------------------------------- ensembles


def _ensemble(config: ModelConfig, around: Surroundings) -> Iterator[Verdict]:
    if not _is_ensemble(config):
        return
    if config.backend:
        yield _verdict("ensemble", "an ensemble has no backend", "remove backend")
    if config.platform != "ensemble":
        yield _verdict(
            "ensemble", "ensemble_scheduling without the ensemble platform", 'platform: "ensemble"'
        )
    steps = config.ensemble_scheduling.step
    if not steps:
        yield _verdict(
            "ensemble", "the ensemble has no steps", "ensemble_scheduling { step [ … ] }"
        )
        return
    for number, step in enumerate(steps, 1):
        label = f"step {number} ({step.model_name or 'no model'})"
        for part in ("model_name", "input_map", "output_map"):
            if not getattr(step, part):
                yield _verdict("ensemble", f"{label} has no {part}")
        if around.models and step.model_name:
            yield from _step(config, label, step, around.models)
    yield from _wiring(config, steps)


def _wiring(config: ModelConfig, steps: Iterable[Any]) -> Iterator[Verdict]:
    """Each ensemble tensor is written once, and none is left unused."""
    written = [t.name for t in config.input]
    read: set[str] = set()
    for step in steps:
        written.extend(step.output_map.values())
        read.update(step.input_map.values())
    outputs = {t.name for t in config.output}
    for name in sorted({n for n in written if written.count(n) > 1}):
        yield _verdict("ensemble", f"ensemble tensor {name} is written more than once")
    for name in sorted(read - set(written)):
        yield _verdict("ensemble", f"ensemble tensor {name} is read but nothing writes it")
    for name in sorted(outputs - set(written)):
        yield _verdict("ensemble", f"ensemble output {name} is written by no step")
    for name in sorted({t.name for t in config.input} - read):
        yield _verdict("ensemble", f"ensemble input {name} is used by no step")
    for name in sorted(set(written) - read - outputs - {t.name for t in config.input}):
        yield _verdict("ensemble", f"ensemble tensor {name} is used by nothing", level=Level.WARN)


def _step(
    config: ModelConfig, label: str, step: Any, models: Mapping[str, Any]
) -> Iterator[Verdict]:
    model = models.get(step.model_name)
    if model is None:
        yield _verdict("ensemble", f"{label}: there is no such model in the repository")
        return
    if config.max_batch_size > model.max_batch_size:
        yield _verdict(
            "ensemble",
            f"the ensemble batches up to {config.max_batch_size}, {step.model_name} only up to "
            f"{model.max_batch_size}",
            f"max_batch_size: {model.max_batch_size}",
        )
    own = {t.name: t for t in (*config.input, *config.output)}
    for kind, mapping, tensors in (
        ("input", step.input_map, model.input),
        ("output", step.output_map, model.output),
    ):
        theirs = {t.name: t for t in tensors}
        for name, ensemble_tensor in sorted(mapping.items()):
            if name not in theirs:
                yield _verdict("ensemble", f"{label} has no {kind} {name}")
            elif ensemble_tensor in own:
                yield from _agree(label, own[ensemble_tensor], theirs[name], config, model)


def _agree(label: str, ours: Any, theirs: Any, config: Any, model: Any) -> Iterator[Verdict]:
    types = messages.model_config().DataType
    if ours.data_type != theirs.data_type:
        yield _verdict(
            "ensemble",
            f"{label}: {ours.name} is {types.Name(ours.data_type)}, "
            f"{theirs.name} is {types.Name(theirs.data_type)}",
        )
    shapes = [
        [*([-1] if m.max_batch_size > 0 else []), *t.dims]
        for m, t in ((config, ours), (model, theirs))
    ]
    same = len(shapes[0]) == len(shapes[1]) and all(
        a == b or -1 in (a, b) for a, b in zip(*shapes, strict=True)
    )
    if not same:
        yield _verdict(
            "ensemble", f"{label}: {ours.name} has shape {shapes[0]}, {theirs.name} {shapes[1]}"
        )
