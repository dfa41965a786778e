"""The wheel, installed outside the checkout: what is in it, how large it is, that it deploys."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.runtimes.environments import disk_usage
from tests.support import ANY_PORTS, Operator, make_doubler

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PACKAGES = ("console", "screens", "backends", "themes")
LARGEST = 260 * 1024**2
"""Bytes of the whole venv after a deployment, pip among them: 260 as ``du -sm`` counts."""


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: what an earlier build left in the checkout must not get into it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", out, source, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty virtual environment with the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    quiet = ("--no-input", "--quiet", "--disable-pip-version-check", "--no-compile")
    run(folder / "bin" / "python", "-m", "pip", "install", *quiet, wheel, cwd=folder.parent)
    return folder


@pytest.fixture(scope="module")
def operator(venv: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    operator = Operator(tmp_path_factory.mktemp("home"), (str(venv / "bin" / "tritondeck"),))
    yield operator
    operator.leave()


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    ours = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert held == ours


def test_the_installed_console_is_whole(operator: Operator, venv: Path) -> None:
    assert "onnx" in operator.does("backends")
    code = (
        "import console, pathlib; from backends import environments, registry, sources\n"
        "from screens import home; import console.app\n"
        "assert {'nemo', 'embedded'} <= set(environments.entries())\n"
        "assert sources.worker('triton_server').text\n"
        "assert registry.get('onnx').name == 'onnx'\n"
        "print(pathlib.Path(console.app.__file__))"
    )
    place = run(venv / "bin" / "python", "-I", "-c", code, cwd=venv)
    assert place.startswith(str(venv))


def test_it_deploys_and_stays_small(operator: Operator, venv: Path, tmp_path: Path) -> None:
    model = make_doubler(tmp_path)
    deployed = operator.json("deploy", str(model), *ANY_PORTS)["run"]
    assert deployed["state"] == "succeeded"
    (output,) = operator.json("query", "doubler", "--input", "X=[[1, 2, 3, 4]]")["outputs"]
    assert output["values"] == [2, 4, 6, 8]
    (service,) = operator.json("services")["services"]
    operator.does("stop", service["id"])
    size = disk_usage(venv)
    print(f"the venv takes {size / 1e6:.0f} MB")
    assert size <= LARGEST
