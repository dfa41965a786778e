"""Upstream scripts as the catalog has them: real argparse parsers, and a place with scripts to run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from backends.upstream.parsers import Option, Parser, known
from console.planning.variables import expand

TYPES = {"str": str, "int": int, "float": float, "bool": bool}


class Refusal(Exception):
    """What argparse says instead of ending the process."""


class Strict(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refusal(message)


def words(option: Option) -> dict[str, Any]:
    """The keyword arguments of the ``add_argument`` call."""
    if option.action == "boolean_optional":
        return {"action": argparse.BooleanOptionalAction, "default": bool(option.default)}
    if option.action:
        return {"action": option.action, "default": bool(option.default)}
    made: dict[str, Any] = {"type": TYPES.get(option.type, str), "default": option.default}
    if option.required:
        made["required"] = True
    if option.choices:
        made["choices"] = list(option.choices)
    if option.nargs:
        made["nargs"] = option.nargs
    return made


def real(parser: Parser) -> Strict:
    """The same options in a real argparse parser."""
    made = Strict(allow_abbrev=False)
    for option in parser.options:
        made.add_argument(*option.flags, **words(option))
    return made


def source(parser: Parser, rest: str = "") -> str:
    """A script with these options, which goes on with the lines of `rest` (they see ``args``)."""
    lines = [
        "import argparse",
        "from argparse import BooleanOptionalAction",
        "parser = argparse.ArgumentParser()",
    ]
    for option in parser.options:
        given = ", ".join(
            f"{name}={value.__name__ if isinstance(value, type) else repr(value)}"
            for name, value in words(option).items()
        )
        lines.append(f"parser.add_argument({', '.join(map(repr, option.flags))}, {given})")
    return "\n".join([*lines, "args = parser.parse_args()", rest]) + "\n"


def agreed(
    parser: Parser, argv: Sequence[str], told: Collection[str], also: Collection[str] = ()
) -> None:
    """Argparse itself says of `argv` what the failing checks `told` say: ``upstream-flags`` (or one of
    `also`) where it refuses, and not ``upstream-flags`` where it does not."""
    try:
        real(parser).parse_args(argv)
    except Refusal as refusal:
        assert {"upstream-flags", *also} & set(told), refusal
    else:
        assert "upstream-flags" not in told, told


def place(folder: Path) -> Path:
    """`folder` with an environment, ``env``, whose Python is this one."""
    python = folder / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


def install(folder: Path, script: str, generation: str, body: str) -> None:
    """`script` as `generation` has it, below ``nemo`` of `folder`, going on with `body`."""
    parser = known(script, generation)
    assert parser
    file = folder / "nemo" / script
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source(parser, body) if parser.options else body)


def heard(folder: Path, name: str, words: Sequence[str], said: Sequence[str]) -> list[str]:
    """What upstream hears of the planned `words` in a run of `name` below `folder` that chose the
    port among what was `said`."""
    port = said[said.index("--triton_port") + 1] if "--triton_port" in said else ""
    values = {"work": str(folder / name), "env_nemo_trtllm": str(folder / "env"), "http_port": port}
    return [expand(word, values) for word in words][2:]
