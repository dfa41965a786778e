"""A defect of ours in a verb: one line, a private file, and no value of a local anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCAL = "canary-of-a-local-variable"
SHAPED = "hf_" + "q" * 30
NAMED = "value-of-a-token-variable"

# The verb fails with two secrets in its message; a third is in a local only.
PROGRAM = """
import os, sys
from console import cli
from console.verbs import doctor

def broken(args):
    local = "-".join(["canary", "of", "a", "local", "variable"])
    shaped = "hf_" + 30 * "q"
    raise ZeroDivisionError(f"{shaped} {os.environ['A_TOKEN']} \\x1b]0;title\\x07")

doctor.doctor = broken
sys.exit(cli.main(sys.argv[1:]))
"""


def crashing(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "doctor", *words],
        env={"PATH": os.environ["PATH"], "TRITONDECK_HOME": str(home), "A_TOKEN": NAMED},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def report(home: Path) -> str:
    (saved,) = (home / "state" / "crashes").iterdir()
    assert saved.stat().st_mode & 0o777 == 0o600
    return saved.read_text(encoding="utf-8")


def test_a_defect_is_one_line_and_a_private_file(tmp_path: Path) -> None:
    done = crashing(tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("tritondeck: internal error (ZeroDivisionError); details in ")
    assert str(tmp_path / "state" / "crashes") in line
    assert "in broken" in report(tmp_path)  # where it happened


def test_a_defect_is_json_where_json_was_asked_for(tmp_path: Path) -> None:
    done = crashing(tmp_path, "--json")
    assert done.returncode == 1
    assert done.stderr == ""
    error = json.loads(done.stdout)["error"]
    assert "ZeroDivisionError" in error["title"]
    assert error["exit_code"] == 1


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_no_secret_of_a_defect_is_shown_or_saved(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = crashing(tmp_path, *words)
    everything = done.stdout + done.stderr + report(tmp_path)
    assert [s for s in (LOCAL, SHAPED, NAMED, "\x1b", "\\u001b") if s in everything] == []


def test_a_defect_that_cannot_be_saved_is_said_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    done = crashing(tmp_path)
    assert done.returncode == 1
    assert done.stderr == "tritondeck: internal error (ZeroDivisionError). Runs go on.\n"
