"""The builder's command line, for each version of TensorRT; nothing is run here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from backends.trt.catalog import Program, at_least, catalog
from backends.trt.options import TensorrtOptions
from backends.trt.shapes import Profile, written
from backends.upstream.flags import given
from console.facts import Level, Verdict
from console.planning.variables import literal
from console.text import clean

CACHES = "${work}/tensorrt"
CACHE = f"{CACHES}/timing.cache"


@dataclass(frozen=True, slots=True)
class Build:
    """One plan to build: what from, where to (templates), on which of the visible GPUs."""

    program: str
    graph: str
    plan: str
    profile: Profile
    device: int = 0
    calibration_cache: str = ""
    """Template."""


def rewrites(options: TensorrtOptions, version: str) -> bool:
    """Whether ModelOpt rewrites the graph before it is built (or served as a graph).

    TensorRT 11 takes precisions from the graph alone; INT8 without a calibration cache has scales in
    the graph in every version.
    """
    if options.precision == "fp32":
        return False
    if options.form == "onnxruntime" or options.convert == "graph":
        return True
    if options.convert == "flags":
        return False
    return options.precision == "int8" or bool(not version or at_least(version, "11.0"))


def command(options: TensorrtOptions, version: str, build: Build) -> tuple[str, ...]:
    """The words of the build (templates)."""
    if options.builder == "polygraphy":
        words = _polygraphy(options, version, build)
    else:
        words = _trtexec(options, version, build)
    return (literal(build.program), *words, *map(literal, options.other_flags))


def _trtexec(options: TensorrtOptions, version: str, build: Build) -> Iterator[str]:
    yield f"--onnx={build.graph}"
    yield f"--saveEngine={build.plan}"
    for flag, shapes in (
        ("--minShapes", build.profile.least),
        ("--optShapes", build.profile.usual),
        ("--maxShapes", build.profile.most),
    ):
        if shapes:
            yield f"{flag}={literal(','.join(written(shapes)))}"
    yield from _precision(options, version, "trtexec")
    if build.calibration_cache:
        yield f"--calib={build.calibration_cache}"
    if not options.tf32:
        yield "--noTF32"
    if options.workspace_mib:
        yield f"--memPoolSize=workspace:{options.workspace_mib}"
    if options.timing_cache:
        yield f"--timingCacheFile={CACHE}"
    yield f"--builderOptimizationLevel={options.optimization_level}"
    if options.version_compatible:
        yield "--versionCompatible"
    if options.hardware_compatibility != "none":
        yield f"--hardwareCompatibilityLevel={options.hardware_compatibility}"
    yield f"--device={build.device}"
    if not options.measure:
        yield "--skipInference"
    if options.verbose:
        yield "--verbose"


def _precision(options: TensorrtOptions, version: str, program: Program) -> Iterator[str]:
    """Flags of precision. A rewritten graph is strongly typed where the version can; TensorRT 8.6
    needs leave for each type that the graph holds."""
    typed = "--stronglyTyped" if program == "trtexec" else "--strongly-typed"
    if rewrites(options, version) and catalog().takes(program, typed, version):
        yield typed
        return
    if options.precision != "fp32":
        yield f"--{options.precision}"
    if options.precision == "int8" and options.rest == "fp16":
        yield "--fp16"


def _polygraphy(options: TensorrtOptions, version: str, build: Build) -> Iterator[str]:
    yield from ("convert", build.graph, "--model-type=onnx", "--convert-to=trt")
    yield f"--output={build.plan}"
    for flag, shapes in (
        ("--trt-min-shapes", build.profile.least),
        ("--trt-opt-shapes", build.profile.usual),
        ("--trt-max-shapes", build.profile.most),
    ):
        if shapes:
            yield flag
            for name, shape in shapes.items():
                yield literal(f"{name}:[{','.join(map(str, shape))}]")
    yield from _precision(options, version, "polygraphy")
    if build.calibration_cache:
        yield f"--calibration-cache={build.calibration_cache}"
    if options.tf32:
        yield "--tf32"
    if options.workspace_mib:
        yield f"--pool-limit=workspace:{options.workspace_mib}M"
    if options.timing_cache:
        yield f"--load-timing-cache={CACHE}"
        yield f"--save-timing-cache={CACHE}"
    yield f"--builder-optimization-level={options.optimization_level}"
    if options.version_compatible:
        yield "--version-compatible"
    if options.hardware_compatibility != "none":
        levels = {"ampere+": "AMPERE_PLUS", "sameComputeCapability": "SAME_COMPUTE_CAPABILITY"}
        yield f"--hardware-compatibility-level={levels[options.hardware_compatibility]}"
    if options.verbose:
        yield "--verbose"


def flag_checks(options: TensorrtOptions, version: str, build: Build) -> Iterator[Verdict]:
    """Every planned flag that this version's builder does not take."""
    data, wrong = catalog(), False
    words = command(options, version, build)[1:]
    for word in given(words):
        known = data.takes(options.builder, word.flag, version)
        value = word.values[0] if word.values else ""
        if known and data.takes_value(word.flag, value, version):
            continue
        wrong = True
        span = data.flags[options.builder].get(word.flag)
        if known:
            span = data.values[word.flag][value]
        when = [f"from {span.first}"] if span and span.first else []
        when += [f"before {span.last}"] if span and span.last else []
        yield Verdict(
            "upstream-flags",
            Level.FAIL,
            f"{options.builder} of TensorRT {clean(version) or '(newest)'} has no {clean(word.flag)}"
            + (f"={clean(value)}" if known else ""),
            " ".join(when),
            data.source,
            _instead(word.flag),
            _option(word.flag),
        )
    if not wrong:
        yield Verdict(
            "upstream-flags",
            Level.PASS,
            f"{options.builder} takes all {len(given(words))} planned flags",
            f"TensorRT {clean(version) or 'unknown: taken for the newest'}",
            data.source,
        )


def _instead(flag: str) -> str:
    if flag in ("--fp16", "--bf16", "--int8", "--calib", "--calibration-cache"):
        return 'set convert = "graph": ModelOpt rewrites the graph before'
    return "leave it out, or build with another TensorRT"


def _option(flag: str) -> str:
    if flag in ("--fp16", "--bf16", "--int8"):
        return "options.convert"
    return {
        "--calib": "options.calibration_cache",
        "--hardwareCompatibilityLevel": "options.hardware_compatibility",
    }.get(flag, "options.other_flags")
