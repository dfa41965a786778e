"""What the documents show is true: their deployment files load, their files exist."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from console import cli
from console.desk.views import CheckReport
from console.facts import UsageError
from console.planning.checks import SpaceNeed, disk
from console.planning.deployment import loads
from console.runtimes import libpython
from console.runtimes.interpreter import ask
from console.telemetry.disk import DiskSpace
from console.verbs.deploy import show_report

ROOT = Path(__file__).parents[2]
DOCS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


def test_the_documented_deployment_file_loads() -> None:
    (example,) = blocks(ROOT / "docs" / "deployment-file.md", "toml")
    deployment = loads(example, ROOT / "examples" / "digits" / "digits.toml")
    assert deployment.served_name == "digits"
    assert deployment.verify[0].expect == "three one four"


def test_the_documented_error_is_the_real_one() -> None:
    (example,) = blocks(ROOT / "docs" / "deployment-file.md", "toml")
    wrong = example.replace("http_port = 0 ", "http_port = 70000 ")
    with pytest.raises(UsageError) as caught:
        loads(wrong, Path("digits.toml"))
    shown = [text.strip() for text in blocks(ROOT / "docs" / "deployment-file.md", "text")]
    assert any(text in str(caught.value) for text in shown)


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8"))
    missing = [t for t in targets if not (path.parent / t).exists()]
    assert missing == []


def test_troubleshooting_shows_the_real_verdicts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that no page can bring about: a missing library, a full disk."""
    monkeypatch.setattr(libpython, "find", lambda *_: None)
    python = replace(ask(Path(sys.executable)), base_prefix=Path("/usr"))
    small = DiskSpace(Path("/srv/small/state"), 40 * 2**20, 40 * 2**20, 1, True)
    (full,) = disk([SpaceNeed("state", small, 88 * 10**6)])
    show_report(CheckReport((libpython.judge(python), full), 0.0))
    told = capsys.readouterr().out
    page = (ROOT / "docs" / "how-to" / "troubleshoot.md").read_text(encoding="utf-8")
    for line in re.findall(r"^fail .*|^ {9}fix: (?:apt|free).*", page, re.M):
        known = re.sub(r"3\.1\d", python.short, line.partition("looked in")[0])
        assert known in told


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_line_is_one_that_the_program_takes(path: Path) -> None:
    shown = "\n".join(blocks(path, "sh"))
    for line in re.findall(r"^(?:\.venv/bin/)?tritondeck (.*?)(?: *[>|#&].*)?$", shown, re.M):
        cli._parsed(shlex.split(line))
