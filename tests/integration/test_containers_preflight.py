"""What is told about a plan's containers before anything starts, asked of real engines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from console.facts import Level, Verdict
from console.planning.plan import Command, CommandStep, Container, ImageSpec, Mount, Plan
from console.runtimes import engine_checks
from tests.containers import REFERENCE, Engine

PRESENT = ImageSpec(name="server", reference=REFERENCE)


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


def verdicts(
    engine: str,
    image: ImageSpec = PRESENT,
    work: Path = Path("/"),
    stubs: int = 0,
    **container: Any,
) -> dict[str, Verdict]:
    command = Command(argv=("true",), runtime="image:server", container=Container(**container))
    step = CommandStep(id="build", title="Build", command=command)
    plan = Plan.model_validate(
        {"deployment": "d", "backend": "b", "engine": engine, "images": (image,), "steps": (step,)}
    )
    return {v.check: v for v in engine_checks.checks(plan, {"work": str(work)}, stubs)}


def test_an_engine_with_the_image_passes(engine: Engine) -> None:
    found = verdicts(engine.name)
    assert {v.level for v in found.values()} == {Level.PASS}
    assert engine.name in found["container-engine"].figure
    assert REFERENCE in found["container-image"].summary


def test_an_image_to_be_pulled_is_told(engine: Engine) -> None:
    image = ImageSpec(name="server", reference="nvcr.io/nvidia/tritonserver:99.99-py3")
    found = verdicts(engine.name, image)["container-image"]
    assert found.level is Level.WARN and "will be pulled first" in found.summary


def test_an_archive_that_is_not_there_fails(engine: Engine, tmp_path: Path) -> None:
    image = ImageSpec(name="server", reference="a/b:c", tar=str(tmp_path / "none.tar"))
    assert verdicts(engine.name, image)["container-image"].level is Level.FAIL


def test_an_engine_that_does_not_answer_fails_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere")
    (found,) = verdicts("docker").values()
    assert found.level is Level.FAIL and "systemctl start docker" in found.fix


def test_gpus_need_what_the_engine_does_not_have_here(engine: Engine) -> None:
    found = verdicts(engine.name, gpus="0")["container-gpus"]
    assert found.level is Level.FAIL and "nvidia-ctk" in found.fix


@pytest.mark.parametrize(
    ("mode", "level"), [(0o600, Level.FAIL), (0o644, Level.PASS), (0o700, Level.FAIL)]
)
def test_what_the_containers_user_cannot_read_is_named(
    engine: Engine, tmp_path: Path, mode: int, level: Level
) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "model.py"
    file.touch()
    file.chmod(mode)
    mount = Mount(source="${work}", target="/models")
    found = verdicts(engine.name, work=tmp_path, mounts=(mount,), user="1000:1000")
    assert found["container-mounts"].level is level
    if level is Level.FAIL:
        assert str(file) in found["container-mounts"].figure


def test_the_callers_own_private_files_can_be_read_by_it(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0o600)
    mount = Mount(source="${work}", target="/models")
    found = verdicts(engine.name, work=tmp_path, mounts=(mount,))
    assert found["container-mounts"].level is Level.PASS


def test_limits_that_make_no_sense_are_told(engine: Engine) -> None:
    cpus = (os.cpu_count() or 1) + 1
    found = verdicts(engine.name, memory="1m", cpus=str(cpus), shm_size="1m", stubs=2)
    failed = {check for check, v in found.items() if v.level is Level.FAIL}
    assert failed == {"container-memory", "container-cpus", "container-shm"}
    assert verdicts(engine.name, memory="9000g")["container-memory"].level is Level.WARN
    assert verdicts(engine.name, stubs=2)["container-shm"].level is Level.PASS


def test_a_plan_without_images_asks_no_engine() -> None:
    plan = Plan(deployment="d", backend="b", steps=())
    assert list(engine_checks.checks(plan, {})) == []
