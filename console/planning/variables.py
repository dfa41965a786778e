"""What a plan does not know yet: ports, the token, environment folders.

A plan writes them as ``${name}`` inside otherwise literal words (`string.Template` syntax, ``$$`` is
a dollar sign). The runner fills them in; the script declares them at its head.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

VariableKind = Literal["port", "folder", "environment", "token_file", "path", "version", "joined"]
"""``version``: the number of the version folders that a run builds, settled when it starts.
``joined``: a value of the server that the deployment goes into; that server must run."""

VERSION: Literal["version"] = "version"
"""Name of the variable of that kind: a plan has one number for all of its models."""

_PIECE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[a-z][a-z0-9_]*)\})")


class Variable(BaseModel):
    """One thing that is decided when the plan runs.

    `default` is itself a template over earlier variables; a port's default ``0`` means "find a free
    one". `kind` says how the runner finds the value and how the script declares it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: VariableKind
    default: str = ""
    help: str = ""


THE_VERSION = Variable(
    name=VERSION, kind=VERSION, default="1", help="number of the models' version folders"
)


def literal(text: str) -> str:
    """Escape `text` so that no part of it is taken for a variable."""
    return text.replace("$", "$$")


def names(template: str) -> frozenset[str]:
    """The variables that a template uses."""
    return frozenset(m["name"] for m in _PIECE.finditer(template) if m["name"])


def expand(template: str, values: Mapping[str, str]) -> str:
    """Fill in every variable; raises `KeyError` with the name of one that has no value."""
    return _PIECE.sub(lambda m: "$" if m["dollar"] else values[m["name"]], template)


def shell_word(template: str) -> str:
    """One word for a POSIX shell: literal parts quoted, variables as ``"$NAME"``."""
    parts: list[str] = []
    position = 0
    for match in _PIECE.finditer(template):
        parts.append(_quoted(template[position : match.start()]))
        parts.append("'$'" if match["dollar"] else f'"${{{match["name"].upper()}}}"')
        position = match.end()
    parts.append(_quoted(template[position:]))
    return "".join(parts).replace("''", "") or "''"


def _quoted(text: str) -> str:
    return shlex.quote(text) if text else ""
