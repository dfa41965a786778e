"""The backend that CONTRIBUTING.md shows is a real one."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from backends import registry
from backends.base import Backend
from console.facts import Level, ToolFacts
from console.planning.deployment import Deployment
from console.planning.plan import Inference, Plan, VerifyStep, WriteStep
from console.planning.script import render
from tests.contract import samples

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


def block(language: str) -> str:
    (text,) = re.findall(
        rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S
    )
    return text


@pytest.fixture
def documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """It, as an installed distribution has it: metadata, entry point and module."""
    project = tomllib.loads(block("toml"))["project"]
    points = project["entry-points"][registry.GROUP]
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    listed = "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{listed}")
    ((name, value),) = points.items()
    module = value.partition(":")[0]
    (tmp_path / f"{module}.py").write_text(block("python"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, module, raising=False)
    return registry.get(name)


@pytest.fixture
def plan(documented: Backend) -> Plan:
    checkpoint = samples.speech()
    deployment = Deployment(
        name="big", backend="size", checkpoints={"model": "/m.nemo"}, options={"scale": 1000}
    )
    assert documented.accepts({"model": checkpoint}).level is Level.PASS
    return documented.plan(deployment, {"model": checkpoint}, samples.HOST, ToolFacts())


def test_the_documented_backend_plans_a_deployment_that_is_proven(plan: Plan) -> None:
    verify = plan.steps[-1]
    assert isinstance(verify, VerifyStep)
    (probe,) = verify.success
    assert isinstance(probe, Inference)
    assert probe.expect[0].equals == (samples.speech().size // 1000,)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_the_model_that_it_writes_is_python(plan: Plan) -> None:
    write = plan.step("repository")
    assert isinstance(write, WriteStep)
    (model,) = (file.text for file in write.files if file.path.endswith("1/model.py"))
    compile(model, "model.py", "exec")
    assert "[2000]" in model


def test_its_plan_becomes_a_script(plan: Plan) -> None:
    assert "triton_server.py" in render(plan)
