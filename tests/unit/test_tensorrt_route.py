"""The TensorRT route: what each version's builder is given, shapes, precisions, verdicts, the plan."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backends.registry import get
from backends.tensorrt import TensorrtBackend
from backends.trt import argv, catalog, shapes
from backends.trt.options import TensorrtOptions
from backends.upstream.flags import given
from console.checkpoints.model import Checkpoint, Format, GraphFacts
from console.facts import Gpu, Host, Level, TensorSpec, ToolFacts, UsageError, Verdict
from console.planning.deployment import Deployment
from console.planning.plan import CommandStep, Plan, ServiceStep, VerifyStep, WriteStep
from console.runs.progress import LogProgress
from console.runs.reasons import of_builder
from console.triton.repository import from_text
from tests.contract import samples

ROUTE = TensorrtBackend()
VERSIONS = catalog.catalog().versions
NEWEST = VERSIONS[-1]


def graph(*inputs: TensorSpec) -> Checkpoint:
    facts = GraphFacts(
        inputs=inputs or (TensorSpec("pixels", "FP32", (-1, 3, 64, 64)),),
        outputs=(TensorSpec("scores", "FP32", (-1, 10)),),
        opset=17,
        ir_version=8,
    )
    return Checkpoint(
        path=Path("/models/vision.onnx"),
        format=Format.ONNX,
        title="ONNX",
        size=1 << 20,
        graph=facts,
    )


TEXT = (TensorSpec("ids", "INT64", (-1, -1)), TensorSpec("mask", "INT64", (-1, -1)))
H200 = Gpu(0, "GPU-a", "H200", 140 << 30, 0, compute_capability=(9, 0))
A100 = Gpu(1, "GPU-b", "A100", 80 << 30, 0, compute_capability=(8, 0))
OLD = Gpu(0, "GPU-c", "P40", 24 << 30, 0, compute_capability=(6, 1))


def host(*gpus: Gpu) -> Host:
    return replace(samples.HOST, gpus=gpus, gpu_note="" if gpus else "no driver")


def deployment(image: str = "24.10-py3", launcher: str = "container", **options: Any) -> Deployment:
    server = {"launcher": launcher} | ({"image": image} if launcher == "container" else {})
    return Deployment.model_validate(
        {
            "name": "vision",
            "backend": "tensorrt",
            "checkpoints": {"model": "/models/vision.onnx"},
            "options": options,
            "server": server,
        }
    )


def plan(made: Deployment, checkpoint: Checkpoint | None = None, *gpus: Gpu) -> Plan:
    found = checkpoint or graph()
    return ROUTE.plan(made, {"model": found}, host(*(gpus or (H200,))), ToolFacts())


def said(made: Deployment, checkpoint: Checkpoint | None = None, *gpus: Gpu) -> dict[str, Verdict]:
    found = checkpoint or graph()
    verdicts = ROUTE.checks(made, {"model": found}, host(*(gpus or (H200,))), ToolFacts())
    return {v.check: v for v in verdicts}


def words(options: TensorrtOptions, version: str) -> tuple[str, ...]:
    facts = graph().graph
    assert facts is not None
    build = argv.Build("trtexec", "/g.onnx", "/m.plan", shapes.profile(facts, options))
    return argv.command(options, version, build)


def flags(found: tuple[str, ...]) -> set[str]:
    return {word.flag for word in given(found[1:])}


# ------------------------------------------------------------------------------- command lines

SETTINGS = [
    {"precision": precision, "convert": convert}
    for precision, convert in itertools.product(("fp32", "fp16", "int8"), ("auto", "graph"))
] + [
    {"precision": "int8", "rest": "fp16"},
    {"tf32": False, "workspace_mib": 64, "timing_cache": False, "optimization_level": 5},
    {"version_compatible": True, "hardware_compatibility": "ampere+", "measure": True},
    {"verbose": True, "builder": "polygraphy", "precision": "fp16"},
    {"builder": "polygraphy", "precision": "int8", "version_compatible": True},
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_builder_is_given_only_flags_that_its_version_has(
    version: str, settings: dict[str, Any]
) -> None:
    options = TensorrtOptions(**settings)
    known = catalog.catalog().flags[options.builder]
    used = flags(words(options, version))
    assert used <= {flag for flag, span in known.items() if span.holds(version)}
    facts = graph().graph
    assert facts is not None
    build = argv.Build("x", "/g.onnx", "/m.plan", shapes.profile(facts, options))
    assert [v.level for v in argv.flag_checks(options, version, build)] == [Level.PASS]


@pytest.mark.parametrize("version", ["11.0", "11.1"])
@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_tensorrt_11_takes_precisions_from_the_graph_alone(version: str, precision: str) -> None:
    options = TensorrtOptions.model_validate({"precision": precision})
    used = flags(words(options, version))
    assert argv.rewrites(options, version)
    assert not used & {"--fp16", "--bf16", "--int8", "--fp8", "--best", "--calib"}


@pytest.mark.parametrize(
    ("version", "precision", "wanted"),
    [
        ("8.6.1", "fp16", "--fp16"),
        ("10.5.0.18", "bf16", "--bf16"),
        ("10.16", "fp16", "--fp16"),
        ("10.5.0.18", "int8", "--stronglyTyped"),
        ("8.6.1", "int8", "--int8"),
    ],
)
def test_earlier_versions_take_a_flag(version: str, precision: str, wanted: str) -> None:
    options = TensorrtOptions.model_validate({"precision": precision})
    assert wanted in flags(words(options, version))


@pytest.mark.parametrize(
    ("version", "settings", "flag"),
    [
        ("8.6.1", {"precision": "bf16", "convert": "flags"}, "--bf16"),
        ("11.1", {"precision": "fp16", "convert": "flags"}, "--fp16"),
        ("10.5", {"hardware_compatibility": "sameComputeCapability"}, "sameComputeCapability"),
        ("10.5", {"other_flags": ["--monitorMemory"]}, "--monitorMemory"),
        ("8.6.1", {"other_flags": ["--no-such"]}, "--no-such"),
    ],
)
def test_a_flag_of_another_version_is_said_before_anything_runs(
    version: str, settings: dict[str, Any], flag: str
) -> None:
    found = said(deployment(tensorrt=version, **settings))["upstream-flags"]
    assert found.level is Level.FAIL and flag in found.summary and found.fix


def test_a_calibration_cache_goes_with_flags_and_with_nothing_else() -> None:
    made = deployment(precision="int8", convert="flags", calibration_cache="/c.cache")
    build = plan(made).step("build")
    assert isinstance(build, CommandStep)
    assert {"--int8", "--calib"} <= flags(build.command.argv)
    assert build.command.container is not None
    assert "/c.cache" in {mount.source for mount in build.command.container.mounts}
    with pytest.raises(ValidationError, match="calibration_cache"):
        TensorrtOptions(calibration_cache="/c.cache")


def test_flags_that_an_option_decides_are_not_given_twice() -> None:
    with pytest.raises(ValidationError, match="--fp16 is set by an option"):
        TensorrtOptions(other_flags=("--fp16",))


def test_an_operators_file_changes_single_rows(tmp_path: Path) -> None:
    file = tmp_path / "trtexec.toml"
    file.write_text('[images]\n"26.08" = "11.2.0.1"\n[flags.trtexec]\n"--ours" = {}\n')
    data = catalog.catalog(file)
    assert data.images["26.08"] == "11.2.0.1" and data.images["24.10"] == "10.5.0.18"
    assert data.takes("trtexec", "--ours", "10.0") and not data.takes("trtexec", "--fp16", "11.0")
    file.write_text('[images]\n"26.08" = "eleven"\n')
    with pytest.raises(UsageError, match="wrong value"):
        catalog.catalog(file)


# ------------------------------------------------------------------------------- shapes


def test_the_form_is_filled_from_the_graph() -> None:
    options = ROUTE.suggest({"model": graph(*TEXT)}, host(H200))
    assert isinstance(options, TensorrtOptions)
    assert options.min_shapes == ("ids:1x16", "mask:1x16")
    assert options.opt_shapes == ("ids:4x16", "mask:4x16")
    assert options.max_shapes == ("ids:8x16", "mask:8x16")
    assert options.form == "tensorrt"
    assert ROUTE.suggest({"model": graph()}, host()).model_dump()["form"] == "onnxruntime"


def test_a_graph_without_open_dimensions_gets_no_shapes() -> None:
    fixed = graph(TensorSpec("pixels", "FP32", (1, 3, 64, 64)))
    assert fixed.graph is not None
    options = TensorrtOptions(max_batch_size=0, dynamic_batching=False)
    build = argv.Build("trtexec", "/g", "/p", shapes.profile(fixed.graph, options))
    assert not flags(argv.command(options, NEWEST, build)) & {
        "--minShapes", "--optShapes", "--maxShapes",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_shapes": ["pixel:8x3x64x64"]}, "no input pixel"),
        ({"max_shapes": ["pixels:8x3x64"]}, "another shape"),
        ({"max_shapes": ["pixels:8x4x64x64"]}, "another shape"),
        ({"min_shapes": ["pixels:4x3x64x64"], "opt_shapes": ["pixels:2x3x64x64"]}, "order"),
        ({"max_shapes": ["pixels:4x3x64x64"], "max_batch_size": 8}, "batch of 4"),
    ],
)
def test_shapes_that_do_not_fit_fail_before_a_build(settings: dict[str, Any], words: str) -> None:
    made = deployment(**settings)
    found = said(made)["tensorrt-shapes"]
    assert found.level is Level.FAIL and words in found.summary
    with pytest.raises(UsageError, match=words):
        plan(made)


def test_a_request_is_made_up_within_the_shapes() -> None:
    made = deployment(
        min_shapes=["ids:2x4", "mask:2x4"], opt_shapes=["ids:4x8", "mask:4x8"],
        max_shapes=["ids:8x12", "mask:8x12"], max_batch_size=8,
    )  # fmt: skip
    verify = plan(made, graph(*TEXT)).step("verify")
    assert isinstance(verify, VerifyStep)
    (case,) = verify.success
    assert [tensor.shape for tensor in case.inputs] == [(2, 8), (2, 8)]  # type: ignore[union-attr]


# ------------------------------------------------------------------------------- versions


@pytest.mark.parametrize(
    ("settings", "image", "level"),
    [
        ({}, "24.10-py3", Level.PASS),
        ({"build_image": "nvcr.io/nvidia/tensorrt:24.10-py3"}, "24.10-py3", Level.UNKNOWN),
        ({"build_image": "24.05-py3"}, "24.10-py3", Level.FAIL),
        ({"build_image": "24.05-py3", "version_compatible": True}, "24.10-py3", Level.PASS),
        ({"build_image": "25.08-py3", "version_compatible": True}, "24.10-py3", Level.FAIL),
        ({"build_image": "24.04-py3", "version_compatible": True}, "24.10-py3", Level.FAIL),
        ({"tensorrt": "10.5"}, "24.10-py3", Level.PASS),
        ({"tensorrt": "11.1"}, "registry/mine:1", Level.UNKNOWN),
    ],
)
def test_a_plan_is_built_by_the_tensorrt_that_serves(
    settings: dict[str, Any], image: str, level: Level
) -> None:
    assert said(deployment(image, **settings))["tensorrt-version"].level is level


def test_int64_becomes_int32_for_tensorrt_8_and_stays_for_10() -> None:
    kinds = {}
    for image in ("24.04-py3", "24.10-py3"):
        files = plan(deployment(image), graph(*TEXT)).step("repository")
        assert isinstance(files, WriteStep)
        config = from_text(files.files[0].text)
        kinds[image] = [t.data_type for t in config.input]
    assert kinds["24.04-py3"] == [8, 8] and kinds["24.10-py3"] == [9, 9]  # TYPE_INT32, TYPE_INT64


def test_a_type_that_tensorrt_has_not_fails() -> None:
    assert said(deployment(), graph(TensorSpec("t", "FP64", (-1, 2))))["tensorrt-types"].blocks
    assert not said(deployment(), graph(*TEXT))["tensorrt-types"].blocks


HEADER = Path(__file__).parents[2] / "backends" / "workers" / "tensorrt_header.py"


def judged(file: Path, *more: str) -> int:
    """Exit code of the worker that reads headers."""
    report = str(file.with_suffix(".json"))
    words = [sys.executable, str(HEADER), "--plan", str(file), "--report", report, *more]
    return subprocess.run(words, capture_output=True, check=False).returncode


@pytest.mark.parametrize(
    ("header", "wanted", "compatible", "code"),
    [
        ((10, 5, 0, 18), "10.5", False, 0),
        ((10, 5, 0, 18), "10.5.0.18", False, 0),
        ((10, 5, 0, 19), "10.5.0.18", False, 1),
        ((10, 3, 0, 26), "10.5.0.18", True, 0),
        ((10, 6, 0, 1), "10.5.0.18", True, 1),
        ((8, 6, 1, 6), "10.5.0.18", True, 1),
        ((8, 6, 1, 6), "", False, 0),
    ],
)
def test_the_header_of_a_plan_decides(
    header: tuple[int, ...], wanted: str, compatible: bool, code: int, tmp_path: Path
) -> None:
    file = tmp_path / "model.plan"
    file.write_bytes(b"ftrt" + bytes(20) + bytes(header) + b"rest")
    assert judged(file, "--wanted", wanted, *["--compatible"] * compatible) == code


def test_a_file_that_is_no_plan_is_none(tmp_path: Path) -> None:
    file = tmp_path / "model.plan"
    file.write_bytes(b"onnx" * 20)
    assert judged(file) == 1


# ------------------------------------------------------------------------------- plans


def test_each_kind_of_gpu_gets_its_plan_and_its_name() -> None:
    made = plan(deployment(), None, H200, A100, replace(H200, index=2, uuid="GPU-d"))
    builds = [s for s in made.steps if isinstance(s, CommandStep) and s.id.startswith("build")]
    assert [b.id for b in builds] == ["build-cc9-0", "build-cc8-0"]
    assert [next(w for w in b.command.argv if "--device" in w) for b in builds] == [
        "--device=0", "--device=1",
    ]  # fmt: skip
    files = made.step("repository")
    assert isinstance(files, WriteStep)
    config = from_text(files.files[0].text)
    assert config.platform == "tensorrt_plan" and config.backend == "tensorrt"
    assert dict(config.cc_model_filenames) == {
        "9.0": "model_cc9.0.plan", "8.0": "model_cc8.0.plan",
    }  # fmt: skip
    assert [b.outputs[0].rpartition("/")[2] for b in builds] == [
        "model_cc9.0.plan", "model_cc8.0.plan",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("builder", "gpus", "wanted"),
    [
        ("trtexec", "", ["", ""]),
        ("trtexec", "1,0", ["1,0", "1,0"]),
        ("polygraphy", "1,0", ["1", "0"]),
        ("polygraphy", "", ["", "1"]),
    ],
)
def test_a_build_on_this_machine_sees_the_servers_gpus_in_its_order(
    builder: str, gpus: str, wanted: list[str]
) -> None:
    made = deployment(launcher="local", builder=builder)
    server = made.server.model_copy(update={"gpus": gpus})
    found = plan(made.model_copy(update={"server": server}), None, H200, A100)
    builds = [s for s in found.steps if isinstance(s, CommandStep) and s.id.startswith("build")]
    env = [build.command.env for build in builds]
    assert [one.get("CUDA_VISIBLE_DEVICES", "") for one in env] == wanted
    assert {one["CUDA_DEVICE_ORDER"] for one in env} == {"PCI_BUS_ID"}


def test_a_build_in_a_container_counts_its_gpus_as_nvml_does() -> None:
    made = deployment()
    server = made.server.model_copy(update={"gpus": "1,0"})
    found = plan(made.model_copy(update={"server": server}), None, H200, A100)
    first, second = (found.step(f"build-cc{name}") for name in ("9-0", "8-0"))
    assert isinstance(first, CommandStep) and isinstance(second, CommandStep)
    assert "--device=0" in first.command.argv and "--device=1" in second.command.argv


def test_one_name_does_where_capabilities_are_not_wanted() -> None:
    made = plan(deployment(capability_names=False), None, H200, A100)
    build = made.step("build")
    assert build.outputs == ("${repository}/vision/${version}/model.plan",)


def test_a_container_builds_with_its_gpus_and_only_what_it_needs() -> None:
    build = plan(deployment()).step("build")
    assert isinstance(build, CommandStep)
    inside = build.command.container
    assert inside is not None and inside.gpus == "all" and inside.read_only
    assert build.command.argv[0] == "/usr/src/tensorrt/bin/trtexec"
    assert [m.target for m in inside.mounts] == [
        "${work}/tensorrt", "${repository}/vision/${version}",
    ]  # fmt: skip
    assert build.timeout == 7200


def test_a_version_compatible_plan_comes_with_a_server_that_may_load_it() -> None:
    service = next(s for s in plan(deployment(version_compatible=True)).steps
                   if isinstance(s, ServiceStep))  # fmt: skip
    assert "--backend-config=tensorrt,version-compatible=true" in service.service.process.argv


def test_the_embedded_server_gives_way_to_an_image_that_has_tensorrt() -> None:
    embedded = deployment(launcher="embedded")
    seat = ROUTE.seat(embedded.server, embedded.options)
    assert (seat.launcher, seat.gpus) == ("container", "all")
    assert seat.image == catalog.default_image()
    graph_form = {"form": "onnxruntime"}
    assert ROUTE.seat(embedded.server, graph_form) == embedded.server


def test_a_graph_is_rewritten_once_and_built_from_the_result() -> None:
    made = plan(deployment(precision="int8", calibration="/data/s.npz", keep_nodes=["head.*"]))
    order = [step.id for step in made.steps]
    assert order.index("graph") < order.index("precision") < order.index("build")
    step, build = made.step("precision"), made.step("build")
    assert isinstance(step, CommandStep) and isinstance(build, CommandStep)
    assert step.command.runtime == "environment:modelopt"
    assert "pixels:4x3x64x64" in step.command.argv  # a batch that is served, not a single row
    assert "--keep=head.*" in step.command.argv and "/data/s.npz" in step.command.argv
    assert f"--onnx={step.outputs[0]}" in build.command.argv
    assert "/data/s.npz" in {one.path for one in step.inputs}


def test_the_graph_form_is_the_onnx_routes_repository() -> None:
    """The same files as that route makes; nothing is built."""
    options: dict[str, Any] = {"max_batch_size": 4, "instance_count": 2}
    ours = deployment(launcher="embedded", form="onnxruntime", **options)
    made = plan(ours)
    theirs = get("onnx").plan(
        ours.model_copy(update={"backend": "onnx", "options": options}),
        {"model": graph()}, host(), ToolFacts(),
    )  # fmt: skip
    assert made.step("repository") == theirs.step("repository")
    assert [s.id for s in made.steps] == [s.id for s in theirs.steps]


# ------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("settings", "gpu", "words"),
    [
        ({"precision": "bf16"}, OLD, "no fast bf16"),
        ({"precision": "bf16", "tensorrt": "8.6.1"}, H200, "has no bfloat16"),
        ({"precision": "int8", "convert": "flags"}, H200, "makes up the ranges"),
        ({"precision": "bf16", "form": "onnxruntime"}, H200, "no bfloat16 kernels"),
    ],
)
def test_precisions_that_cannot_be_had_fail(settings: dict[str, Any], gpu: Gpu, words: str) -> None:
    found = said(deployment(**settings), None, gpu)["tensorrt-precision"]
    assert found.level is Level.FAIL and words in found.summary and found.fix


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("keep_nodes", {"precision": "fp16", "keep_nodes": ["/head/.*"]}),
        ("calibration", {"precision": "fp16", "calibration": "/data/seen.npz"}),
        ("tolerance", {"tolerance": 0.1}),
        ("rest", {"precision": "fp16", "rest": "fp16"}),
        ("calibration_method", {"precision": "fp16", "convert": "graph", "calibration_method": "max"}),
        ("measure", {"builder": "polygraphy", "measure": True}),
        ("optimization_level", {"form": "onnxruntime", "optimization_level": 5}),
        ("build_image", {"form": "onnxruntime", "build_image": "24.10-py3"}),
        ("convert", {"convert": "graph"}),
        ("convert", {"form": "onnxruntime", "precision": "int8", "convert": "flags"}),
    ],
)  # fmt: skip
def test_an_option_that_changes_nothing_is_told(name: str, settings: dict[str, Any]) -> None:
    verdicts = ROUTE.checks(deployment(**settings), {"model": graph()}, host(H200), ToolFacts())
    (told,) = [v for v in verdicts if v.option == f"options.{name}" and "does nothing" in v.summary]
    assert told.level is Level.WARN


def test_a_graph_that_is_served_is_rewritten_whatever_the_builder_would_do() -> None:
    made = deployment(form="onnxruntime", precision="int8", convert="flags")
    assert said(made)["tensorrt-precision"].level is Level.PASS


def test_made_up_calibration_is_warned_of_and_real_data_is_looked_for(tmp_path: Path) -> None:
    check = "tensorrt-calibration"
    assert said(deployment(precision="int8"))[check].level is Level.WARN
    file = tmp_path / "s.npz"
    made = deployment(precision="int8", calibration=str(file))
    assert said(made)[check].level is Level.FAIL
    file.write_bytes(b"x")
    assert said(made)[check].level is Level.PASS
    longer = deployment(precision="int8", calibration=f"/{'s' * 300}.npz")
    assert said(longer)[check].summary.startswith("there is no file")


def test_a_plan_is_not_taken_for_a_graph() -> None:
    built = replace(graph(), format=Format.TENSORRT, graph=None)
    found = ROUTE.accepts({"model": built})
    assert found.level is Level.FAIL and "give the ONNX graph" in found.fix


def test_memory_follows_the_precision() -> None:
    wide = ROUTE.memory(deployment(), {"model": graph()}, host(H200))
    narrow = ROUTE.memory(deployment(precision="int8"), {"model": graph()}, host(H200))
    assert wide is not None and narrow is not None
    assert narrow.gpu_serve[0] < wide.gpu_serve[0]


# ------------------------------------------------------------------------------- logs


def test_the_builders_log_becomes_progress(tmp_path: Path) -> None:
    build = plan(deployment()).step("build")
    assert isinstance(build, CommandStep)
    log = tmp_path / "build.log"
    progress = LogProgress(log, build.progress)
    lines = {
        "[11/21/2026-09:00:00] [I] Start parsing network model.": "Start parsing network model",
        "[11/21/2026-09:00:01] [I] [TRT] Detected 1 inputs and 1 output network tensors.":
            "Detected 1 inputs and 1 output network tensors",
        "[11/21/2026-09:00:09] [I] Engine built in 8.5 sec.": "Engine built in 8.5 sec",
    }  # fmt: skip
    for line, message in lines.items():
        with log.open("a") as stream:
            stream.write(line + "\n")
        assert progress.look() and progress.message == message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[E] Unknown option: --fp16 ", "no --fp16"),
        ('[E] Cannot find input tensor with name "x" in the network inputs!', "no input x"),
        ("[E] Static model does not take explicit shapes since", "every dimension"),
        ("[E] [TRT] ModelImporter.cpp:1: No importer registered for op: NMS", "operator NMS"),
        ("[E] [TRT] Requested amount of GPU memory (9000 bytes) could not be allocated", "9000"),
        ("Cuda failure: no CUDA-capable device is detected", "no CUDA-capable device"),
        ("[E] Failed to parse onnx file", "does not read the graph"),
    ],
)
def test_why_a_build_failed_is_found_in_its_whole_log(
    line: str, words: str, tmp_path: Path
) -> None:
    log = tmp_path / "build.log"
    tail = "\n".join(f"[E] line {n}" for n in range(20))
    log.write_text(f"&&&& RUNNING TensorRT.trtexec [TensorRT v100500] # x\n{line}\n{tail}\n")
    found = of_builder(log)
    assert found is not None and words in found.title and found.fix


def test_another_commands_log_is_no_builders(tmp_path: Path) -> None:
    log = tmp_path / "other.log"
    log.write_text("Failed to parse onnx file\n")
    assert of_builder(log) is None and of_builder(tmp_path / "none") is None


def test_a_plan_may_be_built_in_another_image_than_the_servers() -> None:
    made = plan(deployment(build_image="nvcr.io/nvidia/tensorrt:24.10-py3"))
    build = made.step("build")
    assert isinstance(build, CommandStep)
    assert build.command.runtime == "image:tensorrt" and build.command.argv[0] == "trtexec"
    assert {image.name for image in made.images} == {"server", "tensorrt"}
    assert "built in" in made.step("image-tensorrt").why


def test_a_builder_on_this_machine_is_looked_for(tmp_path: Path) -> None:
    check = "tensorrt-builder"
    missing = said(deployment(launcher="local", program=str(tmp_path / "trtexec")))[check]
    assert missing.level is Level.FAIL and "build_image" in missing.fix
    (tmp_path / "trtexec").write_text("#!/bin/sh\n")
    (tmp_path / "trtexec").chmod(0o755)
    assert not said(deployment(launcher="local", program=str(tmp_path / "trtexec")))[check].blocks
    assert check not in said(deployment())
