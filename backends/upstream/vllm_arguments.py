"""What vLLM takes: as the catalog has it for each version, and as the installed source says.

The engine's arguments are the fields of its class `EngineArgs`. Each is a flag of the OpenAI server
(``--max-model-len``) and a key of a model of Triton's vLLM backend (``max_model_len``); what is not
among them ends either at its start. They are read from the syntax tree: importing vLLM takes half a
minute and needs PyTorch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict

from backends.upstream.flags import CHECK
from backends.upstream.parsers import Option, Parser
from backends.upstream.parsers import read as read_calls
from console import dated
from console.facts import Level, UsageError, Verdict
from console.settings import folders
from console.text import clean
from console.triton import releases

ENGINE = "vllm/engine/arg_utils.py"
FRONTS = ("vllm/entrypoints/openai/cli_args.py", "vllm/entrypoints/launchers/cli_args.py")
"""Where the OpenAI server's own flags are: until 0.24, and in 0.32."""
OWN = (
    Option(flags=("--host",)),
    Option(flags=("--port",)),
    Option(flags=("--lora-modules",), nargs="*"),
)
"""Flags of the server, which every version of the catalog has beside the engine's."""
_CLASSES = frozenset({"EngineArgs", "AsyncEngineArgs", "BaseFrontendArgs", "FrontendArgs"})
_SUFFIX = "-vllm-python-py3"
_TAG = re.compile(rf"tritonserver:(\d\d\.\d\d){_SUFFIX}(?:@sha256:[0-9a-f]+)?$")
Kind = Literal["switch", "list", "value"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Argument(Frozen):
    """One field of `EngineArgs`, from the `first` to the `last` version that was read and has it."""

    kind: Kind
    first: str
    last: str = ""


class Catalog(Frozen):
    """``catalog/vllm_arguments.json``."""

    date: str
    source: str
    versions: tuple[str, ...]
    arguments: Mapping[str, Argument]


def catalog(override: Path | None = None) -> Catalog:
    """Raises `UsageError` that names file and key."""
    file = override or folders().config / "vllm_arguments.json"
    return dated.load(Catalog, "backends.catalog", "vllm_arguments.json", file)


def newest_image() -> str:
    """Triton's newest image with vLLM that is known here."""
    return releases.reference(next(tag for tag in releases.tags() if tag.endswith(_SUFFIX)))


def of_image(image: str) -> str:
    """vLLM's version in an image of Triton's, by its tag; empty for others."""
    found = _TAG.search(releases.reference(image))
    release = releases.data().releases.get(found[1]) if found else None
    return release.vllm.version if release and release.vllm else ""


def known(version: str) -> Parser | None:
    """What `version` takes; None for one that is older than the catalog, or no version at all.

    A version after the newest that was read is taken for that one.
    """
    found = catalog()
    try:
        number = min(Version(version), Version(found.versions[-1]))
    except InvalidVersion:
        return None
    if number < Version(found.versions[0]):
        return None
    options = [
        _option(name, entry.kind)
        for name, entry in found.arguments.items()
        if Version(entry.first) <= number and (not entry.last or number <= Version(entry.last))
    ]
    return Parser(options=(*OWN, *options))


@lru_cache(maxsize=8)
def read(engine: str, front: str = "") -> Parser:
    """What an installed vLLM takes, from the texts of its `ENGINE` and of one of its `FRONTS`; each
    pair of texts is read once. Raises `UsageError` for text that is no Python."""
    fields: dict[str, Option] = {}
    for text in (engine, front):
        fields |= {option.name: option for option in _fields(text)}
        for option in read_calls(text, "vLLM's arguments").options:
            # What the call passes on from its configuration classes is not to be seen there.
            bare = option if option.action else option.model_copy(update={"type": "", "nargs": ""})
            fields.setdefault(option.name, bare)
    if front == "":
        fields |= {option.name: option for option in OWN if option.name not in fields}
    return Parser(options=tuple(fields.values()))


def _fields(text: str) -> Iterator[Option]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ClassDef) or node.name not in _CLASSES:
            continue
        for part in node.body:
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                yield _option(part.target.id, _kind(ast.unparse(part.annotation)), part.lineno)


def _kind(annotation: str) -> Kind:
    if "bool" in annotation and "str" not in annotation:
        return "switch"
    return "list" if "list" in annotation.lower() else "value"


def _option(name: str, kind: Kind, line: int = 0) -> Option:
    return Option(
        flags=(f"--{name.replace('_', '-')}",),
        action="boolean_optional" if kind == "switch" else "",
        nargs="*" if kind == "list" else "",
        line=line,
    )


def keys(wanted: Iterable[str], parser: Parser, source: str) -> tuple[Verdict, ...]:
    """Whether the engine knows the keys of a ``model.json``; one passing verdict when it does."""
    wanted = tuple(wanted)
    unknown = [key for key in wanted if parser.find(f"--{key.replace('_', '-')}") is None]
    if not unknown:
        said = f"the engine knows all {len(wanted)} keys of model.json"
        return (Verdict(CHECK, Level.PASS, said, source=source),)
    return tuple(
        Verdict(
            CHECK,
            Level.FAIL,
            f"the engine has no argument {clean(key)}",
            "the model would not load: unexpected keyword argument",
            source,
            "leave this option out, or take an image with another vLLM",
            f"options.{key}",
        )
        for key in unknown
    )


def installed(sources: Mapping[str, str], environment: str) -> Parser | None:
    """What the vLLM in `environment` takes, from `ToolFacts.sources`; None where it was not read."""
    place = f"environment:{environment}/"
    engine = sources.get(place + ENGINE)
    if not engine:
        return None
    front = next((sources[place + f] for f in FRONTS if place + f in sources), "")
    try:
        return read(engine, front)
    except (SyntaxError, UsageError):
        return None  # it is no source that anybody could read: the start will tell
