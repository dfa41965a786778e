"""The flags that options show, against the command lines of upstream's scripts."""

from __future__ import annotations

import pytest
from packaging.version import Version

from backends import registry
from backends.upstream import generations, parsers, vllm_arguments

SCRIPTS = {
    "in-framework": ("in-framework", "in-framework-hf"),
    "ray-serve": ("ray-in-framework", "ray-hf", "ray-tensorrt-llm"),
    "nemo-tensorrt-llm": ("nemo-tensorrt-llm", "nemo-tensorrt-llm-export"),
    "nemo-multimodal": ("nemo-multimodal", "nemo-multimodal-export"),
}
"""Backend to the routes of the catalog whose scripts it calls."""


def shown(backend: str) -> set[str]:
    """The single words among the flags of the backend's options (``ray start --port`` is Ray's own)."""
    fields = registry.get(backend).Options.model_fields.values()
    extras = [field.json_schema_extra for field in fields]
    flags = {str(extra.get("flag", "")) for extra in extras if isinstance(extra, dict)}
    return {flag for flag in flags if flag.startswith("-")}


@pytest.mark.parametrize("backend", SCRIPTS)
def test_a_flag_that_an_option_shows_is_one_of_the_routes_own_scripts(backend: str) -> None:
    catalog = generations.catalog()
    found = [
        parsers.known(catalog.routes[route].script, generation)
        for route in SCRIPTS[backend]
        for generation in catalog.generations
    ]
    known = {flag for parser in found if parser for one in parser.options for flag in one.flags}
    assert shown(backend) and shown(backend) <= known


def test_a_flag_that_an_option_of_vllm_shows_is_one_of_its_server() -> None:
    parser = vllm_arguments.known(max(vllm_arguments.catalog().versions, key=Version))
    assert parser and shown("vllm")
    assert shown("vllm") <= {flag for one in parser.options for flag in one.flags}
