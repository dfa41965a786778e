"""A pretend driver: `assets/fakenvml.c` built, and code run in a process that finds it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent / "assets" / "fakenvml.c"
SONAME = "libnvidia-ml.so.1"


def build(folder: Path, version: str = "") -> Path:
    """Compile the library into `folder`, which then belongs on LD_LIBRARY_PATH; returns it."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise RuntimeError("no C compiler: the tests of NVML build a pretend driver (install gcc)")
    told = [f'-DVERSION="{version}"'] if version else []
    subprocess.run(
        [compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", *told,
         f"-Wl,-soname,{SONAME}", "-o", str(folder / SONAME), str(SOURCE)],
        check=True,
    )  # fmt: skip
    return folder


def environ(library: Path | None, **settings: str) -> dict[str, str]:
    """Our environment with `settings` (``FAKENVML_…``); the loader finds the library as a driver's."""
    found = {k: v for k, v in os.environ.items() if not k.startswith("FAKENVML")} | settings
    return found if library is None else found | {"LD_LIBRARY_PATH": str(library)}


def run_script(script: str, library: Path | None, **settings: str) -> Any:
    """What `script` prints as JSON, from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environ(library, **settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
