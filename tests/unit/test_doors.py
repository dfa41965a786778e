"""What routes say of a checkpoint before they are chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends import registry
from console.checkpoints.read import read
from console.facts import Level

EXAMPLES = Path(__file__).parents[2] / "examples"
WRITES = ("in-framework", "vllm")


@pytest.mark.parametrize("name", WRITES)
def test_a_model_of_vectors_is_no_language_model(name: str) -> None:
    verdict = registry.door(name).accepts({"model": read(EXAMPLES / "shapes")})
    assert (verdict.level, verdict.summary) == (Level.FAIL, "this model does not write text")


@pytest.mark.parametrize("name", WRITES)
def test_a_model_that_continues_a_text_is_taken(name: str) -> None:
    assert registry.door(name).accepts({"model": read(EXAMPLES / "facts")}).level is Level.PASS
