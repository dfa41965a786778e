"""The examples' scripts, run by plain bash on a path without tritondeck, to a served right answer.

The digits' script is run by `test_main_job`, on every change.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Operator, managed, until_gone

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.integration, pytest.mark.slow]
NEEDS = {"facts": ("inframework",), "shapes": ("nemo", "retrieval", "embedded")}


@pytest.mark.parametrize("example", sorted(NEEDS))
def test_the_script_of_an_example_serves_right_answers_by_bash_alone(
    tmp_path: Path, example: str
) -> None:
    operator = Operator(tmp_path / "home")
    deployment = ROOT / "examples" / example / "deployment.toml"
    script = tmp_path / "deploy.sh"
    script.write_text(operator.does("plan", str(deployment), "--script"), encoding="utf-8")
    made = {f"ENV_{name.upper()}": str(managed(name)) for name in NEEDS[example]}
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHON": sys.executable, **made}
    done = subprocess.run(
        ["bash", str(script)],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("done")
    until_gone(str(tmp_path))
