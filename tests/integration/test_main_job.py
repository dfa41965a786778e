"""The main job on the spoken digits: the command line, the script, and the held-out sounds.

The export runs once; the tests share the deployment's state folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console import settings
from console.desk.desk import Desk
from tests.support import Operator, managed, until_gone

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits"
DEPLOYMENT = DIGITS / "deployment.toml"


def manifest(file: Path) -> list[tuple[Path, str]]:
    lines = file.read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return [(file.parent / e["audio"], e["text"]) for e in entries]


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    managed("nemo")
    managed("embedded")
    person = Operator(tmp_path_factory.mktemp("main-job"))
    yield person
    person.leave()


@pytest.fixture(scope="module")
def left_quickstart(operator: Operator) -> tuple[int, str]:
    """Exit code and words of a quickstart that was left with Ctrl-C in its first steps."""
    process = operator.start("quickstart")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("run digits-1")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.fixture(scope="module")
def first_quickstart(operator: Operator, left_quickstart: tuple[int, str]) -> str:
    return operator.does("quickstart")


@pytest.fixture(scope="module")
def kept_quickstart(operator: Operator, first_quickstart: str) -> dict[str, Any]:
    """A second one as JSON, whose server stays for the tests below."""
    return operator.json("quickstart", "--keep")


@pytest.fixture(scope="module")
def served(operator: Operator, kept_quickstart: dict[str, Any]) -> Desk:
    return Desk(settings.load(operator.env))


def test_a_quickstart_that_is_left_goes_on_and_says_how_to_come_back(
    left_quickstart: tuple[int, str],
) -> None:
    code, err = left_quickstart
    assert code == 5
    assert "come back" in err
    assert "Traceback" not in err


def test_quickstart_comes_back_hears_the_right_words_and_leaves_nothing_running(
    operator: Operator, first_quickstart: str
) -> None:
    texts = {path.name: text for path, text in manifest(DIGITS / "wavs" / "manifest.jsonl")}
    heard = [name for name, text in texts.items() if f"{name}: {text}\n" in first_quickstart]
    assert len(heard) >= 3
    assert "WRONG" not in first_quickstart
    assert "run digits-1 succeeded" in first_quickstart  # the one that was left
    assert "export " in first_quickstart  # the elapsed time of each step
    until_gone(str(operator.home))


def test_quickstart_as_json_says_what_was_heard_and_that_it_is_right(
    kept_quickstart: dict[str, Any],
) -> None:
    assert kept_quickstart["right"] is True
    assert kept_quickstart["answers"]
    assert all(a["answer"] == a["expected"] for a in kept_quickstart["answers"])


def test_a_second_run_skips_the_export_and_says_why(operator: Operator, served: Desk) -> None:
    run = json.loads(operator.does("runs", "show", "digits", "--json"))["run"]
    export = next(step for step in run["steps"] if step["id"] == "export")
    assert export["state"] == "skipped"
    assert export["reason"]


def test_every_fixture_is_right_through_the_command_line(operator: Operator, served: Desk) -> None:
    for path, text in manifest(DIGITS / "wavs" / "manifest.jsonl"):
        assert operator.does("query", "digits", "--audio", str(path)).splitlines()[0] == text


def test_held_out_sounds_are_right_for_at_least_95_in_100(served: Desk, tmp_path: Path) -> None:
    made = [sys.executable, str(DIGITS / "make_digits.py"), "heldout"]
    subprocess.run([*made, "--out", str(tmp_path), "--count", "200"], check=True)
    sounds = manifest(tmp_path / "manifest.jsonl")
    endpoint = served.service("digits").endpoint
    form = served.adapter(endpoint, served.metadata(endpoint, "digits"))
    sound = form.fields[0].name
    wrong = []
    for path, text in sounds:
        answer = form.answer(served.infer(endpoint, form.request({sound: str(path)})))
        if answer.splitlines()[0] != text:
            wrong.append((path.name, text, answer))
    version = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True).stdout
    assert len(sounds) >= 200
    assert len(wrong) <= len(sounds) * 0.05, f"{version}: {wrong}"


def test_the_script_alone_serves_the_right_answer(operator: Operator, tmp_path: Path) -> None:
    script = tmp_path / "deploy.sh"
    script.write_text(operator.does("plan", str(DEPLOYMENT), "--script"), encoding="utf-8")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHON": sys.executable,
        # The environments of the plan's lock, already made: the script takes them as they are.
        "ENV_NEMO": str(managed("nemo")),
        "ENV_EMBEDDED": str(managed("embedded")),
    }
    done = subprocess.run(
        ["bash", str(script)],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    expected = served_texts()
    assert [line for line in done.stdout.splitlines() if line.startswith("TEXT: ")] == [
        f"TEXT: {text}" for text in expected
    ]
    until_gone(str(tmp_path))


def served_texts() -> list[str]:
    from console.planning.deployment import load

    return [case.expect for case in load(DEPLOYMENT).verify]
