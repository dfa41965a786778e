"""The floors hold: what imports what, and what a start does not load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINE = sorted(
    {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("console", "backends")
        for file in (ROOT / package).rglob("*.py")
        if file.relative_to(ROOT).parts[:2]
        # workers and models run in environments of their own; the screen is the rest
        not in (("backends", "workers"), ("backends", "models"))
    }
    - {"console.app", "console.commands", "console.driver", "console.cells"}
)
LOADED = "import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"


def loaded_after(code: str) -> set[str]:
    """Every module that a fresh interpreter has loaded after running `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{LOADED}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def loaded_by(*words: str) -> set[str]:
    """Every module that ``tritondeck WORDS`` has loaded when it ends."""
    return loaded_after(
        "import console.cli, sys\n"
        "try:\n"
        f"    status = console.cli.main({list(words)!r})\n"
        "except SystemExit as end:\n"
        "    status = end.code\n"
        "assert not status, status"
    )


def packages(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def test_the_import_contracts_hold() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_everything_below_the_screens_runs_without_textual() -> None:
    loaded = loaded_after("\n".join(f"import {module}" for module in ENGINE))
    assert set(ENGINE) <= loaded
    assert packages(loaded).isdisjoint({"textual", "rich", "screens", "themes"})


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("deploy", "--help")], ids=" ".join)
def test_help_loads_no_library(words: tuple[str, ...]) -> None:
    heavy = {"textual", "rich", "tritonclient", "numpy", "pydantic", "yaml", "psutil", "onnx"}
    assert packages(loaded_by(*words)) & heavy == set()


def test_listing_backends_imports_none_of_them() -> None:
    loaded = loaded_by("backends")
    assert packages(loaded).isdisjoint({"textual", "rich", "tritonclient", "numpy", "onnx", "PIL"})
    assert "backends.onnx" not in loaded


def test_package_files_are_empty() -> None:
    """An import of one module must not pull in its neighbours."""
    files = [
        file
        for package in ("console", "screens", "backends", "themes")
        for file in (ROOT / package).rglob("__init__.py")
    ]
    assert files
    assert [file for file in files if file.read_text().strip()] == []
