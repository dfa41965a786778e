"""Where a TensorRT deployment's parts are: versions, images, GPUs, folders, what is served."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backends.onnx_options import OnnxOptions
from backends.onnx_work import SAME_RUNTIME, Work
from backends.sources import VERSION, WORKERS, version_folder
from backends.trt import shapes
from backends.trt.argv import CACHES, Build, rewrites
from backends.trt.catalog import catalog, default_image, program_in, tensorrt_of
from backends.trt.options import TensorrtOptions
from console.checkpoints.model import Checkpoint, GraphFacts
from console.facts import Gpu, Host, TensorSpec
from console.planning.deployment import Deployment, ServerSection
from console.planning.plan import join
from console.planning.variables import literal

FOLDER = join(CACHES, VERSION)
GRAPH = join(FOLDER, "graph")
REWRITTEN = join(FOLDER, "rewritten")
PRECISION_REPORT = join(FOLDER, "precision.json")
PLAN_REPORT = join(FOLDER, "plan.json")
HEADER_WORKER = join(WORKERS, "tensorrt_header.py")
PRECISION_WORKER = join(WORKERS, "modelopt_precision.py")


COMPARED = {"fp32": 0.02, "fp16": 0.05, "bf16": 0.2, "int8": 0.0}
"""How far an answer may be from the original graph's, as a part of its 2-norm. A made-up request is out of
the range that INT8 is calibrated for, so there it is not compared; the precision step compares."""


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of GPU that a plan is built for, with its place among those that the build sees."""

    device: int
    capability: str
    """``9.0``; empty where it is not known."""
    file: str


def seat(server: ServerSection, options: TensorrtOptions) -> ServerSection:
    """A server that loads plans: an image that has TensorRT where another server, which has none, or
    no image is named; in a container with its GPUs."""
    if options.form != "tensorrt" or server.launcher not in ("embedded", "container"):
        return server
    changed = {
        "launcher": "container",
        "image": server.image or default_image(),
        "gpus": server.gpus or "all",
    }
    return server.model_copy(update=changed)


def seated(deployment: Deployment, options: TensorrtOptions) -> Deployment:
    return deployment.model_copy(update={"server": seat(deployment.server, options)})


def graph_options(options: TensorrtOptions) -> OnnxOptions:
    """The same serving options for the graph's own route."""
    shared = {name: getattr(options, name) for name in _SHARED}
    return OnnxOptions(**shared)


_SHARED = (
    "max_batch_size", "dynamic_batching", "max_queue_delay_us", "preferred_batch_sizes",
    "instance_count",
)  # fmt: skip


def server_version(deployment: Deployment) -> str:
    """TensorRT of the server, by its image's name; empty where nothing tells."""
    server = deployment.server
    return tensorrt_of(server.image) if server.launcher == "container" else ""


def build_version(deployment: Deployment, options: TensorrtOptions) -> str:
    """TensorRT of the builder: what the operator says, else the image's; empty when neither tells."""
    if options.tensorrt:
        return options.tensorrt
    if options.build_image:
        return tensorrt_of(options.build_image)
    return server_version(deployment)


def image_of(deployment: Deployment, options: TensorrtOptions) -> str:
    """The image that the plan is built in; empty: on this machine."""
    if options.build_image:
        return options.build_image
    return deployment.server.image if deployment.server.launcher == "container" else ""


def visible(deployment: Deployment, host: Host) -> tuple[Gpu, ...]:
    """The GPUs that the server sees, in its order."""
    wanted = deployment.server.gpus
    if wanted in ("", "all"):
        return host.gpus
    by_name = {name: gpu for gpu in host.gpus for name in (str(gpu.index), gpu.uuid)}
    return tuple(by_name[name] for name in wanted.split(",") if name in by_name)


def targets(deployment: Deployment, options: TensorrtOptions, host: Host) -> tuple[Target, ...]:
    """One for each kind of GPU that the server sees; one for the first where nothing is known."""
    kinds: dict[str, int] = {}
    seen = visible(deployment, host)
    if image_of(deployment, options):
        # A container counts its GPUs as NVML does, in whatever order they were asked for.
        seen = tuple(sorted(seen, key=lambda gpu: gpu.index))
    for place, gpu in enumerate(seen):
        if gpu.compute_capability:
            kinds.setdefault(".".join(map(str, gpu.compute_capability)), place)
    if not kinds or not options.capability_names:
        return (Target(0, "", "model.plan"),)
    return tuple(Target(place, kind, f"model_cc{kind}.plan") for kind, place in kinds.items())


def builds(
    deployment: Deployment, options: TensorrtOptions, graph: GraphFacts, name: str, host: Host
) -> tuple[Build, ...]:
    """What is built, one for each target."""
    image = image_of(deployment, options)
    program = options.program or (program_in(image, options.builder) if image else options.builder)
    folder = REWRITTEN if rewrites(options, build_version(deployment, options)) else GRAPH
    return tuple(
        Build(
            program=program,
            graph=join(folder, "model.onnx"),
            plan=join(version_folder(name), target.file),
            profile=shapes.profile(graph, options),
            device=target.device,
            calibration_cache=literal(options.calibration_cache),
        )
        for target in targets(deployment, options, host)
    )


def served(graph: GraphFacts, version: str) -> GraphFacts:
    """The graph with the types that TensorRT gives its inputs and outputs."""
    becomes = catalog().types_of(version).becomes

    def typed(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(replace(spec, dtype=becomes.get(spec.dtype, spec.dtype)) for spec in specs)

    return replace(graph, inputs=typed(graph.inputs), outputs=typed(graph.outputs))


def sampled(graph: GraphFacts, options: TensorrtOptions) -> GraphFacts:
    """The graph with the sizes of a request that the profile allows; an open batch stays open where
    one of 1 is allowed."""
    sizes = shapes.sample_shapes(graph, options)

    def sized(spec: TensorSpec) -> TensorSpec:
        shape = sizes[spec.name]
        if spec.shape[:1] == (-1,) and shape[0] == 1:
            shape = (-1, *shape[1:])
        return replace(spec, shape=shape)

    return replace(graph, inputs=tuple(map(sized, graph.inputs)))


def work_of(
    deployment: Deployment, options: TensorrtOptions, checkpoint: Checkpoint, form: str
) -> Work:
    """What the graph's own steps need; `form` is the serving form."""
    assert checkpoint.graph is not None, "accepted checkpoints have a graph"
    version = build_version(deployment, options)
    staged = form == "tensorrt" or rewrites(options, version)
    request = sampled(checkpoint.graph, options)
    if form == "tensorrt":
        request = served(request, version)
    return Work(
        deployment,
        graph_options(options),
        checkpoint,
        form,
        staged=GRAPH if staged else "",
        sampled=request,
        tolerance=COMPARED[options.precision] if staged else SAME_RUNTIME,
    )
