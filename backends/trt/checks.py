"""What the TensorRT route finds before a build takes minutes of a GPU."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from backends import onnx_checks
from backends.onnx_requests import npy_shape
from backends.trt import shapes
from backends.trt.argv import flag_checks, rewrites
from backends.trt.catalog import at_least, catalog
from backends.trt.options import BuildOptions, TensorrtOptions
from backends.trt.work import (
    build_version,
    builds,
    graph_options,
    image_of,
    seated,
    server_version,
    targets,
    visible,
)
from backends.upstream import flags
from console.checkpoints.model import Checkpoint, GraphFacts
from console.facts import Host, Level, ToolFacts, UsageError, Verdict
from console.planning.deployment import Deployment
from console.storage import is_file
from console.text import clean
from console.triton.repository import batchable

CAPABILITIES = {"fp16": (5, 3), "bf16": (8, 0), "int8": (6, 1)}
"""The first compute capability whose kernels are worth it; TensorRT's support matrix, 8.6 to 10."""
OPSETS = {"fp16": 19, "bf16": 22, "int8": 19}
"""The opset that ModelOpt 0.47 raises a graph to."""


def checks(
    deployment: Deployment,
    options: TensorrtOptions,
    checkpoint: Checkpoint,
    host: Host,
    tools: ToolFacts,
) -> tuple[Verdict, ...]:
    """Every verdict of this route but the one on the format."""
    graph = checkpoint.graph
    assert graph is not None, "accepted checkpoints have a graph"
    deployment = seated(deployment, options)
    found = [*shapes.checks(graph, options), *_precision(deployment, options, host)]
    found += _calibration(deployment, options, graph)
    found += _unused(deployment, options)
    if options.form == "tensorrt":
        found += _versions(deployment, options)
        found += _server(deployment, tools)
        found += _builder(deployment, options)
        found += _gpus(deployment, options, host)
        found += _types(deployment, options, graph)
        found += _batch(options, graph)
        for build in builds(deployment, options, graph, deployment.served_name, host)[:1]:
            found += flag_checks(options, build_version(deployment, options), build)
        return tuple(found)
    if rewrites(options, ""):
        raised = replace(graph, opset=max(graph.opset, OPSETS[options.precision]))
        checkpoint = replace(checkpoint, graph=raised)
    found += onnx_checks.checks(deployment, graph_options(options), checkpoint, host, tools)
    return tuple(found)


def _versions(deployment: Deployment, options: TensorrtOptions) -> Iterator[Verdict]:
    """Whether the server's TensorRT loads what the builder's makes."""
    data = catalog()
    built, serving = build_version(deployment, options), server_version(deployment)
    figure = f"builds: TensorRT {clean(built) or 'unknown'}, serves: {serving or 'unknown'}"
    if not built:
        where = clean(image_of(deployment, options)) or "this machine"
        yield Verdict(
            "tensorrt-version",
            Level.UNKNOWN,
            f"which TensorRT builds is not known ({where}); flags are those of the newest",
            figure,
            f"table of images, {data.date}",
            "set tensorrt to its version: trtexec says it in its first line",
            "options.tensorrt",
        )
        return
    if not serving:
        yield Verdict(
            "tensorrt-version",
            Level.UNKNOWN,
            "which TensorRT serves is not known; the plan loads with the version that built it",
            figure,
            f"table of images, {data.date}",
            "build in the image that serves, or compare the versions yourself",
            "options.build_image",
        )
        return
    yield _compatible(options, built, serving, figure)


def _compatible(options: TensorrtOptions, built: str, serving: str, figure: str) -> Verdict:
    same = all(a == b for a, b in zip(built.split("."), serving.split("."), strict=False))
    major, first = built.split(".")[0] == serving.split(".")[0], at_least(serving, built)
    fits = same or (options.version_compatible and major and first)
    return Verdict(
        "tensorrt-version",
        Level.PASS if fits else Level.FAIL,
        "the server loads what is built" if fits else "the server would refuse the plan",
        figure,
        f"images: {catalog().images_source}",
        ""
        if fits
        else "build in the server's image"
        + (
            ", or set version_compatible for a newer server of the same major version"
            if major
            else ""
        ),
        "" if fits else "options.build_image",
    )


def _server(deployment: Deployment, tools: ToolFacts) -> Iterator[Verdict]:
    there = onnx_checks.triton_backends(deployment, tools)
    if "tensorrt" in there:
        yield Verdict("tensorrt-server", Level.PASS, "the server has the tensorrt backend")
        return
    yield Verdict(
        "tensorrt-server",
        Level.FAIL if there else Level.UNKNOWN,
        "the server has no tensorrt backend"
        if there
        else "whether the server has the tensorrt backend is not known",
        f"Triton backends: {', '.join(sorted(there)) or 'not probed'}",
        f"launcher {deployment.server.launcher}",
        'take a -py3 image of NVIDIA\'s, or set form = "onnxruntime"',
        "options.form",
    )


def _builder(deployment: Deployment, options: TensorrtOptions) -> Iterator[Verdict]:
    """Whether a builder that runs on this machine is there; an image's is found when it runs."""
    if image_of(deployment, options):
        return
    program = options.program or options.builder
    place = shutil.which(program)
    if place:
        yield Verdict("tensorrt-builder", Level.PASS, "the builder is there", clean(place))
        return
    yield Verdict(
        "tensorrt-builder",
        Level.FAIL,
        f"there is no program {clean(program)} on this machine",
        fix="name it as program, or an image to build in as build_image",
        option="options.program",
    )


def _gpus(deployment: Deployment, options: TensorrtOptions, host: Host) -> Iterator[Verdict]:
    seen = visible(deployment, host)
    if not seen:
        yield Verdict(
            "gpu",
            Level.FAIL,
            "a plan is built and served on a GPU, and there is none here",
            clean(host.gpu_note),
            "NVML",
            'set form = "onnxruntime" to serve the graph itself',
            "options.form",
        )
        return
    kinds = targets(deployment, options, host)
    names = ", ".join(target.capability or "unknown" for target in kinds)
    yield Verdict(
        "gpu", Level.PASS, f"{len(kinds)} plan(s), for compute capability {names}", source="NVML"
    )


def _precision(deployment: Deployment, options: TensorrtOptions, host: Host) -> Iterator[Verdict]:
    """Whether precision, version and GPU go together."""
    version, wanted = build_version(deployment, options), options.precision
    if options.form == "onnxruntime":
        if wanted == "bf16":
            yield _unfit(
                "ONNX Runtime has no bfloat16 kernels for most operators on the CPU",
                "onnxruntime 1.24: Conv(22) is not implemented",
                "take fp16, or serve a plan",
            )
            return
    elif wanted == "bf16" and version and not at_least(version, "10.0"):
        yield _unfit(f"TensorRT {clean(version)} has no bfloat16", "", "take fp16")
        return
    elif short := _too_old(deployment, wanted, host):
        yield short
        return
    made_up = wanted == "int8" and not rewrites(options, version)
    if made_up and not options.calibration_cache:
        yield _unfit(
            "without a calibration cache trtexec makes up the ranges of INT8",
            "",
            'name calibration_cache, or set convert = "graph"',
            "options.calibration_cache",
        )
        return
    how = "ModelOpt rewrites the graph" if rewrites(options, version) else "flags of the builder"
    said = how if wanted != "fp32" else "as the graph is"
    yield Verdict("tensorrt-precision", Level.PASS, f"{wanted}: {said}")


def _too_old(deployment: Deployment, wanted: str, host: Host) -> Verdict | None:
    least = CAPABILITIES.get(wanted)
    for gpu in visible(deployment, host):
        if least and gpu.compute_capability and gpu.compute_capability < least:
            return _unfit(
                f"GPU {gpu.index} ({clean(gpu.name)}) has no fast {wanted}",
                f"compute capability {gpu.compute_capability[0]}.{gpu.compute_capability[1]}, "
                f"{least[0]}.{least[1]} wanted",
                "take fp32, or another GPU",
            )
    return None


def _unfit(summary: str, figure: str, fix: str, option: str = "options.precision") -> Verdict:
    return Verdict(
        "tensorrt-precision", Level.FAIL, summary, figure, "TensorRT's support matrix", fix, option
    )


def _calibration(
    deployment: Deployment, options: TensorrtOptions, graph: GraphFacts
) -> Iterator[Verdict]:
    """What the scales of INT8 are taken from."""
    if not rewrites(options, build_version(deployment, options)):
        return
    name, option = "tensorrt-calibration", "options.calibration"
    text = [spec.name for spec in graph.inputs if spec.dtype == "BYTES"]
    if text:
        yield Verdict(
            name, Level.FAIL, f"{clean(text[0])} is a text: ModelOpt rewrites graphs of numbers",
            fix='set precision = "fp32"', option="options.precision",
        )  # fmt: skip
        return
    if not options.calibration:
        level = Level.WARN if options.precision == "int8" else Level.PASS
        yield Verdict(
            name,
            level,
            "the graph is calibrated with made-up numbers"
            if level is Level.WARN
            else "ranges are looked at with made-up numbers",
            fix="name some hundred real inputs as an .npz" if level is Level.WARN else "",
            option=option if level is Level.WARN else "",
        )
        return
    yield _readable(Path(options.calibration), name, option)


def _unused(deployment: Deployment, options: TensorrtOptions) -> Iterator[Verdict]:
    """Options of a rewritten graph, of INT8 and of a build, where there is none."""
    if not rewrites(options, build_version(deployment, options)):
        why = 'ModelOpt does not rewrite the graph; convert = "graph" lets it'
        of_graph = ("calibration", "calibration_method", "keep_nodes", "tolerance")
        yield from flags.unused(options, of_graph, why)
    elif options.precision != "int8":
        yield from flags.unused(options, ["calibration_method"], "it is for int8")
    if options.precision != "int8":
        yield from flags.unused(options, ["rest"], "it is for int8")
    if options.precision == "fp32":
        yield from flags.unused(options, ["convert"], "nothing is converted to fp32")
    elif options.form == "onnxruntime":
        yield from flags.unused(options, ["convert"], "a graph that is served is rewritten")
    if options.form == "tensorrt":
        yield from onnx_checks.batching_unused(options)
    if options.form == "onnxruntime":
        names = (
            "calibration_cache",
            "tensorrt",
            "builder",
            "build_image",
            "program",
            "tf32",
            *BuildOptions.model_fields,
        )
        yield from flags.unused(options, names, "no plan is built")
    elif options.builder == "polygraphy":
        yield from flags.unused(options, ["measure"], "only trtexec measures")


def _readable(path: Path, name: str, option: str) -> Verdict:
    if not path.is_absolute():
        return Verdict(
            name, Level.FAIL, "the calibration data is not named by an absolute path",
            clean(str(path)), fix="write the whole path", option=option,
        )  # fmt: skip
    if not is_file(path):
        return Verdict(
            name,
            Level.FAIL,
            f"there is no file {clean(str(path))}",
            fix="correct it",
            option=option,
        )
    if path.suffix == ".npz":
        return Verdict(name, Level.PASS, "calibration data is there", clean(path.name))
    try:
        shape = npy_shape(path, "calibration")
    except UsageError as error:
        return Verdict(
            name, Level.FAIL, error.title, error.why, fix="give .npz or .npy", option=option
        )
    return Verdict(
        name, Level.PASS, "calibration data is there", f"{shape[0] if shape else 1} samples"
    )


def _types(
    deployment: Deployment, options: TensorrtOptions, graph: GraphFacts
) -> Iterator[Verdict]:
    """Whether TensorRT has the types of inputs and outputs, and which it changes."""
    known = catalog().types_of(build_version(deployment, options))
    specs = (*graph.inputs, *graph.outputs)
    for spec in specs:
        if known.becomes.get(spec.dtype, spec.dtype) not in known.takes:
            yield Verdict(
                "tensorrt-types",
                Level.FAIL,
                f"{clean(spec.name)} is {clean(spec.dtype)}, which TensorRT has not",
                f"it has {', '.join(sorted(known.takes))}",
                known.source,
                "add a Cast to the graph",
            )
            return
    changed = [spec.name for spec in specs if spec.dtype in known.becomes]
    said = f"{', '.join(map(clean, changed))} become INT32 in requests" if changed else "kept"
    yield Verdict("tensorrt-types", Level.PASS, "TensorRT has the types", said, known.source)


def _batch(options: TensorrtOptions, graph: GraphFacts) -> Iterator[Verdict]:
    fixed = [t for t in (*graph.inputs, *graph.outputs) if not batchable((t,))]
    if options.max_batch_size and fixed:
        yield Verdict(
            "onnx-batch",
            Level.FAIL,
            f"{clean(fixed[0].name)} has no dynamic first dimension, so the server cannot batch",
            f"{list(fixed[0].shape)}",
            "the graph's signature",
            "set max_batch_size = 0, or export the graph with a dynamic batch",
            "options.max_batch_size",
        )
    else:
        yield Verdict("onnx-batch", Level.PASS, "batch size fits the graph")
