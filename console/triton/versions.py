"""Versions of a deployment's models: which are on disk, which one answers, how one takes over.

In the repository each model has one folder a version (``M/1``, ``M/2``), and each version folder
holds its own ``config.pbtxt``, which Triton does not read there. The one that it reads, ``M/config.pbtxt``,
is a copy of the live version's with a version policy that names it, so that a server which starts anew
loads what was live. A version of a deployment has the same number in all of its models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from console import storage
from console.facts import DeckError, UsageError
from console.text import clean
from console.triton.repository import from_text, to_text

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelParameter

FILE = "versions.json"
CONFIG = "config.pbtxt"
_FORMAT = 1
NEXT = ".next"
"""What the name of a model ends in while it is loaded beside the live one."""


@dataclass(frozen=True, slots=True)
class Version:
    """One verified version. `key` is the digest of everything that made it, `run` who did."""

    number: int
    models: tuple[str, ...]
    """Models that others call come first."""
    key: str
    run: str
    verified: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Versions:
    """What a deployment has in a model repository; `versions.json` in its work folder."""

    deployment: str
    repository: Path
    live: int
    previous: int
    """What a rollback goes back to; 0 for nothing."""
    known: tuple[Version, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """What the live version consists of."""
        return self.version(self.live).models

    @property
    def all_models(self) -> tuple[str, ...]:
        """Every model that a version of it has."""
        return tuple(dict.fromkeys(model for one in self.known for model in one.models))

    def version(self, number: int) -> Version:
        for one in self.known:
            if one.number == number:
                return one
        there = ", ".join(str(one.number) for one in self.known)
        raise UsageError(
            f"{self.deployment} has no version {number}", why=f"versions on disk: {there}"
        )


# ---------------------------------------------------------------------------- what is on disk


def read(work: Path) -> Versions | None:
    """What stands in the deployment's work folder; None before its first verified version."""
    raw = storage.read_json(work / FILE)
    if raw is None or raw.get("version") != _FORMAT:
        return None
    try:
        return Versions(
            deployment=raw["deployment"],
            repository=Path(raw["repository"]),
            live=raw["live"],
            previous=raw["previous"],
            known=tuple(Version(**{**one, "models": tuple(one["models"])}) for one in raw["known"]),
        )
    except (KeyError, TypeError) as error:
        raise DeckError(
            f"{clean(str(work / FILE))} is damaged",
            why=clean(str(error)),
            fix="remove it and deploy again",
        ) from error


def write(work: Path, versions: Versions) -> None:
    value = {"version": _FORMAT, **asdict(versions), "repository": str(versions.repository)}
    storage.write_json(work / FILE, value)


def settle(work: Path, repository: Path, key: str) -> int:
    """The number for what `key` stands for: the verified version that it made, or the next one.

    An attempt that was never verified gives its number to the next. In another repository (the
    deployment has joined a server, or left one) the numbers begin anew.
    """
    versions = read(work)
    if versions is None or versions.repository != repository:
        return 1
    for one in versions.known:
        if one.key == key:
            return one.number
    return 1 + max(one.number for one in versions.known)


def verified(work: Path, deployment: str, repository: Path, made: Version) -> Versions:
    """Note that a version was verified and is the live one from now on."""
    before = read(work)
    if before is None or before.repository != repository:
        before = Versions(deployment, repository, 0, 0, ())
    others = tuple(one for one in before.known if one.number != made.number)
    known = tuple(sorted((*others, made), key=lambda one: one.number))
    return now_live(work, replace(before, known=known), made.number)


def now_live(work: Path, versions: Versions, number: int) -> Versions:
    """Note that `number` answers from now on."""
    if number != versions.live:
        versions = replace(versions, live=number, previous=versions.live)
    write(work, versions)
    return versions


def everything(works: Path) -> Iterator[Versions]:
    """Of every deployment with a verified version; `works` is the folder of all work folders."""
    for file in sorted(works.glob(f"*/{FILE}")):
        try:
            versions = read(file.parent)
        except DeckError:
            continue  # damaged: whoever asks for that deployment itself is told
        if versions is not None:
            yield versions


def owners(works: Path, repository: Path) -> dict[str, Versions]:
    """Deployments with verified models in `repository`."""
    return {v.deployment: v for v in everything(works) if v.repository == repository}


# ---------------------------------------------------------------------------- configurations


def config_of(repository: Path, model: str, version: int) -> ModelConfig:
    """The configuration in a version folder."""
    file = repository / model / str(version) / CONFIG
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise DeckError(
            f"version {version} of {clean(model)} has no configuration",
            why=f"{clean(str(file))}: {error.strerror or error}",
            fix="deploy again, which builds a version anew",
        ) from error
    return from_text(text, str(file))


def put(repository: Path, model: str, version: int, also: int = 0) -> None:
    """Make `version` (and the older `also`) what Triton serves of `model` after its next load.

    A text that this parser does not take is left to the server, whose parser knows its own fields:
    it is copied as it is, and the newest version is the one that is served then.
    """
    try:
        config = config_of(repository, model, version)
    except UsageError:
        text = (repository / model / str(version) / CONFIG).read_bytes()
        _write_where_it_differs(repository / model / CONFIG, text)
        return
    both = (repository / model / str(also)).is_dir() if also else False
    served = sorted({version, also}) if both else [version]
    config.version_policy.specific.versions[:] = served
    write_config(repository / model, config)


def write_config(folder: Path, config: ModelConfig) -> None:
    """Write ``config.pbtxt`` where it differs: Triton takes a newer one for a changed model."""
    _write_where_it_differs(folder / CONFIG, to_text(config).encode())


def _write_where_it_differs(file: Path, data: bytes) -> None:
    try:
        same = file.read_bytes() == data
    except OSError:
        same = False
    if not same:
        storage.write_private(file, data)


# ---------------------------------------------------------------------------- what needs what


def needed_by(repository: Path, models: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Which of `models` other models in the repository need: model to those that name it.

    A model needs another when a step of its ensemble, or a parameter of it, has that name.
    """
    wanted = frozenset(models)
    found: dict[str, tuple[str, ...]] = {}
    for name, config in _served(repository):
        if name in wanted:
            continue
        used = {step.model_name for step in config.ensemble_scheduling.step}
        used |= {parameter.string_value for parameter in references(config)}
        for model in sorted(used & wanted):
            found[model] = (*found.get(model, ()), name)
    return found


def references(config: ModelConfig) -> tuple[ModelParameter, ...]:
    """Parameters that may name another model; those that only tell who made it cannot."""
    return tuple(
        parameter
        for name, parameter in config.parameters.items()
        if not name.startswith("tritondeck_")
    )


def staged(folder: Path) -> bool:
    """Whether a model's folder only stands for a version of another (`switching.stage`).

    A server that was still loading it when it was removed makes it anew, for Python's cache alone.
    """
    own = (part for part in folder.iterdir() if part.is_dir() and not part.is_symlink())
    return NEXT in folder.name and not any(
        entry.name != "__pycache__" for part in own for entry in part.iterdir()
    )


def _served(repository: Path) -> Iterator[tuple[str, ModelConfig]]:
    for file in sorted(repository.glob(f"*/{CONFIG}")):
        if staged(file.parent):
            continue
        try:
            text = file.read_text(encoding="utf-8")
            yield file.parent.name, from_text(text, str(file))
        except (OSError, UsageError, UnicodeDecodeError):
            continue  # such a model does not load, so it needs nothing
