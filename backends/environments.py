"""The managed environments that routes need, from dated data that the operator may override.

The data is `catalog/environments.toml`; an `environments.toml` in the operator's settings folder
replaces single keys of it or adds environments.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from console import dated
from console.facts import UsageError
from console.planning.deployment import Deployment, EnvironmentChoice
from console.planning.plan import EnvironmentSpec
from console.settings import folders
from console.text import clean

Requirement = Annotated[str, Field(pattern=r"^[A-Za-z0-9@./][^\r\n]*$")]
"""One line of a lock. A leading dash would be an option to pip."""


class CatalogEntry(BaseModel):
    """One environment in the data file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    sources: tuple[str, ...] = ()
    requirements: Annotated[tuple[Requirement, ...], Field(min_length=1)]
    pre: tuple[Requirement, ...] = ()
    constraints: tuple[Requirement, ...] = ()
    python_range: Annotated[str, Field(pattern=r"^([<>=!]=?\d+\.\d+)(,[<>=!]=?\d+\.\d+)*$")]
    imports: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$")], ...] = ()
    whole: bool = False
    """The lock is complete and pip resolves nothing."""
    bytes: Annotated[int, Field(ge=0)] = 0
    """What it takes on disk; 0 when nobody has measured it."""


class Catalog(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    checked: datetime.date
    environments: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")], CatalogEntry]


def environment(name: str, deployment: Deployment | None = None) -> EnvironmentSpec:
    """The environment `name` as `deployment` wants it: with the interpreter that it names, or the
    existing environment that it uses. Raises `UsageError` for an unknown name and invalid data."""
    entry = entries().get(name)
    if entry is None:
        raise UsageError(
            f"no environment {clean(name)}", why=f"there are {', '.join(sorted(entries()))}"
        )
    wish = deployment.environments.get(name) if deployment else None
    wish = wish or EnvironmentChoice()
    return EnvironmentSpec(
        name=name,
        title=entry.title,
        requirements=entry.requirements,
        pre=entry.pre,
        constraints=entry.constraints,
        python=wish.python,
        python_range=entry.python_range,
        existing=wish.use,
        imports=entry.imports,
        whole=entry.whole,
    )


def entries(override: Path | None = None) -> dict[str, CatalogEntry]:
    """Every environment of the data file, the operator's file (`override`, or the one in their
    settings folder) laid over it."""
    return catalog(override).environments


def catalog(override: Path | None = None) -> Catalog:
    """The whole data with its date. Raises `UsageError` that names file, line and key."""
    file = override or folders().config / "environments.toml"
    return dated.load(Catalog, "backends.catalog", "environments.toml", file)
