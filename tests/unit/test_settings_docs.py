"""docs/settings.md shows every setting with its real default and meaning."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from console import settings
from console.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def meanings(model: type[Any]) -> dict[str, str]:
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


def rows(model: type[Any], prefix: str = "") -> Iterator[str]:
    kinds = get_type_hints(model)
    for field in dataclasses.fields(model):
        kind = kinds[field.name]
        inner = next((k for k in (kind, *get_args(kind)) if dataclasses.is_dataclass(k)), None)
        if field.name == "folders":
            continue
        key = f"{prefix}{field.name}"
        if inner is not None:
            yield from rows(inner, f"{key}.NAME." if kind is not inner else f"{key}.")
            continue
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        yield f"| `{key}` | `{toml(default)}` | {meanings(model)[field.name]} |"


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
        assert getattr(loaded, section) != getattr(Settings(folders=loaded.folders), section)
