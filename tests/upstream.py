"""Upstream scripts as the catalog has them: real argparse parsers, and scripts to run in their place."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from backends.upstream.parsers import Option, Parser

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
