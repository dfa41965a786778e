"""A model's `config.pbtxt`: built as Triton's own protobuf message, printed by `text_format`.

There are no templates with holes: what can be built here parses in the server. `console.triton.lint`
judges any configuration, ours or an operator's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from console.checkpoints.model import GraphFacts
from console.facts import TensorSpec, UsageError
from console.text import clean
from console.triton import messages
from console.triton.lint import lint as lint

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

InstanceKind = Literal["auto", "cpu", "gpu", "model"]
"""``model``: the model takes its devices itself (Triton's vLLM backend)."""

ONNX_PLATFORM = "onnxruntime_onnx"


@dataclass(frozen=True, slots=True)
class DynamicBatching:
    """How long the server waits to fill a batch (`delay`, microseconds) and which sizes it prefers."""

    delay: int = 0
    preferred: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Instances:
    """How many copies of the model run, and where. `gpus` are device indices, empty means all."""

    count: int = 1
    kind: InstanceKind = "cpu"
    gpus: tuple[int, ...] = ()


ONE_ON_CPU = Instances()


def model_config(
    name: str,
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    *,
    backend: str = "python",
    max_batch_size: int = 0,
    dynamic_batching: DynamicBatching | None = None,
    instances: Instances = ONE_ON_CPU,
    parameters: Mapping[str, str] | None = None,
    decoupled: bool = False,
    versions: tuple[int, ...] = (),
    default_model_filename: str = "",
) -> ModelConfig:
    """Build the configuration of one model.

    Shapes of `inputs` and `outputs` include the batch dimension, as a graph tells them: with
    `max_batch_size` above 0 their first dimension must be -1 and is left to the server. `backend`
    is the Triton backend; ``onnxruntime`` also gets its platform name. `versions` are the versions
    to serve (empty: the newest). Raises `UsageError` for a signature that cannot be batched or a
    type that Triton has no name for.
    """
    pb = messages.model_config()

    config = pb.ModelConfig(name=name, backend=backend, max_batch_size=max_batch_size)
    if backend == "onnxruntime":
        config.platform = ONNX_PLATFORM
    for spec in inputs:
        config.input.append(_tensor(pb.ModelInput, spec, max_batch_size))
    for spec in outputs:
        config.output.append(_tensor(pb.ModelOutput, spec, max_batch_size))
    if dynamic_batching is not None and max_batch_size > 0:
        config.dynamic_batching.max_queue_delay_microseconds = dynamic_batching.delay
        config.dynamic_batching.preferred_batch_size.extend(dynamic_batching.preferred)
    group = config.instance_group.add(count=instances.count)
    group.kind = pb.ModelInstanceGroup.Kind.Value(f"KIND_{instances.kind.upper()}")
    group.gpus.extend(instances.gpus)
    for key, value in sorted((parameters or {}).items()):
        config.parameters[key].string_value = value
    if decoupled:
        config.model_transaction_policy.decoupled = True
    if versions:
        config.version_policy.specific.versions.extend(versions)
    if default_model_filename:
        config.default_model_filename = default_model_filename
    return config


def ensemble_config(
    name: str,
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    steps: Iterable[tuple[str, Mapping[str, str], Mapping[str, str]]],
    *,
    max_batch_size: int = 0,
    parameters: Mapping[str, str] | None = None,
) -> ModelConfig:
    """The configuration of models that run one after the other as one.

    A step is the model, its inputs to the ensemble's tensors, and its outputs to them. It takes the
    newest version of the model that is served. Raises `UsageError` as `model_config` does.
    """
    pb = messages.model_config()

    config = pb.ModelConfig(name=name, platform="ensemble", max_batch_size=max_batch_size)
    for spec in inputs:
        config.input.append(_tensor(pb.ModelInput, spec, max_batch_size))
    for spec in outputs:
        config.output.append(_tensor(pb.ModelOutput, spec, max_batch_size))
    for model, taken, given in steps:
        step = config.ensemble_scheduling.step.add(model_name=model, model_version=-1)
        step.input_map.update(taken)
        step.output_map.update(given)
    for key, value in sorted((parameters or {}).items()):
        config.parameters[key].string_value = value
    return config


def onnx_config(name: str, graph: GraphFacts, **options: Any) -> ModelConfig:
    """The configuration that Triton's onnxruntime backend takes for this graph.

    `options` are those of `model_config`. That backend compares names, types and dimensions with the
    graph literally: what is dynamic in the graph must be -1 here, what is fixed must be the number.
    """
    return model_config(name, graph.inputs, graph.outputs, backend="onnxruntime", **options)


def batchable(specs: Iterable[TensorSpec]) -> bool:
    """Whether every tensor starts with a dynamic dimension, so that the server may batch."""
    return all(spec.shape[:1] == (-1,) for spec in specs)


def _tensor(message: Any, spec: TensorSpec, max_batch_size: int) -> Any:
    """One input or output. Triton allows no empty dims: a tensor that is nothing but the batch is
    ``dims: [1]`` with an empty reshape, a scalar of an unbatched model plainly ``dims: [1]`` (there the
    server refuses an empty reshape)."""
    shape = spec.shape
    if max_batch_size > 0:
        if shape[:1] != (-1,):
            raise UsageError(
                f"{clean(spec.name)} cannot be batched: its first dimension is "
                f"{shape[0] if shape else 'absent'}, not dynamic",
                fix="set max_batch_size = 0",
            )
        shape = shape[1:]
    tensor = message(name=spec.name, data_type=data_type(spec.dtype), dims=shape or (1,))
    if not shape and max_batch_size > 0:
        tensor.reshape.SetInParent()
    if spec.optional and "optional" in message.DESCRIPTOR.fields_by_name:
        tensor.optional = True
    return tensor


def data_type(dtype: str) -> int:
    """The configuration's number for a wire type (``FP32`` → ``TYPE_FP32``, ``BYTES`` → ``TYPE_STRING``)."""
    pb = messages.model_config()

    try:
        return int(pb.DataType.Value("TYPE_STRING" if dtype == "BYTES" else f"TYPE_{dtype}"))
    except ValueError:
        raise UsageError(f"Triton has no tensor type {clean(dtype)}") from None


def to_text(config: ModelConfig) -> str:
    """The configuration as the text of a `config.pbtxt`."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(config))


def from_text(text: str, file: str = "config.pbtxt") -> ModelConfig:
    """Parse a `config.pbtxt`; `UsageError` names file, line and column.

    The parser is the client's: its words differ from the server's, its verdict only where the two
    know different fields (see `lint`).
    """
    from google.protobuf import text_format

    pb = messages.model_config()

    config = pb.ModelConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        where = f"{clean(file)}:{error.GetLine()}:{error.GetColumn()}"
        message = str(error).split(" : ", 1)[-1]
        unfilled = "${" in text and "${" in (text.splitlines() or [""])[(error.GetLine() or 1) - 1]
        raise UsageError(
            f"{where}: not a model configuration",
            why=clean(message),
            fix="a ${placeholder} was never filled in" if unfilled else "correct that line",
        ) from error
    return config
