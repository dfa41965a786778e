"""Whether libpython can be found, asked of the real loader's places, with the library really hidden."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from console.facts import DeckError, Level
from console.runtimes import interpreter, libpython

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]

# The interpreter is asked first: one that is linked with the library does not start without it.
HIDDEN = """
import json, os, subprocess, sys
from pathlib import Path
from console.runtimes import interpreter, libpython

asked = interpreter.ask(Path(sys.argv[1]))
soname = f"libpython{asked.short}.so.1.0"
before = libpython.judge(asked)
places = {path.resolve() for path in libpython._candidates(asked, soname, os.environ)}
for place in places:
    if place.is_file():
        subprocess.run(["mount", "--bind", "/dev/null", place], check=True)
after = libpython.judge(asked)
print(json.dumps([[v.level, v.summary, v.figure, v.fix] for v in (before, after)]))
"""


def own() -> interpreter.Interpreter:
    return interpreter.ask(Path(sys.executable))


def test_a_hidden_library_fails_with_the_place_and_the_cure() -> None:
    unshare = shutil.which("unshare")
    assert unshare, "scripts/system-packages names what the tests need"
    namespace = (unshare, "--user", "--map-root-user", "--mount")
    done = subprocess.run(
        [*namespace, sys.executable, "-c", HIDDEN, sys.executable],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)
    assert before[0] == Level.PASS, before
    level, summary, figure, fix = after
    assert level == Level.FAIL
    assert "would wait for ever" in summary
    assert str(own().base_prefix / "lib") in figure
    assert fix


def test_the_library_that_is_found_is_the_interpreters_own() -> None:
    found = libpython.find(own())
    assert found is not None
    assert found.version == own().text


def test_a_broken_file_of_the_right_name_is_passed_over(tmp_path: Path) -> None:
    asked = own()
    (tmp_path / "lib").mkdir()
    broken = tmp_path / "lib" / f"libpython{asked.short}.so.1.0"
    broken.write_text("not a library")
    moved = replace(asked, base_prefix=tmp_path, library_folder=tmp_path / "lib")
    real = libpython.find(asked)
    assert real is not None
    found = libpython.find(moved, {"LD_LIBRARY_PATH": str(real.path.parent)})
    assert found is not None
    assert found.path != broken


def test_the_library_of_another_patch_release_is_a_warning() -> None:
    other = replace(own(), version=(*sys.version_info[:2], 99))
    verdict = libpython.judge(other)
    assert verdict.level is Level.WARN
    assert f"Python is {other.text}" in verdict.figure


def test_what_is_no_python_is_said_in_words() -> None:
    with pytest.raises(DeckError, match="is no working Python"):
        libpython.check(Path("/bin/true"))


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("/home/me/.pyenv/versions/3.11.7", "--enable-shared pyenv install --force 3.11.7"),
        ("/home/me/.local/share/uv/python/cpython-3.11.7", "uv python install --reinstall"),
        ("/opt/python", "--enable-shared, or set TRITONDECK_PYTHON"),
    ],
)
def test_the_cure_fits_how_python_was_installed(prefix: str, words: str) -> None:
    assert words in libpython.how_to_install(replace(own(), base_prefix=Path(prefix)))


def test_the_cure_for_conda_is_condas(tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    assert libpython.how_to_install(replace(own(), base_prefix=tmp_path)).startswith(
        "conda install"
    )
