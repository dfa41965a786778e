"""Options of the TensorRT route."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from backends.base import BackendOptions
from backends.fields import Image, extra
from backends.onnx_options import BatchingOptions

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Pattern = Annotated[str, Field(pattern=r"^[^\s\x00-\x1f]{1,200}$")]
OtherFlag = Annotated[str, Field(pattern=r"^--[A-Za-z0-9-]+(=[^\x00-\x1f]{0,300})?$")]
OURS = frozenset(
    {
        "--onnx", "--saveEngine", "--minShapes", "--optShapes", "--maxShapes", "--memPoolSize",
        "--timingCacheFile", "--fp16", "--bf16", "--int8", "--calib", "--stronglyTyped", "--noTF32",
        "--builderOptimizationLevel", "--versionCompatible", "--vc", "--hardwareCompatibilityLevel",
        "--device", "--skipInference", "--verbose", "--loadEngine", "--help",
    }
)  # fmt: skip
"""Flags of trtexec that an option of this route decides."""


ShapeSpec = Annotated[str, Field(pattern=r"^[^\s,=']+:[1-9]\d{0,6}(x[1-9]\d{0,6}){0,7}$")]
"""``name:1x3x224x224`` as trtexec takes it; the name may hold colons, the last one divides."""


class _PlanOptions(BackendOptions):
    """How an ONNX graph becomes a TensorRT plan."""

    form: Literal["tensorrt", "onnxruntime"] = Field(
        "tensorrt",
        title="Serving form",
        description="tensorrt: a plan is built, which takes a GPU. onnxruntime: the same repository "
        "with the graph itself, for a machine that has no TensorRT.",
        json_schema_extra=extra("Plan"),
    )
    tensorrt: str = Field(
        "",
        pattern=r"^(\d+(\.\d+){1,3})?$",
        title="TensorRT version",
        description="Of the trtexec that builds (10.5, 11.1). Empty: as the table of images says.",
        json_schema_extra=extra("Plan"),
    )
    builder: Literal["trtexec", "polygraphy"] = Field(
        "trtexec",
        title="Builder",
        description="The program that builds the plan.",
        json_schema_extra=extra("Plan"),
    )
    build_image: Image = Field(
        "",
        title="Image to build in",
        description="Empty: the server's own image, or this machine where the server runs on it.",
        json_schema_extra=extra("Plan"),
    )
    program: str = Field(
        "",
        pattern=r"^[^\x00-\x1f]{0,400}$",
        title="Path of the builder",
        description="Empty: where NVIDIA's images have it, else looked up on PATH.",
        json_schema_extra=extra("Plan"),
    )
    min_shapes: tuple[ShapeSpec, ...] = Field(
        (),
        max_length=64,
        title="Smallest shapes",
        description="name:1x3x224x224 for each input with an open dimension. Empty: a batch of one "
        "and usual sizes.",
        json_schema_extra=extra("Shapes", flag="--minShapes"),
    )
    opt_shapes: tuple[ShapeSpec, ...] = Field(
        (),
        max_length=64,
        title="Most frequent shapes",
        description="The shapes that the plan is made fastest for.",
        json_schema_extra=extra("Shapes", flag="--optShapes"),
    )
    max_shapes: tuple[ShapeSpec, ...] = Field(
        (),
        max_length=64,
        title="Largest shapes",
        description="The server's largest batch must fit in them.",
        json_schema_extra=extra("Shapes", flag="--maxShapes"),
    )
    precision: Precision = Field(
        "fp32",
        title="Precision",
        description="What the plan computes in. fp32 lets TensorRT use TF32. int8 needs calibration.",
        json_schema_extra=extra("Precision"),
    )
    rest: Literal["fp32", "fp16"] = Field(
        "fp32",
        title="Precision beside INT8",
        description="What layers without a scale compute in.",
        json_schema_extra=extra("Precision"),
    )
    convert: Literal["auto", "flags", "graph"] = Field(
        "auto",
        title="How it is reached",
        description="flags: trtexec chooses layer by layer, up to TensorRT 10. graph: ModelOpt "
        "rewrites the graph before, on the CPU. auto: flags where there are any, a graph for int8.",
        json_schema_extra=extra("Precision"),
    )
    calibration: str = Field(
        "",
        pattern=r"^[^\x00-\x1f]{0,4000}$",
        title="Calibration data",
        description="For rewriting a graph: an .npz with an array for each input (or an .npy for one), "
        "samples along the first axis. Empty: made-up numbers, good for a trial alone.",
        json_schema_extra=extra("Precision"),
    )
    calibration_method: Literal["entropy", "max"] = Field(
        "entropy",
        title="Calibration method",
        description="How ranges are taken from what was seen.",
        json_schema_extra=extra("Precision"),
    )
    calibration_cache: str = Field(
        "",
        pattern=r"^[^\x00-\x1f]{0,4000}$",
        title="Calibration cache",
        description="For int8 by flags, up to TensorRT 10: a cache file that TensorRT wrote.",
        json_schema_extra=extra("Precision", flag="--calib"),
    )
    keep_nodes: tuple[Pattern, ...] = Field(
        (),
        max_length=64,
        title="Nodes kept in FP32",
        description="Regular expressions of node names that a graph is not rewritten at.",
        json_schema_extra=extra("Precision"),
    )
    tolerance: float = Field(
        0.0,
        ge=0,
        le=2,
        title="Tolerance",
        description="Largest 2-norm of the difference that rewriting may make to an output, as a part "
        "of the output's own. 0: 0.01 for fp16, 0.25 for int8.",
        json_schema_extra=extra("Precision"),
    )
    tf32: bool = Field(
        True,
        title="TF32",
        description="Allow TF32 for what stays in FP32, on GPUs from compute capability 8.0.",
        json_schema_extra=extra("Precision", flag="--noTF32"),
    )

    @property
    def limit(self) -> float:
        """Largest relative difference that rewriting may make."""
        return self.tolerance or (0.25 if self.precision == "int8" else 0.01)


class BuildOptions(BackendOptions):
    """How the plan is built."""

    workspace_mib: int = Field(
        0,
        ge=0,
        le=1 << 20,
        title="Workspace",
        description="GPU memory that kernels may use for themselves; 0: as much as there is.",
        json_schema_extra=extra("Build", flag="--memPoolSize", unit="MiB"),
    )
    timing_cache: bool = Field(
        True,
        title="Timing cache",
        description="Keep what was measured of kernels in the work folder; the next build is faster.",
        json_schema_extra=extra("Build", flag="--timingCacheFile"),
    )
    optimization_level: int = Field(
        3,
        ge=0,
        le=5,
        title="Optimization level",
        description="How many kernels are tried: 0 builds fastest, 5 runs fastest.",
        json_schema_extra=extra("Build", flag="--builderOptimizationLevel"),
    )
    version_compatible: bool = Field(
        False,
        title="Version compatible",
        description="The plan also loads in later minor versions of the same TensorRT; the server is "
        "told so.",
        json_schema_extra=extra("Build", flag="--versionCompatible"),
    )
    hardware_compatibility: Literal["none", "ampere+", "sameComputeCapability"] = Field(
        "none",
        title="Hardware compatibility",
        description="Other GPUs that the plan loads on; it costs speed.",
        json_schema_extra=extra("Build", flag="--hardwareCompatibilityLevel"),
    )
    capability_names: bool = Field(
        True,
        title="Name by capability",
        description="The plan's name carries the compute capability of the GPU that it was built on, "
        "and config.pbtxt names it so (cc_model_filenames).",
        json_schema_extra=extra("Build", flag="cc_model_filenames"),
    )
    build_minutes: int = Field(
        120,
        ge=1,
        le=2880,
        title="Build time limit",
        description="A build that takes longer is ended.",
        json_schema_extra=extra("Build", unit="min"),
    )
    measure: bool = Field(
        False,
        title="Measure after building",
        description="Let trtexec time the plan with made-up inputs; its figures stand in the log.",
        json_schema_extra=extra("Build", flag="--skipInference"),
    )
    other_flags: tuple[OtherFlag, ...] = Field(
        (),
        max_length=32,
        title="Other flags",
        description="Further words for the builder, each --flag or --flag=value.",
        json_schema_extra=extra("Build"),
    )
    verbose: bool = Field(
        False,
        title="Verbose log",
        description="What the builder considers, layer by layer.",
        json_schema_extra=extra("Build", flag="--verbose"),
    )


class TensorrtOptions(BatchingOptions, BuildOptions, _PlanOptions):
    """How an ONNX graph becomes a plan, and how Triton runs it."""

    @model_validator(mode="after")
    def _consistent(self) -> TensorrtOptions:
        taken = [f for flag in self.other_flags if (f := flag.partition("=")[0]) in OURS]
        if taken:
            raise ValueError(f"other_flags: {taken[0]} is set by an option of this route")
        if self.calibration and self.precision == "fp32":
            raise ValueError("calibration is for a precision below fp32")
        if self.calibration_cache and (self.precision, self.convert) != ("int8", "flags"):
            raise ValueError('calibration_cache is for precision int8 with convert = "flags"')
        return self
