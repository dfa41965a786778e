"""Plain ONNX graphs through the route, served by a real Triton."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_work import build, deployment, plan_of, run

from backends.registry import get
from console.checkpoints.read import read
from console.facts import DeckError, InferenceRequest, Level, TensorValue
from console.planning.deployment import VerifyCase
from console.planning.plan import CommandStep, Inference
from console.planning.variables import expand
from console.runs import saved
from console.triton import control, inference, verify
from tests.support import written

pytestmark = pytest.mark.integration

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


def save(graph: onnx.GraphProto, path: Path, **external: object) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path), **external)
    return path


def linear(path: Path, **external: object) -> Path:
    """y [B, 3] = x [B, 4] · W, and the row number of the largest as scalar a row."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("ArgMax", ["y"], ["best"], axis=1, keepdims=0),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 4])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 3]),
            helper.make_tensor_value_info("best", TensorProto.INT64, ["b"]),
        ],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    return save(graph, path, **external)


def fixed(path: Path) -> Path:
    """A graph without a dynamic dimension: z [2, 3] = relu(x), and a scalar."""
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["z"]),
            helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        ],
        "fixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 3]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, []),
        ],
    )
    return save(graph, path)


def words(path: Path) -> Path:
    """Texts in, texts out."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["said"], ["heard"])],
        "words",
        [helper.make_tensor_value_info("said", TensorProto.STRING, ["b", 1])],
        [helper.make_tensor_value_info("heard", TensorProto.STRING, ["b", 1])],
    )
    return save(graph, path)


@pytest.fixture(scope="module")
def served(make_module_server, tmp_path_factory):
    """A server with four graphs: a file, a folder with external data, a fixed one, a text one."""
    server = make_module_server()
    source = tmp_path_factory.mktemp("graphs")
    sidecar = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    linear(source / "folder" / "model.onnx", **sidecar)
    paths = {
        "linear": linear(source / "linear.onnx"),
        "folder": source / "folder",
        "fixed": fixed(source / "fixed.onnx"),
        "words": words(source / "words.onnx"),
    }
    server.plans = {}
    server.value_sets = {}
    for name, path in paths.items():
        checkpoint = read(path)
        plan = plan_of(checkpoint, deployment(checkpoint, name))
        values = server.values | {"work": str(server.folder / name)}
        (server.folder / name).mkdir()
        build(plan, values)
        server.plans[name], server.value_sets[name] = plan, values
    server.start()
    for name in paths:
        control.load(server.endpoint, name)
    return server


def ask(server, model: str, *tensors: TensorValue) -> dict[str, tuple[tuple[int, ...], tuple]]:
    answer = inference.infer(server.endpoint, InferenceRequest(model, tensors))
    return {t.name: (t.shape, t.values) for t in answer.outputs}


@pytest.mark.parametrize("model", ["linear", "folder"])
def test_a_batched_graph_answers_each_row(served, model):
    rows = np.array([[1, 0, 0, 0], [0, 0, 0, 1]], np.float32)
    given = TensorValue("x", "FP32", (2, 4), values=tuple(map(float, rows.reshape(-1))))
    answer = ask(served, model, given)
    shape, values = answer["y"]
    assert shape == (2, 3)
    np.testing.assert_allclose(np.array(values).reshape(2, 3), rows @ WEIGHT, rtol=1e-6)
    assert answer["best"] == ((2, 1), (2, 2))


def test_a_fixed_graph_answers_with_its_own_shapes(served):
    given = TensorValue("x", "FP32", (2, 3), values=(-1.0, 2.0, 3.0, -4.0, 5.0, 6.0))
    answer = ask(served, "fixed", given)
    assert answer["z"] == ((2, 3), (0.0, 2.0, 3.0, 0.0, 5.0, 6.0))
    assert answer["total"] == ((1,), (11.0,))


def test_texts_go_through_a_graph(served):
    given = TensorValue("said", "BYTES", (2, 1), values=("grüße", "hello"))
    assert ask(served, "words", given)["heard"] == ((2, 1), ("grüße", "hello"))


@pytest.mark.parametrize("model", ["linear", "folder", "fixed", "words"])
def test_the_made_up_request_of_the_plan_is_answered(served, model):
    (probe,) = served.plans[model].step("verify").success
    assert isinstance(probe, Inference)

    def path(template: str) -> Path:
        return Path(expand(template, served.value_sets[model]))

    answer = inference.infer(served.endpoint, saved.filled(probe, path, model))
    assert verify.judge(answer, saved.expected(probe, path)) is None


def test_a_wrong_tensor_is_refused_by_the_server(served):
    with pytest.raises(DeckError):
        ask(served, "linear", TensorValue("x", "FP32", (1, 5), values=(0.0,) * 5))


def test_a_verify_case_of_tensors_is_right_or_says_what_differs(served, tmp_path):
    np.save(tmp_path / "x.npy", np.array([[1, 0, 0, 0]], np.float32))
    checkpoint = read(Path(served.plans["linear"].step("graph").command.argv[3]))
    right = VerifyCase(input=str(tmp_path / "x.npy"), expect=json.dumps([0.0, 0.1, 0.2]))
    wrong = right.model_copy(update={"expect": "[9, 9, 9]"})
    plan = plan_of(checkpoint, deployment(checkpoint, "linear", verify=(right, wrong)))
    said = []
    for probe in plan.step("verify").success:
        (tensor,) = probe.inputs
        value = TensorValue(tensor.name, tensor.dtype, tensor.shape, file=Path(tensor.file))
        answer = inference.infer(served.endpoint, InferenceRequest("linear", (value,)))
        said.append(verify.judge(answer, probe.expect))
    assert said[0] is None
    assert said[1] and "further than" in said[1]


def graph_step(path: Path, server_values: dict[str, str], work: Path):
    checkpoint = read(path)
    plan = plan_of(checkpoint, deployment(checkpoint, "sample"))
    values = server_values | {"work": str(work), "repository": str(work / "repository")}
    written(plan.step("workers").files, values)
    step = plan.step("graph")
    assert isinstance(step, CommandStep)
    return step, values


def test_a_graph_that_changed_after_the_plan_is_not_published(served, tmp_path):
    path = linear(tmp_path / "a.onnx")
    step, values = graph_step(path, served.values, tmp_path)
    fixed(path)
    done = run(step, values)
    assert done.returncode == 1 and "not the one that the plan predicted" in done.stdout
    assert not list(tmp_path.rglob("model.onnx"))


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "a/../../secret.bin"])
def test_a_graph_that_names_data_elsewhere_is_refused_before_and_in_the_run(
    served, tmp_path, location
):
    sidecar = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    path = linear(tmp_path / "a.onnx", **sidecar)
    step, values = graph_step(path, served.values, tmp_path)
    argv = tuple(location if word == "weights.bin" else word for word in step.command.argv)
    command = step.command.model_copy(update={"argv": argv})
    done = run(step.model_copy(update={"command": command}), values)
    assert done.returncode == 1 and "outside its folder" in done.stdout
    assert not list(tmp_path.rglob("model.onnx"))
    checkpoint = read(path)
    hostile = replace(checkpoint, graph=replace(checkpoint.graph, external_data=(location,)))
    verdict = get("onnx").accepts({"model": hostile})
    assert verdict.level is Level.FAIL and "outside its own folder" in verdict.summary


def test_a_graph_whose_data_went_missing_is_not_published(served, tmp_path):
    sidecar = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    path = linear(tmp_path / "a.onnx", **sidecar)
    step, values = graph_step(path, served.values, tmp_path)
    (tmp_path / "weights.bin").unlink()
    done = run(step, values)
    assert done.returncode == 1 and "weights.bin is missing" in done.stdout
    assert not list(tmp_path.rglob("model.onnx"))
