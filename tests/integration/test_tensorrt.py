"""The TensorRT route for real, as far as a machine without a GPU goes: its graph form in a real
Triton, ModelOpt's rewriting, and the plan form with a recorder in trtexec's place."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from console.planning.plan import CommandStep, Plan
from console.planning.variables import expand
from tests import shell
from tests.support import ANY_PORTS, Operator, local_triton, managed

pytestmark = pytest.mark.integration

STANDIN = Path(__file__).with_name("tensorrt_standin.py")
ACCEPTED = [w for name in ("gpu", "gpu-memory", "config-gpu") for w in ("--accept", name)]
RECORDER = """#!{python}
import json, pathlib, sys
words = sys.argv[1:]
record = pathlib.Path({record!r})
said = json.loads(record.read_text()) if record.exists() else []
record.write_text(json.dumps(said + [[sys.argv[0], *words]]))
given = dict(w.split("=", 1) for w in words if "=" in w)
print("&&&& RUNNING TensorRT.trtexec [TensorRT v100500] # " + " ".join(words))
if {broken!r} and "--builderOptimizationLevel=5" in words:
    print({broken!r})
    for line in ("Engine could not be created from network", "Building engine failed",
                 "Failed to create engine from model or file.", "Engine set up failed"):
        print("[11/21/2026-09:00:00] [E] " + line)
    print("&&&& FAILED TensorRT.trtexec [TensorRT v100500] # " + " ".join(words))
    sys.exit(1)
print("[11/21/2026-09:00:00] [I] Start parsing network model.")
graph = pathlib.Path(given["--onnx"]).read_bytes()
if {wrong!r} and "--noTF32" in words:
    graph = graph.replace(*{wrong!r})
header = b"ftrt" + bytes(20) + bytes({version!r})
plan = pathlib.Path(given["--saveEngine"])
plan.write_bytes(header + graph)
print("[11/21/2026-09:00:00] [I] Engine built in 12.5 sec.")
print("&&&& PASSED TensorRT.trtexec [TensorRT v100500] # " + " ".join(words))
"""


def linear(path: Path) -> Path:
    """y [B, 32] = relu(x [B, 64] · W + b) with seeded weights."""
    draw = np.random.default_rng(5)
    weight = draw.standard_normal((64, 32)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
            helper.make_node("Add", ["p", "b"], ["s"], name="sum"),
            helper.make_node("Relu", ["s"], ["y"], name="relu"),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 32])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.ones(32, np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def recorder(
    folder: Path,
    version: tuple[int, ...] = (10, 5, 0, 18),
    broken: str = "",
    wrong: tuple[bytes, ...] = (),
) -> Path:
    program = folder / "trtexec"
    record = str(folder / "record.json")
    program.write_text(
        RECORDER.format(
            python=sys.executable, record=record, version=version, broken=broken, wrong=wrong
        )
    )
    program.chmod(0o755)
    return program


def recorded(folder: Path) -> list[list[str]]:
    found: list[list[str]] = json.loads((folder / "record.json").read_text())
    return found


def installation(folder: Path) -> Path:
    """A local Triton with a tensorrt backend, the stand-in, which runs through the python backend.

    That must be real files then; they look for their libraries four folders up.
    """
    place = folder / "opt" / "tritonserver"
    program = local_triton(place) / "tritonserver"
    python = place / "backends" / "python"
    for link in list(python.iterdir()):
        real = link.resolve()
        link.unlink()
        shutil.copy(real, link)
    libraries = managed("embedded").glob("lib/python3*/site-packages/nvidia_pytriton.libs")
    (folder / "nvidia_pytriton.libs").symlink_to(next(libraries))
    (place / "backends" / "tensorrt").mkdir()
    shutil.copy(STANDIN, place / "backends" / "tensorrt" / "model.py")
    return program


def deployment(folder: Path, **options: Any) -> Path:
    """The plan form on a local Triton, built by the recorder on this machine."""
    values = {"program": str(folder / "trtexec"), "tensorrt": "10.5", **options}
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    file = folder / "linear.toml"
    file.write_text(
        'version = 1\nname = "linear"\nbackend = "tensorrt"\n'
        f"[checkpoints]\nmodel = {json.dumps(str(linear(folder / 'linear.onnx')))}\n"
        "[options]\n" + "\n".join(lines) + "\n"
        '[server]\nlauncher = "local"\n'
        f"path = {json.dumps(str(folder / 'opt' / 'tritonserver' / 'bin' / 'tritonserver'))}\n"
        "http_port = 0\ngrpc_port = 0\nmetrics_port = 0\n"
    )
    return file


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    managed("embedded")
    home = tmp_path / "home"
    home.mkdir()
    someone = Operator(home)
    yield someone
    someone.does("stop", "linear", code=None)


def test_a_plan_is_built_read_back_served_and_answers(operator: Operator, tmp_path: Path) -> None:
    installation(tmp_path)
    recorder(tmp_path)
    file = deployment(tmp_path, precision="fp16", max_batch_size=4)
    done = operator.json("deploy", str(file), *ACCEPTED)
    assert done["run"]["state"] == "succeeded"
    (words,) = recorded(tmp_path)
    assert "--fp16" in words and "--maxShapes=x:4x64" in words
    report = next(operator.home.rglob("plan.json"))
    assert json.loads(report.read_text())["tensorrt"] == "10.5.0.18"
    config = next(operator.home.rglob("repository/linear/*/config.pbtxt")).read_text()
    assert 'platform: "tensorrt_plan"' in config


def test_a_plan_that_computes_something_else_is_found_out(
    operator: Operator, tmp_path: Path
) -> None:
    """Its answer is compared with what ONNX Runtime makes of the graph; finite numbers do not do."""
    installation(tmp_path)
    recorder(tmp_path, wrong=(b"Relu", b"Tanh"))
    failed = operator.json("deploy", str(deployment(tmp_path, tf32=False)), *ACCEPTED, code=1)
    assert "differs from the reference by" in failed["run"]["error"]


def test_a_failed_build_is_told_by_the_line_that_matters(
    operator: Operator, tmp_path: Path
) -> None:
    installation(tmp_path)
    line = "[11/21/2026-09:00:00] [E] Error[10]: Could not find any implementation for node sum."
    recorder(tmp_path, broken=line)
    file = deployment(tmp_path, optimization_level=5)
    failed = operator.json("deploy", str(file), *ACCEPTED, code=1)["run"]
    assert "no kernel fits the node sum" in failed["error"]
    assert "workspace" in failed["fix"]


def test_a_plan_of_another_tensorrt_never_reaches_the_server(
    operator: Operator, tmp_path: Path
) -> None:
    installation(tmp_path)
    recorder(tmp_path, version=(10, 4, 0, 26))
    failed = operator.json("deploy", str(deployment(tmp_path)), *ACCEPTED, code=1)["run"]
    assert "was built by TensorRT 10.4.0.26, the server has 10.5" in failed["error"]


def test_what_a_server_says_of_a_plan_it_refuses_is_explained(
    operator: Operator, tmp_path: Path
) -> None:
    """The stand-in's server is 10.5.0.18 and says so in TensorRT's own words."""
    installation(tmp_path)
    recorder(tmp_path, version=(10, 5, 0, 19))
    failed = operator.json("deploy", str(deployment(tmp_path)), *ACCEPTED, code=1)["run"]
    assert "the plan was built by TensorRT 10.5.0.19, this server has 10.5.0.18" in failed["error"]
    assert "build it in the image that serves it" in failed["fix"]


def test_the_script_ends_well_with_exactly_the_planned_words(
    operator: Operator, tmp_path: Path
) -> None:
    installation(tmp_path)
    recorder(tmp_path)
    file = deployment(
        tmp_path, workspace_mib=512, verbose=True, tf32=False, other_flags=["--maxAuxStreams=2"]
    )
    script = operator.does("plan", "--script", str(file))
    done = shell.run(tmp_path, script, timeout=120, **environments())
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    plan = Plan.model_validate(operator.json("plan", str(file))["plan"])
    step = plan.step("build")
    assert isinstance(step, CommandStep)
    (words,) = recorded(tmp_path)
    work = str(tmp_path / "linear")
    values = {"work": work, "repository": f"{work}/repository", "version": "1"}
    assert words == [expand(word, values) for word in step.command.argv]


def environments() -> dict[str, str]:
    return {"ENV_EMBEDDED": str(managed("embedded"))}


# ------------------------------------------------------------------------------- ModelOpt


def test_polygraphy_itself_takes_every_planned_word(tmp_path: Path) -> None:
    """TensorRT is not there, which polygraphy says only after it has read its command line."""
    from backends.trt import argv, shapes
    from backends.trt.options import TensorrtOptions
    from console.checkpoints.read import read

    graph = read(linear(tmp_path / "linear.onnx")).graph
    assert graph is not None
    options = TensorrtOptions(
        builder="polygraphy", precision="fp16", workspace_mib=64, version_compatible=True,
        hardware_compatibility="ampere+", verbose=True, max_batch_size=4,
    )  # fmt: skip
    build = argv.Build(
        program="polygraphy",
        graph=str(tmp_path / "linear.onnx"),
        plan=str(tmp_path / "model.plan"),
        profile=shapes.profile(graph, options),
    )
    words = [expand(w, {"work": str(tmp_path)}) for w in argv.command(options, "10.5", build)]
    program = managed("modelopt") / "bin" / "polygraphy"

    def run(*words: str) -> str:
        done = subprocess.run(
            [str(program), *words], capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr

    assert "'tensorrt' is required" in run(*words[1:])
    assert "Unrecognized Options" in run(*words[1:], "--no-such-flag")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_rewritten_graph_is_served_where_there_is_no_tensorrt(
    operator: Operator, tmp_path: Path, precision: str
) -> None:
    managed("modelopt")
    samples = np.random.default_rng(7).standard_normal((128, 64)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=samples)
    done = operator.json(
        "deploy", str(linear(tmp_path / "linear.onnx")), "--backend", "tensorrt", "--name", "linear",
        "--set", f"precision={precision}", "--set", f"calibration={tmp_path / 'samples.npz'}",
        *ANY_PORTS,
    )  # fmt: skip
    assert done["run"]["state"] == "succeeded"
    report = json.loads(next(operator.home.rglob("precision.json")).read_text())
    assert report["samples"] == 128 and report["compared"]
    assert 0 < report["relative"] < {"fp16": 0.01, "int8": 0.1}[precision]
    served = next(operator.home.rglob("repository/linear/1/model.onnx"))
    nodes = [node.op_type for node in onnx.load(str(served)).graph.node]
    assert ("QuantizeLinear" in nodes) == (precision == "int8")


@pytest.mark.slow
def test_a_real_vision_tower_keeps_its_answers_in_fp16_and_int8() -> None:
    """1187 of 1200 pictures in fp32; of these 240, 237."""
    folders = [f"--{name}={managed(name)}" for name in ("nemo", "modelopt")]
    program = Path(__file__).parents[2] / "benchmarks" / "precision.py"
    done = subprocess.run(
        [sys.executable, str(program), *folders, "--images=240", "--json"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(done.stdout)["rows"]
    assert rows["fp32"]["right"] >= 230
    assert rows["fp16"]["right"] >= rows["fp32"]["right"] - 1
    assert rows["int8"]["right"] >= rows["fp32"]["right"] - 6
    assert 0 < rows["fp16"]["relative"] < 0.002
    assert 0.005 < rows["int8"]["relative"] < 0.15
