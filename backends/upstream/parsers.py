"""The command lines of upstream scripts: as the catalog has them, and as an installed script says.

A script is never run to learn its flags: 28 of 29 take 2 to 7 s for ``--help`` because they import
PyTorch first, and one cannot be imported at all without a GPU's packages. Its syntax tree holds every
``add_argument`` call and is read in a millisecond.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from console import dated
from console.facts import UsageError
from console.settings import folders
from console.text import clean


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Option(Frozen):
    """One ``add_argument`` call. Defaults and choices are the script's own values."""

    flags: tuple[str, ...] = Field(min_length=1)
    """Long names first: ``--nemo_checkpoint``, ``-nc``."""
    type: str = ""
    """``str``, ``int``, ``float``, ``bool``, ``json``; empty for a switch. ``bool`` is argparse's
    trap: any text that is not empty, ``False`` as well, is true."""
    action: Literal["", "store_true", "store_false", "boolean_optional", "other"] = ""
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    nargs: str = ""
    line: int = 0
    """Line of the call in the script that was read; 0 from the catalog."""

    @property
    def name(self) -> str:
        return self.flags[0]

    @property
    def switch(self) -> bool:
        """Whether the flag takes no value."""
        return bool(self.action) and self.action != "other"


class Parser(Frozen):
    """All options of one script."""

    options: tuple[Option, ...]

    def find(self, flag: str) -> Option | None:
        """The option that a word of a command line names (``--no-x`` of a boolean pair as well)."""
        for option in self.options:
            if flag in option.flags:
                return option
            pair = option.action == "boolean_optional"
            if pair and flag.startswith("--no-") and f"--{flag[5:]}" in option.flags:
                return option
        return None


class Script(Frozen):
    """One script over the generations: which of its `parsers` each of them has."""

    of: dict[str, int]
    parsers: tuple[tuple[Option, ...], ...]


class Scripts(Frozen):
    """``catalog/scripts.json``."""

    date: str
    source: str
    generations: tuple[str, ...]
    scripts: dict[str, Script]


def scripts(override: Path | None = None) -> Scripts:
    """Every known command line; an operator's ``scripts.json`` is laid over ours."""
    file = override or folders().config / "scripts.json"
    return dated.load(Scripts, "backends.catalog", "scripts.json", file)


def known(script: str, generation: str) -> Parser | None:
    """The command line of `script` in `generation`; None where that generation has no such script."""
    found = scripts().scripts.get(script)
    if found is None or generation not in found.of:
        return None
    return Parser(options=found.parsers[found.of[generation]])


def read(source: str, shown: str = "the script") -> Parser:
    """The options that a script declares, from its syntax tree.

    Calls inside functions, on argument groups and through ``parser = …`` aliases count alike: every
    call of a method ``add_argument`` whose first word is a flag. A default that is no literal becomes
    its source text. Raises `UsageError` for text that is not Python.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UsageError(
            f"cannot read the options of {clean(shown)}", why=f"not Python: {clean(str(error))}"
        ) from error
    return Parser(options=tuple(sorted(_options(tree), key=lambda option: option.line)))


def _options(tree: ast.AST) -> Iterator[Option]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        flags = [word for word in words if isinstance(word, str) and word.startswith("-")]
        if node.func.attr != "add_argument" or not flags:
            continue
        yield _option(flags, {k.arg: k.value for k in node.keywords if k.arg}, node.lineno)


def _option(flags: list[str], words: dict[str, ast.expr], line: int) -> Option:
    action = _action(words.get("action"))
    default = _value(words.get("default"))
    nargs = _value(words.get("nargs"))
    choices = _value(words.get("choices"))
    return Option(
        flags=tuple(sorted(flags, key=lambda flag: not flag.startswith("--"))),
        type=_type(words.get("type")) if action in ("", "other") else "",
        action=action,
        default=None if action and default is False else default,
        required=_value(words.get("required")) is True,
        choices=tuple(choices) if isinstance(choices, list | tuple) else (),
        nargs="" if nargs is None else str(nargs),
        line=line,
    )


def _action(
    node: ast.expr | None,
) -> Literal["", "store_true", "store_false", "boolean_optional", "other"]:
    if node is None:
        return ""
    if isinstance(node, ast.Attribute | ast.Name):
        name = node.attr if isinstance(node, ast.Attribute) else node.id
        return "boolean_optional" if name == "BooleanOptionalAction" else "other"
    word = _value(node)
    if word == "store":
        return ""
    return word if word in ("store_true", "store_false") else "other"


def _type(node: ast.expr | None) -> str:
    if node is None:
        return "str"
    name = ast.unparse(node)
    return name if name in ("str", "int", "float", "bool") else _other_type(name)


def _other_type(name: str) -> str:
    return "json" if "json" in name.lower() else clean(name)[:60]


def _value(node: ast.expr | None) -> Any:
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return clean(ast.unparse(node))[:200]
