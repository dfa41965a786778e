"""Backends are found as entry points, and a broken plugin is told in words."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

from backends import registry
from backends.base import Backend
from console.facts import DeckError, UsageError


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Installs a distribution with one entry point on the path; returns its writer."""

    def install(
        name: str,
        value: str,
        source: str = "",
        distribution: str = "acme-deck",
        group: str = registry.GROUP,
    ) -> None:
        info = tmp_path / f"{distribution.replace('-', '_')}-2.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.1\n"
        )
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
        if source:
            (tmp_path / "acme_deck.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "acme_deck", raising=False)

    return install


def test_our_backend_comes_from_our_own_distribution():
    assert "onnx" in registry.names()
    assert registry.origins()["onnx"].distribution == "tritondeck"
    assert isinstance(registry.get("onnx"), Backend)


def test_a_third_party_is_listed_with_its_version_and_not_imported(plugin):
    plugin("acme", "acme_deck:Acme", "raise RuntimeError('imported')")
    assert "acme" in registry.names()
    assert str(registry.origins()["acme"]) == "acme-deck 2.1"
    assert "acme_deck" not in sys.modules


def test_a_third_party_is_imported_when_it_is_chosen(plugin):
    source = "from backends.onnx import OnnxBackend\nclass Acme(OnnxBackend):\n    name = 'acme'\n"
    plugin("acme", "acme_deck:Acme", source)
    assert registry.get("acme").name == "acme"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("", "No module named"),
        ("Other = 1", "Acme"),
        ("class Acme:\n    name = 'acme'", "must be a subclass"),
        (
            "from backends.onnx import OnnxBackend\nclass Acme(OnnxBackend):\n    name = 'other'",
            "with this name",
        ),
    ],
)
def test_a_broken_plugin_is_told_in_words(plugin, source, words):
    plugin("acme", "acme_deck:Acme", source)
    with pytest.raises(DeckError) as caught:
        registry.get("acme")
    assert words in caught.value.why
    assert "acme-deck 2.1" in caught.value.fix


def test_a_third_party_does_not_displace_ours(plugin):
    plugin("onnx", "acme_deck:Acme", "raise RuntimeError('never')", distribution="aaa-deck")
    assert registry.origins()["onnx"].distribution == "tritondeck"


def test_the_entry_point_of_a_distribution_without_metadata_is_of_unknown_origin():
    point = EntryPoint(name="x", value="x:X", group=registry.GROUP)
    assert str(registry.origin_of(point)) == "unknown"


def test_an_unknown_backend_names_those_that_there_are():
    with pytest.raises(UsageError, match="onnx"):
        registry.get("nothing")


def test_a_third_party_without_a_door_is_asked_itself(plugin):
    source = "from backends.onnx import OnnxBackend\nclass Acme(OnnxBackend):\n    name = 'acme'\n"
    plugin("acme", "acme_deck:Acme", source)
    assert isinstance(registry.door("acme"), Backend)


def test_nobody_stands_before_the_door_of_another_route(plugin):
    plugin("onnx", "acme_deck:Door", "raise RuntimeError('imported')", group=registry.DOORS)
    assert registry.door("onnx").title == registry.get("onnx").title


@pytest.mark.parametrize("name", sorted(registry.names()))
def test_each_route_of_ours_has_a_light_door_that_says_the_same(name):
    assert not isinstance(registry.door(name), Backend)
    assert isinstance(registry.get(name), type(registry.door(name)))
