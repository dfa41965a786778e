"""docs/routes.md, which is made from the catalogs (that it is not stale: test_reference.py)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backends import registry
from backends.upstream import generations
from console.facts import Level

PAGE = Path(__file__).parents[2] / "docs" / "routes.md"
KNOWN = generations.catalog()


def row(route: str) -> list[str]:
    """The first table row of `route`: where it works."""
    found = re.search(rf"^\| `{route}` \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.M)
    assert found, route
    return [cell.strip() for cell in found[1].split("|")]


@pytest.mark.parametrize("route", KNOWN.routes)
def test_each_cell_says_what_a_check_would(route: str) -> None:
    levels = {Level.PASS: {"works"}, Level.WARN: {"limited"}, Level.FAIL: {"gone", ""}}
    for name, cell in zip(KNOWN.generations, row(route), strict=True):
        assert cell in levels[generations.verdict(route, name).level], name


@pytest.mark.parametrize("route", [name for name, one in KNOWN.routes.items() if one.gone])
def test_a_route_that_is_gone_has_another_to_take(route: str) -> None:
    assert KNOWN.routes[route].instead
    assert "gone" in row(route)


def test_the_backends_that_take_a_route_are_ours() -> None:
    named = {route.backend for route in KNOWN.routes.values() if route.backend}
    assert named <= set(registry.names())
