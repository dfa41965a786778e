"""The worker that becomes the embedded server: its check, and what it refuses to start with.

The environments here are real ones: links to the wheel's files, with one thing taken away.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from console.facts import DeckError, Endpoint
from console.triton import control, health
from console.triton.plain_http import request
from tests.support import free_ports, local_triton

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "backends" / "workers" / "triton_server.py"

pytestmark = pytest.mark.integration


def site_packages(environment: Path) -> Path:
    (found,) = (environment / "lib").glob("python3.*/site-packages")
    return found


@pytest.fixture
def variant(tmp_path: Path, embedded_environment: Path) -> Path:
    """An environment of its own that links everything of the embedded one; `pytriton` is a tree of
    links, so that a test can change one file of it."""
    folder = tmp_path / "variant"
    original = site_packages(embedded_environment)
    python = embedded_environment / "bin" / "python"
    make = [str(python), "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(make, check=True)
    target = site_packages(folder)
    for entry in original.iterdir():
        if entry.name == "pytriton":
            shutil.copytree(entry, target / entry.name, copy_function=_link)
        else:
            (target / entry.name).symlink_to(entry)
    return folder


def _link(source: str, target: str) -> None:
    Path(target).symlink_to(source)


def run(environment: Path, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(environment / "bin" / "python"), str(WORKER), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def check(environment: Path, **options) -> dict:
    done = run(environment, "--check", **options)
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["ok"] else 78), done.stderr
    return told


def hide_libpython(environment: Path) -> str:
    """Make the stub need a libpython that no machine has, and return its name.

    The stub stays the real one, but for the name of the library, which has the same length; the
    real loader then looks for it in vain, as on a machine without libpython.
    """
    stubs = site_packages(environment) / "pytriton" / "tritonserver" / "python_backend_stubs"
    version = site_packages(environment).parent.name.removeprefix("python")
    stub = stubs / version / "triton_python_backend_stub"
    name = f"libpython{version}.so.1.0".encode()
    hidden = name.replace(b".so.1", b".so.9")
    content = stub.read_bytes()
    assert name + b"\0" in content
    stub.unlink()
    stub.write_bytes(content.replace(name + b"\0", hidden + b"\0"))
    stub.chmod(0o755)
    return hidden.decode()


def test_a_whole_environment_passes_with_its_facts(embedded_environment):
    told = check(embedded_environment)
    assert (told["ok"], told["problems"]) == (True, [])
    assert told["facts"]["numpy"].startswith("1.")
    assert Path(told["facts"]["libpython"]).is_file()
    assert "--http-restricted-api" in told["facts"]["options"]


def test_a_linked_variant_passes_too(variant):
    assert check(variant)["ok"]


def test_a_hidden_libpython_is_found_out_before_the_server_starts(variant, tmp_path):
    hidden = hide_libpython(variant)
    (problem,) = check(variant)["problems"]
    assert problem["check"] == "libpython"
    assert hidden in problem["summary"]
    assert "install" in problem["fix"] or "use a Python" in problem["fix"]
    done = run(variant, "--folder", str(tmp_path / "state"), "--", "--model-repository=none")
    assert done.returncode == 78
    assert "is not found" in done.stderr
    assert "fix: " in done.stderr


def test_without_that_check_the_load_would_never_return(variant, make_server):
    """Why the check exists: the same server, started around it, hangs in the load."""
    hide_libpython(variant)
    server = make_server()
    server.environment = variant
    server.add("identity")
    around = WORKER.read_text().replace("raise problems[0]", "pass")
    server.folder.joinpath("around.py").write_text(around)
    server.worker = server.folder / "around.py"
    server.start()
    with pytest.raises(DeckError, match="not loaded within 3"):
        control.load(server.endpoint, "identity", timeout=3)


def test_numpy_2_is_refused_with_the_command_that_mends_it(variant):
    packages = site_packages(variant)
    for entry in packages.glob("numpy-*.dist-info"):
        entry.unlink()
    facts = packages / "numpy-2.2.6.dist-info"
    facts.mkdir()
    facts.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.2.6\n")
    (problem,) = check(variant)["problems"]
    assert "NumPy 2.2.6" in problem["summary"]
    assert "numpy<2" in problem["fix"]


def test_an_environment_without_the_wheel_is_told_so(variant):
    shutil.rmtree(site_packages(variant) / "pytriton")
    (problem,) = check(variant)["problems"]
    assert "no Triton server" in problem["summary"]


def test_a_python_without_a_stub_is_told_which_ones_have_one(variant):
    stubs = site_packages(variant) / "pytriton" / "tritonserver" / "python_backend_stubs"
    shutil.rmtree(stubs / site_packages(variant).parent.name.removeprefix("python"))
    (problem,) = check(variant)["problems"]
    assert problem["check"] == "python-stub"
    assert "3.9" in problem["fix"]


def test_another_build_of_the_same_python_is_refused(embedded_environment):
    """The real libpython, seen from an interpreter that says it is another patch release."""
    program = (
        "import importlib.util, platform, sys\n"
        f"spec = importlib.util.spec_from_file_location('worker', {str(WORKER)!r})\n"
        "worker = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(worker)\n"
        "platform.python_version = lambda: '3.%d.99' % sys.version_info[1]\n"
        "print([p.summary for p in worker.examine()[1]])\n"
    )
    python = embedded_environment / "bin" / "python"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    assert "multiprocessing would fail" in done.stdout


@pytest.mark.parametrize("content", ["", "short", "has space in it, and is long enough"])
def test_a_token_that_is_none_is_refused_and_not_shown(embedded_environment, tmp_path, content):
    (tmp_path / "token").write_text(content)
    arguments = ("--folder", str(tmp_path / "state"), "--token-file", str(tmp_path / "token"))
    done = run(embedded_environment, *arguments, "--", "--model-repository=none")
    assert done.returncode == 78
    assert not content or content not in done.stderr


def test_the_worker_is_python_3_8_syntax_and_standard_library_only():
    tree = ast.parse(WORKER.read_text(), feature_version=(3, 8))
    roots = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
    }
    assert roots <= sys.stdlib_module_names


# ---------------------------------------------------------------------------- any other server


@pytest.fixture
def installation(tmp_path: Path, embedded_environment: Path) -> Path:
    """A Triton as an installation has it, of the wheel's files, with one more Triton backend."""
    prefix = tmp_path / "opt" / "tritonserver"
    local_triton(prefix)
    other = prefix / "backends" / "onnxruntime"
    other.mkdir()
    (other / "libtriton_onnxruntime.so").touch()
    return prefix


def test_a_program_is_asked_for_version_options_backends_and_the_python_of_its_models(
    installation: Path, embedded_environment: Path
) -> None:
    program = f"--program={installation}/bin/tritonserver"
    told = json.loads(run(embedded_environment, "--check", program).stdout)
    facts = told["facts"]
    assert told["ok"] and facts["version"] == "2.51.0"
    assert facts["backends"] == ["ensemble", "onnxruntime", "python"]
    assert facts["stub_python"] == site_packages(embedded_environment).parent.name[6:]
    assert "--model-control-mode" in facts["options"]
    assert "--allow-client-shm" not in facts["options"]
    assert facts["packages"]["numpy"].startswith("1.")


def test_a_program_that_is_not_there_is_said_before_anything_starts(
    embedded_environment: Path,
) -> None:
    done = run(embedded_environment, "--program=/no/such/tritonserver", "--", "--id=x")
    assert done.returncode == 78 and "/no/such/tritonserver" in done.stderr
    assert "fix:" in done.stderr


def test_options_of_newer_releases_are_left_out_and_the_rest_is_behind_the_token(
    installation: Path, embedded_environment: Path, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("worker-test-token-0123456789")
    (tmp_path / "models").mkdir()
    http, grpc, metrics = free_ports(3)
    argv = [
        str(embedded_environment / "bin" / "python"),
        str(WORKER),
        f"--program={installation}/bin/tritonserver",
        f"--token-file={tmp_path}/token",
        "--if-known=--allow-client-shm=true",
        "--restrict=model-repository,statistics",
        "--",
        f"--model-repository={tmp_path}/models",
        "--model-control-mode=explicit",
    ]
    for name, port in (("http", http), ("grpc", grpc), ("metrics", metrics)):
        argv += [f"--{name}-address=127.0.0.1", f"--{name}-port={port}"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            endpoint = Endpoint(f"http://127.0.0.1:{http}", token_file=tmp_path / "token")
            health.wait_live(endpoint, alive=lambda: server.poll() is None)
            words = Path(f"/proc/{server.pid}/cmdline").read_text().split("\0")
            assert "--allow-sagemaker=false" in words and "--allow-vertex-ai=false" in words
            assert not [word for word in words if "client-shm" in word]
            anybody = Endpoint(endpoint.url)
            assert request(anybody, "/v2/models/stats").status == 403
            assert request(endpoint, "/v2/models/stats", token=True).ok
            assert request(anybody, "/v2").ok
        finally:
            server.terminate()
