"""Which generation of NeMo or Export-Deploy a place has, and which routes that generation has.

A place is an image (by its tag, until it can be asked) or an environment (by its installed package).
The same operator's words mean different command lines in each generation; about thirteen are in use.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field

from console import dated
from console.facts import Level, UsageError, Verdict
from console.settings import folders
from console.text import clean


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Generation(Frozen):
    """What is installed at one place."""

    title: str
    package: str
    """Distribution whose version tells it: ``nemo_toolkit`` or ``nemo-export-deploy``."""
    versions: str
    """Versions of `package` that belong to it, as a specifier set."""
    images: tuple[str, ...] = ()
    root: str
    """Folder in the image that holds ``scripts/``."""
    ref: str
    """Where its command lines were read."""
    tensorrt_llm: str = ""
    vllm: str = ""
    notes: tuple[str, ...] = ()


class Route(Frozen):
    """One way upstream offers, from the `first` to the `last` generation that has it."""

    title: str
    script: str
    first: str
    last: str
    but: Mapping[str, str] = Field(default_factory=dict)
    """Generation (and the following ones) to what is different or broken from there on."""
    gone: str = ""
    instead: str = ""
    backend: str = ""
    """Which export backend takes it; empty where none does, and `instead` is taken."""


class Renamed(Frozen):
    script: str
    names: tuple[str, ...]


class Ignored(Frozen):
    """Flags that a script parses and never uses."""

    script: str
    generations: tuple[str, ...]
    flags: tuple[str, ...]
    why: str


class Catalog(Frozen):
    """``catalog/generations.toml``; the order of `generations` is the order of time."""

    date: datetime.date
    source: str
    generations: dict[str, Generation]
    routes: dict[str, Route]
    renamed: tuple[Renamed, ...] = ()
    ignored: tuple[Ignored, ...] = ()


def catalog(override: Path | None = None) -> Catalog:
    """Raises `UsageError` that names file, line and key."""
    file = override or folders().config / "generations.toml"
    return dated.load(Catalog, "backends.catalog", "generations.toml", file)


def generation(name: str) -> Generation:
    """One by name; `UsageError` lists the known ones."""
    found = catalog().generations.get(name)
    if found is None:
        raise UsageError(
            f"no generation {clean(name)}" if name else "no generation is named",
            why=f"known: {', '.join(catalog().generations)}",
            fix="set options.generation to what is installed there",
        )
    return found


def of_packages(packages: Mapping[str, str]) -> str:
    """The generation of an environment with these distributions (normalised name to version).

    Export-Deploy counts before NeMo where both are installed: its scripts are the newer ones. Empty
    when neither is there or the version belongs to none.
    """
    for name in ("nemo-export-deploy", "nemo-toolkit", "nemo_toolkit"):
        if found := packages.get(name):
            return of_version(name, found)
    return ""


def of_version(package: str, version: str) -> str:
    """The generation that `version` of `package` belongs to, or empty."""
    try:
        number = Version(version)
    except InvalidVersion:
        return ""
    # Here: it brings the tags of wheels and sysconfig's data, and most routes never ask.
    from packaging.specifiers import SpecifierSet

    wanted = package.replace("_", "-")
    for name, entry in catalog().generations.items():
        same = entry.package.replace("_", "-") == wanted
        if same and SpecifierSet(entry.versions).contains(number, prereleases=True):
            return name
    return ""


def of_image(reference: str) -> tuple[str, ...]:
    """Generations that an image's tag promises (25.07 carries two script trees); empty for others."""
    return tuple(n for n, entry in catalog().generations.items() if reference in entry.images)


def chosen(name: str, image: str) -> str:
    """The generation `name`, or where that is empty the newest one that the tag of `image` promises.

    Raises `UsageError` for a name that is unknown and for an image that tells none.
    """
    if name:
        generation(name)
        return name
    found = of_image(image)
    if not found:
        raise UsageError(
            f"the tag of {clean(image)} does not tell its generation",
            why=f"known: {', '.join(catalog().generations)}",
            fix="set options.generation to what the image has",
        )
    return found[-1]


def has(route: str, name: str) -> bool:
    """Whether generation `name` has `route`."""
    order = list(catalog().generations)
    entry = catalog().routes[route]
    return order.index(entry.first) <= order.index(name) <= order.index(entry.last)


def difference(route: str, name: str) -> str:
    """What is different about `route` in generation `name`, in words, or empty."""
    order = list(catalog().generations)
    entry = catalog().routes[route]
    said = [words for since, words in entry.but.items() if order.index(since) <= order.index(name)]
    if not said or not has(route, name):
        return ""
    # A restriction of the first generation alone ends with it.
    only_first = list(entry.but) == [entry.first] and name != entry.first
    return "" if only_first else said[-1]


def verdict(route: str, name: str) -> Verdict:
    """Whether generation `name` has `route`; if not, which had it last and what to take instead."""
    found = catalog()
    entry, here = found.routes[route], generation(name)
    source = f"backends/catalog/generations.toml of {found.date}, from {here.ref}"
    if has(route, name):
        different = difference(route, name)
        return Verdict(
            "route-generation",
            Level.WARN if different else Level.PASS,
            different or f"{here.title} has this route",
            figure=entry.script,
            source=source,
        )
    order = list(found.generations)
    early = order.index(name) < order.index(entry.first)
    last = found.generations[entry.first if early else entry.last].title
    return Verdict(
        "route-generation",
        Level.FAIL,
        f"{here.title} does not have this route"
        + (f": {entry.gone}" if entry.gone and not early else ""),
        figure=f"the first that has it is {last}" if early else f"the last that had it is {last}",
        source=source,
        fix=f"use {last}" + (f", or {entry.instead}" if entry.instead and not early else ""),
    )


def undecided(error: UsageError) -> Verdict:
    """Why no generation is known: what `chosen` or `generation` raised."""
    return Verdict(
        "route-generation",
        Level.FAIL,
        clean(error.title),
        clean(error.why),
        fix=error.fix,
        option="options.generation",
    )


def reads(
    check: str,
    title: str,
    name: str,
    span: tuple[str, str],
    *,
    fix: str,
    option: str = "options.image",
) -> Verdict:
    """Whether generation `name` reads a checkpoint called `title`: those of `span` do, the first and
    the last. `fix`: what to do beside taking another generation, which `option` chooses."""
    order = list(catalog().generations)
    first, last = span
    fits = order.index(first) <= order.index(name) <= order.index(last)
    here = generation(name)
    return Verdict(
        check,
        Level.PASS if fits else Level.FAIL,
        f"{clean(title)} is read by {here.title}"
        if fits
        else f"{here.title} does not read {clean(title)}",
        f"{generation(first).title} to {generation(last).title}",
        here.ref,
        "" if fits else f"use {generation(last).title}, or {fix}",
        "" if fits else option,
    )
