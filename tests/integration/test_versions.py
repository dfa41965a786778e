"""Several versions and several deployments on one real server, worked from the command line."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import pytest
from conftest import Server
from onnx import TensorProto, helper, numpy_helper

from console.triton import control, switching, versions
from console.triton.versions import Version
from tests.processes import until
from tests.support import ANY_PORTS, Operator, managed

pytestmark = pytest.mark.integration


def make_adder(file: Path, number: float) -> Path:
    """An ONNX graph: Y = X + number, float32 [n, 4]."""
    import numpy as np

    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "XY"]
    constant = numpy_helper.from_array(np.array([number], np.float32), "C")
    node = helper.make_node("Add", ["X", "C"], ["Y"])
    graph = helper.make_graph([node], "adder", [sides[0]], [sides[1]], [constant])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), file)
    return file


def ask(url: str, model: str) -> tuple[float, str]:
    """The first number for X = 0, and the version that answered."""
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}
    body = json.dumps({"inputs": [tensor]}).encode()
    request = urllib.request.Request(f"{url}/v2/models/{model}/infer", data=body)
    with urllib.request.urlopen(request, timeout=30) as answer:
        document = json.load(answer)
    return document["outputs"][0]["data"][0], document["model_version"]


@dataclass
class Client:
    """Asks without a pause, and keeps every answer and every failure."""

    url: str
    model: str
    answers: list[tuple[float, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _enough: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Client:
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def _work(self) -> None:
        while not self._enough.is_set():
            try:
                self.answers.append(ask(self.url, self.model))
            except (OSError, urllib.error.HTTPError) as error:
                self.failures.append(repr(error))

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()


@dataclass
class Box:
    """An operator with one served deployment, ``adder``, whose checkpoint is `graph`."""

    operator: Operator
    graph: Path

    @property
    def server(self) -> dict[str, object]:
        (one,) = [s for s in self.operator.json("services")["services"] if s["pid"]]
        return one

    @property
    def url(self) -> str:
        return str(self.server["endpoint"]["url"])  # type: ignore[index]

    @property
    def work(self) -> Path:
        return self.operator.home / "state" / "work"

    def versions(self, name: str = "adder") -> dict[str, object]:
        found: dict[str, object] = self.operator.json("versions", name)["versions"]
        return found

    def models(self) -> set[str]:
        return {f.name for f in (self.work / "adder" / "repository").iterdir() if f.is_dir()}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    managed("embedded")
    operator = Operator(tmp_path)
    graph = make_adder(tmp_path / "adder.onnx", 1)
    try:
        operator.does("deploy", str(graph), "--name", "adder", *ANY_PORTS)
        yield Box(operator, graph)
    finally:
        operator.leave()
    until(lambda: not operator.processes())


def test_a_new_version_takes_over_without_one_failed_request(box: Box):
    pid = box.server["pid"]
    with Client(box.url, "adder") as client:
        make_adder(box.graph, 2)
        box.operator.does("deploy", "adder")
    assert client.failures == []
    numbers = [answer for answer, _ in client.answers]
    assert numbers == sorted(numbers), "an answer of the old version after one of the new"
    assert set(client.answers) == {(1.0, "1"), (2.0, "2")}
    assert box.server["pid"] == pid
    assert box.versions()["live"] == 2
    assert box.models() == {"adder"}


def test_the_same_again_makes_no_version(box: Box):
    box.operator.does("deploy", "adder")
    assert [one["number"] for one in box.versions()["versions"]] == [1]  # type: ignore[index, attr-defined]


def test_a_rollback_goes_back_and_forth_without_one_failed_request(box: Box):
    make_adder(box.graph, 2)
    box.operator.does("deploy", "adder")
    with Client(box.url, "adder") as client:
        said = box.operator.does("rollback", "adder")
        box.operator.does("rollback", "adder")
    assert said.startswith("version 1 of adder answers at adder-s1\nanswer: Y [1, 4]")
    assert client.failures == []
    seen = [version for _, version in client.answers]
    assert [v for i, v in enumerate(seen) if i == 0 or seen[i - 1] != v] == ["2", "1", "2"]
    assert box.versions()["live"] == 2


@pytest.mark.slow
def test_options_that_made_a_version_take_it_up_again_without_building(box: Box):
    make_adder(box.graph, 2)
    box.operator.does("deploy", "adder")
    box.operator.does("rollback", "adder")
    said = box.operator.does("deploy", "adder")
    assert "unchanged  graph" in said
    assert ask(box.url, "adder") == (2.0, "2")


def test_a_version_with_a_wrong_answer_is_never_seen(box: Box):
    make_adder(box.graph, 2)
    file = box.operator.home / "state" / "deployments" / "adder.toml"
    case = '\n[[verify]]\nfields = { X = "[[0.0, 0.0, 0.0, 0.0]]" }\nexpect = "[1, 1, 1, 1]"\n'
    file.write_text(file.read_text() + case)
    with Client(box.url, "adder") as client:
        box.operator.does("deploy", "adder", code=1)
    assert client.failures == []
    assert set(client.answers) == {(1.0, "1")}
    assert box.versions()["live"] == 1
    assert box.models() == {"adder"}
    health = urllib.request.urlopen(box.url + "/v2/health/ready", timeout=30)
    assert health.status == 200


def test_a_version_that_does_not_load_in_time_leaves_the_old_one_answering(box: Box):
    pid = box.server["pid"]
    make_adder(box.graph, 2)
    with Client(box.url, "adder") as client:
        limit = ("--set", "server.load_timeout=0.01")
        run = box.operator.json("deploy", "adder", *limit, code=1)["run"]
    assert client.failures == []
    assert set(client.answers) == {(1.0, "1")}
    assert "was not loaded within" in run["error"]
    box.operator.does("deploy", "adder", "--set", "server.load_timeout=60")
    assert ask(box.url, "adder") == (2.0, "2")
    assert box.server["pid"] == pid


@pytest.mark.slow
def test_versions_are_pruned_only_when_they_are_named(box: Box):
    for number in (2, 3):
        make_adder(box.graph, number)
        box.operator.does("deploy", "adder")
    repository = box.work / "adder" / "repository" / "adder"
    box.operator.does("clean", "--yes", "--keep", "0")
    assert {f.name for f in repository.iterdir() if f.is_dir()} == {"1", "2", "3"}
    box.operator.does("clean", "--versions", "--keep", "1", "--yes")
    assert {f.name for f in repository.iterdir() if f.is_dir()} == {"2", "3"}
    assert ask(box.url, "adder") == (3.0, "3")
    box.operator.does("rollback", "adder")
    assert ask(box.url, "adder") == (2.0, "2")


@pytest.mark.slow
def test_a_server_that_loads_by_itself_starts_anew_with_a_new_version(box: Box):
    box.operator.does("deploy", "adder", "--set", "server.control=none")
    pid = box.server["pid"]
    assert ask(box.url, "adder")[0] == 1.0
    box.operator.does("deploy", "adder")
    assert box.server["pid"] == pid
    make_adder(box.graph, 2)
    box.operator.does("deploy", "adder")
    assert ask(box.url, "adder")[0] == 2.0
    assert box.server["pid"] != pid
    assert "control" in box.operator.json("rollback", "adder", code=3)["error"]["why"]


def test_a_rollback_needs_somewhere_to_go(box: Box):
    box.operator.does("rollback", "adder", code=2)
    box.operator.does("rollback", "adder", "--to", "1", code=2)
    box.operator.does("rollback", "nothing", code=2)


def test_a_second_deployment_goes_into_the_running_server(box: Box):
    pid, url = box.server["pid"], box.url
    other = make_adder(box.operator.home / "other.onnx", 10)
    with Client(url, "adder") as client:
        box.operator.does("deploy", str(other), "--name", "other", "--set", "server.join=adder")
    assert client.failures == []
    assert box.server["pid"] == pid
    assert ask(url, "other") == (10.0, "1")
    assert "10, 10, 10, 10" in box.operator.does("query", "other", "--input", "X=[[0,0,0,0]]")
    # Its host cannot be forgotten under it, nor can it be forgotten while it is served.
    box.operator.does("forget", "other", code=3)
    # A new version of the guest, and its rollback, leave the host's model alone.
    make_adder(other, 20)
    with Client(url, "adder") as client:
        box.operator.does("deploy", "other")
        box.operator.does("rollback", "other")
    assert client.failures == []
    assert ask(url, "other") == (10.0, "1")


@pytest.mark.slow
def test_a_server_that_starts_anew_has_its_guests_again(box: Box):
    other = make_adder(box.operator.home / "other.onnx", 10)
    box.operator.does("deploy", str(other), "--name", "other", "--set", "server.join=adder")
    box.operator.does("stop", "adder")
    box.operator.does("forget", "adder", code=3)
    box.operator.does("deploy", "adder")
    assert ask(box.url, "other") == (10.0, "1")


@pytest.mark.slow
def test_a_server_that_crashes_comes_back_with_its_guests(box: Box):
    box.operator.does("stop", "adder")
    box.operator.does("deploy", "adder", "--set", "server.restart=on-failure")
    other = make_adder(box.operator.home / "other.onnx", 10)
    box.operator.does("deploy", str(other), "--name", "other", "--set", "server.join=adder")
    url, pid = box.url, box.server["pid"]
    os.kill(pid, signal.SIGKILL)  # type: ignore[arg-type]

    def back() -> bool:
        try:
            return ask(url, "other") == (10.0, "1") and ask(url, "adder") == (1.0, "1")
        except OSError:
            return False

    until(back, 60)


def test_nothing_goes_into_a_server_that_does_not_run(box: Box):
    box.operator.does("stop", "adder")
    other = make_adder(box.operator.home / "other.onnx", 10)
    words = ("deploy", str(other), "--name", "other", "--set", "server.join=adder")
    assert "adder has no running server" in box.operator.json(*words, code=3)["error"]["why"]


def test_a_model_name_of_another_deployment_is_refused(box: Box):
    other = make_adder(box.operator.home / "other.onnx", 10)
    file = box.operator.home / "other.toml"
    file.write_text(
        f'version = 1\nname = "other"\nbackend = "onnx"\nmodel_name = "adder"\n'
        f'[checkpoints]\nmodel = "{other}"\n[server]\njoin = "adder"\n'
    )
    run = box.operator.json("deploy", str(file), code=1)["run"]
    assert "has a model adder already" in run["error"]
    assert ask(box.url, "adder") == (1.0, "1")


@pytest.mark.slow
def test_a_model_that_another_deployments_ensemble_needs_is_not_removed(box: Box):
    other = make_adder(box.operator.home / "other.onnx", 10)
    box.operator.does("deploy", str(other), "--name", "other", "--set", "server.join=adder")
    ensemble = box.work / "adder" / "repository" / "both"
    (ensemble / "1").mkdir(parents=True)
    (ensemble / "config.pbtxt").write_text(ENSEMBLE)
    error = box.operator.json("remove", "other", code=3)["error"]
    assert "both calls other" in error["why"]
    assert ask(box.url, "other") == (10.0, "1")
    (ensemble / "config.pbtxt").unlink()
    box.operator.does("remove", "other")
    with pytest.raises(urllib.error.HTTPError):
        ask(box.url, "other")
    assert ask(box.url, "adder") == (1.0, "1")
    assert box.models() == {"adder", "both"}
    box.operator.does("forget", "other")


ENSEMBLE = """
name: "both"
platform: "ensemble"
max_batch_size: 8
input { name: "X" data_type: TYPE_FP32 dims: 4 }
output { name: "Y" data_type: TYPE_FP32 dims: 4 }
ensemble_scheduling {
  step {
    model_name: "other"
    model_version: -1
    input_map { key: "X" value: "X" }
    output_map { key: "Y" value: "Y" }
  }
}
"""


CALLEE = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.version = int(args["model_version"])

    def execute(self, requests):
        value = np.full((1, 4), self.version, np.float32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", value)]) for _ in requests]
"""

CALLER = """
import json
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.version = int(args["model_version"])
        self.callee = json.loads(args["model_config"])["parameters"]["callee"]["string_value"]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        told = pb_utils.InferenceRequest(
            model_name=self.callee, model_version=self.version, requested_output_names=["Y"],
            inputs=[pb_utils.get_input_tensor_by_name(request, "X")],
        ).exec()
        if told.has_error():
            return pb_utils.InferenceResponse(error=told.error())
        value = told.output_tensors()[0].as_numpy() * 10 + self.version
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", value)])
"""

PAIR = """
name: "{name}"
backend: "python"
max_batch_size: 8
input {{ name: "X" data_type: TYPE_FP32 dims: 4 }}
output {{ name: "Y" data_type: TYPE_FP32 dims: 4 }}
parameters {{ key: "callee" value {{ string_value: "callee" }} }}
"""


def test_models_that_call_each_other_change_version_together(
    make_server: Callable[..., Server],
) -> None:
    server = make_server()
    repository, names = server.repository, ("callee", "caller")
    for number in (1, 2):
        for name, source in zip(names, (CALLEE, CALLER), strict=True):
            folder = repository / name / str(number)
            folder.mkdir(parents=True)
            (folder / "model.py").write_text(source)
            (folder / "config.pbtxt").write_text(PAIR.format(name=name))
    old, new = (Version(number, names, "", "", 0.0) for number in (1, 2))
    for name in names:
        versions.put(repository, name, 1)
    endpoint = server.start().endpoint
    for name in names:
        control.load(endpoint, name)
    with Client(endpoint.url, "caller") as client:
        staged = switching.stage(endpoint, repository, names, 2)
        for name in staged.values():
            control.load(endpoint, name)
        assert ask(endpoint.url, staged["caller"]) == (22.0, "2")
        switching.unstage(endpoint, repository, staged, print)
        switching.switch(endpoint, repository, old, new)
        switching.switch(endpoint, repository, new, old)
    assert client.failures == []
    assert set(client.answers) == {(11.0, "1"), (22.0, "2")}
    assert {f.name for f in repository.iterdir()} == set(names)


def test_the_services_say_how_they_are_reached_from_elsewhere(box: Box):
    box.operator.env["SSH_CONNECTION"] = "10.0.0.5 51022 192.0.2.7 22"
    found = box.operator.json("services")
    port = box.url.rpartition(":")[2]
    command = found["forwarding"]["adder-s1"]
    assert command.startswith(f"ssh -N -L {port}:127.0.0.1:{port} -L ")
    assert command.endswith("@192.0.2.7")
    assert command in box.operator.does("services")
