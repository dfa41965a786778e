"""The list that the first screen shows before anything heavy is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from console import settings
from console.desk.desk import Desk

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits.nemo"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(settings.load({"TRITONDECK_HOME": str(tmp_path)}))
    for number in range(3):
        file = desk.save(desk.draft(DIGITS, "onnx", f"digits-{number}"))
        os.utime(file, (1e9 + number, 1e9 + number))
    return desk


def test_a_glance_shows_what_the_whole_look_shows(desk: Desk) -> None:
    assert desk.glance() == desk.deployments()
    assert [view.name for view in desk.glance()] == ["digits-2", "digits-1", "digits-0"]


def test_a_glance_does_not_claim_to_know_the_servers(desk: Desk) -> None:
    (desk.settings.folders.services / "digits-1-s1").mkdir(parents=True)
    assert not any(view.seen for view in desk.glance())
    assert [replace(view, seen=True) for view in desk.glance()] == list(desk.deployments())


@pytest.mark.parametrize("text", [b"\xff", b"name = ", b"checkpoints = 3\n"])
def test_a_file_that_cannot_be_read_at_a_glance_is_listed(desk: Desk, text: bytes) -> None:
    (desk.settings.folders.deployments / "broken.toml").write_bytes(text)
    assert "broken" in [view.name for view in desk.glance()]
    assert next(view for view in desk.deployments() if view.name == "broken").problem


def test_the_first_screen_needs_neither_pydantic_nor_a_plan(desk: Desk, tmp_path: Path) -> None:
    code = (
        "import sys, console.cli, console.verbs.common, console.app\n"
        "from console import settings\n"
        "from console.desk.desk import Desk\n"
        "assert Desk(settings.load()).glance()\n"
        "print({'pydantic', 'pydantic_core', 'console.planning.plan'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TRITONDECK_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"
