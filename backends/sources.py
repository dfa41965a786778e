"""Workers and Triton python models that a plan carries: read from this package, written by a step."""

from __future__ import annotations

from importlib import resources

from console.planning.plan import FileSpec, join

WORKERS = "${work}/workers"


def worker(name: str) -> FileSpec:
    """The worker script `name` (without suffix), written to ``${work}/workers``."""
    return FileSpec(path=join(WORKERS, f"{name}.py"), text=_read("workers", f"{name}.py"))


def model_files(package: str, names: tuple[str, ...], folder: str) -> tuple[FileSpec, ...]:
    """Source files of the python model `package`, written to the version folder `folder`."""
    return tuple(
        FileSpec(path=join(folder, f"{name}.py"), text=_read("models", package, f"{name}.py"))
        for name in names
    )


def _read(*parts: str) -> str:
    return resources.files("backends").joinpath(*parts).read_text(encoding="utf-8")
