"""The generated documents are those of the code, and no environment variable is undocumented."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
VARIABLES = ROOT / "docs" / "reference" / "environment-variables.md"
# Set by us for processes of ours; nobody else sets or reads it.
INTERNAL = {"TRITONDECK_KEPT"}


def test_the_generated_documents_are_not_stale() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make-reference"), "--check"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr


def test_every_variable_of_ours_is_documented_and_no_other() -> None:
    sources = [
        file.read_text(encoding="utf-8")
        for folder in ("console", "backends", "screens")
        for file in (ROOT / folder).rglob("*.py")
    ]
    read = {name for text in sources for name in re.findall(r"\bTRITONDECK_[A-Z_]+", text)}
    told = set(re.findall(r"^\| `(TRITONDECK_[A-Z_]+)`", VARIABLES.read_text("utf-8"), re.M))
    assert read - INTERNAL == told
