"""Images that a plan's step makes: loaded from an archive, pulled from a registry, built on a base."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from console.planning.plan import ImageSpec, ImageStep, Plan
from console.runs.model import RunState, RunView, StepState
from console.runs.store import RunStore
from console.runtimes.images import Layers
from console.settings import PackageSettings, Settings
from tests.containers import REFERENCE, Daemon, Engine
from tests.integration.test_containers_runs import inside
from tests.processes import ended, settings_at
from tests.wheels import make_wheel


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    found: Engine = request.getfixturevalue(request.param)
    before = set(found("images", "--format", "{{.Repository}}:{{.Tag}}").split())
    yield found
    found.remove_all()
    made = set(found("images", "--format", "{{.Repository}}:{{.Tag}}").split()) - before
    for image in made:
        found("rmi", "--force", image, code=None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_at(tmp_path / "home")


def executed(settings: Settings, engine: Engine, image: ImageSpec, script: str = "true") -> RunView:
    store = RunStore(settings)
    then = (inside("build", script),) if script else ()
    plan = Plan.model_validate(
        {
            "deployment": "digits", "backend": "test", "engine": engine.name, "images": (image,),
            "steps": (ImageStep(id="image", title="Image", image="server"), *then),
        }
    )  # fmt: skip
    run_id = store.create(plan, "")
    store.start(run_id)
    return ended(store, run_id, 90)


def test_an_archive_is_loaded_where_no_registry_is_reached(
    settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    name = "registry.invalid/digits/server:1"
    with tarfile.open(tmp_path / "root.tar", "w") as root:
        root.add(__file__, "file")
    engine("import", str(tmp_path / "root.tar"), name)
    archive = tmp_path / "an image.tar"
    engine("save", "--output", str(archive), name)
    engine("rmi", name)
    image = ImageSpec(name="server", reference=name, tar=str(archive))
    view = executed(settings, engine, image, script="")
    assert view.state is RunState.SUCCEEDED, view.error
    found = engine("images", "--quiet", "--no-trunc", name)
    assert found
    pinned = image.model_copy(update={"digest": "sha256:" + "0" * 64})
    view = executed(settings, engine, pinned, script="")
    assert view.state is RunState.FAILED and "not the one that is pinned" in view.error


def test_an_archive_of_something_else_is_told(
    settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    archive = tmp_path / "no.tar"
    archive.write_bytes(b"this is no archive" * 100)
    image = ImageSpec(name="server", reference="registry.invalid/x:1", tar=str(archive))
    view = executed(settings, engine, image)
    assert view.state is RunState.FAILED
    assert "the image's archive cannot be read" in view.error, view.error


def test_a_registry_that_is_not_reached_is_told(settings: Settings, engine: Engine) -> None:
    image = ImageSpec(name="server", reference="registry.invalid/x:1")
    view = executed(settings, engine, image)
    assert view.state is RunState.FAILED and "the registry cannot be reached" in view.error
    assert "tar file" in view.fix or "tar file" in view.error


@pytest.mark.parametrize(
    "engine", ["docker", pytest.param("podman", marks=pytest.mark.slow)], indirect=True
)
def test_a_derived_image_has_the_requirements_of_the_models(
    settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    make_wheel(tmp_path / "wheels", "deck_answer", code="answer = 42\n")
    packages = PackageSettings(wheelhouse=str(tmp_path / "wheels"), offline=True)
    image = ImageSpec(name="server", base=REFERENCE, requirements=("deck-answer==1.0",))
    with_wheels = replace(settings, packages=packages)
    view = executed(
        with_wheels, engine, image, "python3 -c 'import deck_answer; print(deck_answer.answer)'"
    )
    assert view.state is RunState.SUCCEEDED, view.error
    assert "42\n" in RunStore(with_wheels).log_file(view.id, "build").read_text()
    again = executed(with_wheels, engine, image)
    assert again.steps[0].state is StepState.SKIPPED


def test_a_base_that_is_not_here_is_not_pulled_by_a_build(
    settings: Settings, engine: Engine
) -> None:
    image = ImageSpec(name="server", base="registry.invalid/x:1", requirements=("a==1",))
    view = executed(settings, engine, image)
    assert view.state is RunState.FAILED
    assert "the base image registry.invalid/x:1 is not here" in view.error


def test_an_index_with_a_password_is_never_put_into_an_image(
    settings: Settings, docker: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:secret-word@index.invalid/simple")
    image = ImageSpec(name="server", base=REFERENCE, requirements=("a==1",))
    view = executed(settings, docker, image)
    assert view.state is RunState.FAILED and "password" in view.error
    assert "secret-word" not in RunStore(settings).log_file(view.id, "image").read_text()


def test_layers_of_a_pull_become_progress(capsys: pytest.CaptureFixture[str]) -> None:
    layers = Layers()
    for line in (
        "24.10-py3: Pulling from nvidia/tritonserver",
        "aaaaaaaaaaaa: Pulling fs layer",
        "bbbbbbbbbbbb: Pulling fs layer",
        "aaaaaaaaaaaa: Download complete",
        "aaaaaaaaaaaa: Pull complete",
        "bbbbbbbbbbbb: Pull complete",
    ):
        layers.line(line)
    said = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert said == ["0.000", "0.000", "0.245", "0.490", "0.980"]
