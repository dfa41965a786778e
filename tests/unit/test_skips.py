"""A skipped test fails the session that runs it, with and without worker processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    "test_inside": "def test_one(): pytest.skip('why')",
    "test_module": "pytest.importorskip('no_such_module')",
    "test_empty": "@pytest.mark.parametrize('x', [])\ndef test_one(x): pass",
    "test_expected": "@pytest.mark.xfail\ndef test_one(): assert False",
    "test_unexpected": "@pytest.mark.xfail\ndef test_one(): pass",
}


def session(folder: Path, workers: int) -> subprocess.CompletedProcess[str]:
    """Run the tests of `folder`, with a kept one among them, under this project's conftest.py."""
    (folder / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (folder / "test_kept.py").write_text("def test_two(): pass\n")
    words = ["-q", "-p", "no:cacheprovider", f"-n{workers}", f"-opythonpath={ROOT}"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words, f"--rootdir={folder}", str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_skipped_test_of_any_kind_fails_the_session_by_name(tmp_path: Path, workers: int) -> None:
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(f"import pytest\n{text}\n")
    done = session(tmp_path, workers)
    told = [line.split()[1] for line in done.stdout.splitlines() if "must not be skipped" in line]
    assert sorted(word.partition(".py")[0] for word in told) == sorted(FILES), done.stdout
    assert done.returncode == 1 and "1 passed" in done.stdout


def test_a_session_without_skipped_tests_ends_well(tmp_path: Path) -> None:
    done = session(tmp_path, 0)
    assert done.returncode == 0 and "must not be skipped" not in done.stdout
