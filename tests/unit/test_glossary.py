"""Every word that a check or an option puts before an operator is explained, once and shortly."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.desk.desk import Desk
from console.desk.glossary import Term, explain, terms
from console.settings import load

ROOT = Path(__file__).parents[2]
# The name of a check is the first argument, or `check`; the linter's rules get a prefix.
MAKERS = {"Verdict": "", "Risk": "", "_verdict": "config-"}


def check_names() -> Iterator[str]:
    """Names of checks that stand as plain words in the source."""
    for file in (*(ROOT / "console").rglob("*.py"), *(ROOT / "backends").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            given = [
                *node.args[:1],
                *(k.value for k in node.keywords if k.arg in ("check", "code")),
            ]
            for argument in given:
                if node.func.id in MAKERS and isinstance(argument, ast.Constant):
                    yield MAKERS[node.func.id] + str(argument.value)


def test_every_check_is_explained() -> None:
    names = set(check_names())
    assert {"glibc", "pickle-weights", "config-dims", "readonly"} <= names
    made = {"disk-state", "port-http", "environment-nemo", "gpu-0", "host-memory", "gpu-memory"}
    unexplained = [n for n in sorted(names | made) if explain(n, check=True) is None]
    assert unexplained == [], "add a [[check]] to console/desk/glossary.toml"


def test_every_option_with_a_name_of_its_own_upstream_is_explained(tmp_path: Path) -> None:
    desk = Desk(load({"TRITONDECK_HOME": str(tmp_path)}))
    named = [
        field.name
        for backend in desk.backends()
        for field in desk.option_fields(backend.name)
        if field.flag
    ]
    assert "max_batch_size" in named
    unexplained = [name for name in named if desk.explain(name) is None]
    assert unexplained == [], "add a [[term]], or the option to its `also`"


def test_a_name_is_explained_once() -> None:
    names = [(t.check, name.casefold()) for t in terms() for name in {t.name, *t.also}]
    assert [name for name in names if names.count(name) > 1] == []


@pytest.mark.parametrize("term", terms(), ids=lambda term: term.name)
def test_an_explanation_is_one_or_two_whole_sentences(term: Term) -> None:
    sentences = re.findall(r"[.](?= [A-Z]|$)", term.means)
    assert 1 <= len(sentences) <= 2
    assert term.means.endswith(".")


def test_names_are_found_whatever_their_capitals_and_the_exact_one_wins() -> None:
    found = explain("tp")
    assert found is not None and found.name == "tensor parallelism"
    memory = explain("gpu-memory", check=True)  # not the entry of `gpu-*`
    assert memory is not None and memory.name == "gpu-memory"
    assert explain("a word that nobody explains") is None
