"""What the documents show is true: their deployment files load, their files exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from console.facts import UsageError
from console.planning.deployment import loads

ROOT = Path(__file__).parents[2]
DOCS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


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
    (shown,) = blocks(ROOT / "docs" / "deployment-file.md", "text")
    assert shown.strip() in str(caught.value)


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_links_lead_to_files(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8"))
    missing = [t for t in targets if not (path.parent / t).exists()]
    assert missing == []
