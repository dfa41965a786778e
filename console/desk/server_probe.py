"""The worker that starts servers, and its answer to what a server is, as facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from console.facts import ToolFacts
from console.text import clean


def worker() -> Path:
    """The script that starts servers and tells what they are."""
    return Path(str(resources.files("backends") / "workers" / "triton_server.py"))


def told(verdict: Mapping[str, Any], expected: ToolFacts, asked: str) -> ToolFacts:
    """The worker's answer as facts; `asked` is the program or image that it is about."""
    facts, problems = verdict.get("facts", {}), verdict.get("problems", ())
    if problems:
        return replace(expected, triton_problem=clean(str(problems[0].get("summary", ""))))
    return replace(
        expected,
        flags={**expected.flags, "tritonserver": frozenset(map(str, facts.get("options", ())))},
        triton_version=clean(str(facts.get("version", ""))),
        triton_backends=frozenset(clean(str(name)) for name in facts.get("backends", ())),
        triton_program=asked,
        stub_python=clean(str(facts.get("stub_python", ""))),
    )
