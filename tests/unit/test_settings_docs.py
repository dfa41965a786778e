"""docs/settings.md shows every setting with its real default and meaning."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from console import settings
from console.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Field to the text below it in the source."""
    tree = ast.parse(inspect.getsource(model)).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    name = ""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[name] = " ".join(str(node.value.value).split())
    return found


def rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name == "folders":
            continue
        kind = field.annotation
        nested = [k for k in (kind, *get_args(kind)) if isinstance(k, type)]
        inner = next((k for k in nested if issubclass(k, BaseModel)), None)
        key = f"{prefix}{name}"
        if inner is not None:
            yield from rows(inner, f"{key}.NAME." if kind is not inner else f"{key}.")
            continue
        default = field.get_default(call_default_factory=True)
        yield f"| `{key}` | `{toml(default)}` | {meanings(model)[name]} |"


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[]"
    if isinstance(value, dict):
        return "{}"
    return str(value)


def test_the_table_of_settings_is_the_model() -> None:
    shown = re.findall(
        r"^\| `[a-z_.N-][^\n]*$", PAGE.read_text().split("## Notify")[0], re.M | re.I
    )
    assert [row for row in shown if "`TRITONDECK" not in row[:14]] == list(rows(Settings))


def test_every_variable_that_sets_one_is_listed() -> None:
    shown = set(re.findall(r"^\| `(TRITONDECK_\w+)`", PAGE.read_text(), re.M))
    known = {*settings._VARIABLES, "TRITONDECK_HOME", "TRITONDECK_ENVIRONMENTS"}
    assert shown == known


@pytest.mark.parametrize("text", re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.M | re.S))
def test_the_documented_settings_load(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings.toml").write_text(text)
    loaded = settings.load({"TRITONDECK_HOME": str(tmp_path)})
    for section in tomllib.loads(text):
        assert getattr(loaded, section) != Settings.model_fields[section].default
