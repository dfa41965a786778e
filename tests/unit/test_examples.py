"""Each deployment in examples/ can be planned, and its plan printed as a script, on any machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from console.planning.deployment import load
from tests import shell

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "examples").glob("*/*.toml"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_its_plan_is_printed_as_a_clean_script(file: Path, tmp_path: Path) -> None:
    script = tmp_path / "deploy.sh"
    with script.open("wb") as out:
        subprocess.run(
            [sys.executable, "-m", "console.cli", "plan", str(file), "--as", "script"],
            cwd=ROOT,
            env={"PATH": os.defpath, "HOME": str(tmp_path), "TRITONDECK_HOME": str(tmp_path)},
            stdout=out,
            check=True,
        )
    assert script.read_text(encoding="utf-8").startswith("#!/")
    shell.clean(script.read_text(encoding="utf-8"))


def test_no_two_examples_share_a_name_and_each_says_what_must_be_answered() -> None:
    loaded = [load(file) for file in FILES]
    assert len({one.name for one in loaded}) == len(loaded) >= 6
    assert all(case.expect for one in loaded for case in one.verify)
    assert all(one.verify for one in loaded)
