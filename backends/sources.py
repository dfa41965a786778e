"""Workers and Triton python models that a plan carries: read from this package, written by a step to
the deployment's folder and the model repository."""

from __future__ import annotations

from importlib import resources

from console.planning.plan import FileSpec, join
from console.planning.variables import literal

WORKERS = "${work}/workers"
VERSION = "${version}"
"""Of the models that a plan makes; `THE_VERSION` is its variable."""


def model_folder(model: str) -> str:
    """A model's folder in the repository (template)."""
    return join("${repository}", literal(model))


def version_folder(model: str) -> str:
    """Where the plan's version of a model stands (template)."""
    return join(model_folder(model), VERSION)


def worker(name: str) -> FileSpec:
    """The worker script `name` (without suffix), written to ``${work}/workers``."""
    return FileSpec(path=join(WORKERS, f"{name}.py"), text=_read("workers", f"{name}.py"))


def model_files(package: str, names: tuple[str, ...], folder: str) -> tuple[FileSpec, ...]:
    """Source files of the python model `package`, written to the version folder `folder`.

    An empty file takes the place of Python's ``__pycache__``: bytecode written there would look to
    Triton like a changed model, which the next load request loads again. (The interpreter inside
    the stub is isolated, so PYTHONDONTWRITEBYTECODE does not reach it.)
    """
    sources = (
        FileSpec(path=join(folder, f"{name}.py"), text=_read("models", package, f"{name}.py"))
        for name in names
    )
    return (*sources, FileSpec(path=join(folder, "__pycache__"), text=""))


def _read(*parts: str) -> str:
    return resources.files("backends").joinpath(*parts).read_text(encoding="utf-8")
