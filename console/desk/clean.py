"""Use case: what takes space, and removing what is safe to remove.

Only folders that hold a manifest of ours, or lie where nothing but ours is put, and never one that
is in use: runs and services by their state, work folders by their lock, environments by the
processes in them. What goes is renamed first, so that nobody finds half of it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from console import storage
from console.desk import configure, options, readonly
from console.desk.views import CleanItem, CleanReport
from console.facts import DeckError, Progress, Refused, UsageError
from console.planning import deployment as files
from console.settings import Settings
from console.text import clean as cleaned

if TYPE_CHECKING:
    from console.runs.model import RunView
    from console.runtimes.environments import Environments
    from console.services.model import ServiceView

KINDS = (
    "environments",
    "runs",
    "services",
    "work",
    "trash",
    "crashes",
    "hub",
    "versions",
    "containers",
)
ONLY_NAMED = frozenset({"versions"})
"""Kinds that are left alone unless they are asked for: nobody loses a version to a routine."""
_TRASH = ".trash-"


@dataclass(frozen=True)
class _Found:
    item: CleanItem
    remove: Callable[[], object]


def clean(
    settings: Settings,
    kinds: Iterable[str] = (),
    *,
    older_than: float = 0.0,
    keep: int = 5,
    remove: bool = False,
    progress: Progress | None = None,
) -> CleanReport:
    """See `Desk.clean`. What cannot be removed after all stays in the report with the reason."""
    if remove:
        readonly.require_writable(settings, "remove anything")
    if wrong := set(kinds) - set(KINDS):
        raise UsageError(f"no such kind: {', '.join(sorted(wrong))}", fix=f"{', '.join(KINDS)}")
    if keep < 0:
        raise UsageError("the number of runs to keep cannot be negative")
    wanted = tuple(kinds) or tuple(kind for kind in KINDS if kind not in ONLY_NAMED)
    items: list[CleanItem] = []
    for kind in wanted:
        for found in _FINDERS[kind](settings, keep):
            item = found.item
            if item.age < older_than:
                continue
            if remove and item.safe:
                if progress:
                    progress(f"removing {item.kind} {item.name}")
                item = _removed(found)
            items.append(item)
    return CleanReport(tuple(items))


def _removed(found: _Found) -> CleanItem:
    try:
        found.remove()
    except DeckError as problem:
        return replace(found.item, safe=False, reason=f"stays: {problem.title}")
    except OSError as error:
        words = storage.storage_error(error, found.item.path).title
        return replace(found.item, safe=False, reason=f"stays: {words}")
    return replace(found.item, removed=True)


def _item(kind: str, path: Path, reason: str, *, safe: bool) -> CleanItem:
    from console.runtimes.environments import disk_usage

    info = path.lstat()
    size = disk_usage(path) if path.is_dir() else info.st_blocks * 512
    if safe and info.st_uid != os.geteuid():
        safe, reason = False, f"belongs to user id {info.st_uid}"
    age = max(0.0, time.time() - info.st_mtime)
    return CleanItem(kind, cleaned(path.name), path, size, age, safe, reason)


def _discard(path: Path) -> None:
    """Out of sight at once, then gone. Links are unlinked, never followed."""
    trash = path.with_name(f"{_TRASH}{path.name}-{secrets.token_hex(4)}")
    path.rename(trash)
    if trash.is_dir() and not trash.is_symlink():
        shutil.rmtree(trash)
    else:
        trash.unlink()


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


# ---------------------------------------------------------------------------- the kinds


def _environments(settings: Settings, keep: int) -> Iterator[_Found]:
    from console.runs.store import RunStore
    from console.runtimes import environments as managed

    known = managed.Environments(settings)
    named, unknown = _named_environments(settings, known)
    active = next((run for run in RunStore(settings).views() if run.active), None)
    for facts in known.list(sizes=False):
        folder = known.root / facts.name
        safe, reason = True, "no lock and no deployment names it"
        if active is not None:
            safe, reason = False, f"run {active.id} is active"
        elif managed.read_marker(folder) is None:
            reason = "its creation was interrupted"
        elif facts.name in named:
            safe, reason = False, f"used by {named[facts.name]}"
        elif unknown:
            safe, reason = False, f"the deployment {unknown} cannot be read: it may name it"
        if safe and managed.users_of(folder):
            safe, reason = False, "processes run in it"
        item = _item("environments", folder, reason, safe=safe)
        yield _Found(item, lambda name=facts.name: known.remove(name))  # type: ignore[misc]


def _named_environments(settings: Settings, known: Environments) -> tuple[dict[str, str], str]:
    """Folder name to who names it, and a deployment that cannot be read, if any."""
    from backends.environments import entries, environment

    named = {known.folder(environment(name)).name: "its lock" for name in entries()}
    unknown = ""
    for file in _entries(settings.folders.deployments):
        if file.suffix != ".toml":
            continue
        try:
            loaded = files.load(file)
            values = options.bound(loaded).model_dump(mode="json", exclude_none=True)
            complete = loaded.model_copy(update={"options": values})
            for spec in options.backend(loaded.backend).needs(complete):
                named.setdefault(known.folder(spec).name, cleaned(f"deployment {loaded.name}"))
        except DeckError:
            unknown = cleaned(file.stem)
    return named, unknown


def _runs(settings: Settings, keep: int) -> Iterator[_Found]:
    from console.runs.model import RunState
    from console.runs.store import RunStore

    store = RunStore(settings)

    def judged(run: RunView, rank: int) -> tuple[bool, str]:
        if run.active or run.state is RunState.FOREIGN:
            return False, run.state.value
        if rank < keep:
            return False, f"among the {keep} newest"
        return True, f"{run.state.value}, beyond the {keep} newest"

    views = sorted(store.views(), key=lambda run: run.deployment)
    for _, mine in groupby(views, key=lambda run: run.deployment):
        ended = 0
        for run in mine:
            safe, reason = judged(run, ended)
            ended += not run.active
            item = _item("runs", run.folder, reason, safe=safe)
            yield _Found(item, lambda run_id=run.id: store.delete(run_id))  # type: ignore[misc]
    yield from _leftovers("runs", settings.folders.runs)


def _services(settings: Settings, keep: int) -> Iterator[_Found]:
    from console.services.model import ServiceState
    from console.services.store import ServiceStore

    store = ServiceStore(settings)
    ended_states = (ServiceState.STOPPED, ServiceState.FAILED, ServiceState.LOST)

    def judged(service: ServiceView, newest: bool) -> tuple[bool, str]:
        if service.state not in ended_states:
            return False, service.state.value
        if newest:
            return False, "the newest of its deployment: its log says why it ended"
        return True, service.state.value

    seen: set[str] = set()
    for service in store.views():
        saved = (
            bool(service.deployment) and configure.file_of(settings, service.deployment).exists()
        )
        safe, reason = judged(service, saved and service.deployment not in seen)
        seen.add(service.deployment)
        item = _item("services", service.folder, reason, safe=safe)
        yield _Found(item, lambda name=service.id: store.delete(name))  # type: ignore[misc]
    yield from _leftovers("services", settings.folders.services)


def _work(settings: Settings, keep: int) -> Iterator[_Found]:
    """A work folder holds the lock that its runs take: without one it is not ours to remove."""
    from console.services.store import ServiceStore

    living = {s.deployment for s in ServiceStore(settings).views() if s.pid}
    for folder in _entries(settings.folders.work):
        if folder.name.startswith(_TRASH) or folder.is_symlink() or not folder.is_dir():
            continue
        safe, reason = True, "its deployment is gone"
        if configure.file_of(settings, folder.name).exists():
            safe, reason = False, f"of the deployment {folder.name}"
        elif folder.name in living:
            safe, reason = False, "a server of it runs"
        elif not (folder / ".lock").is_file():
            safe, reason = False, "no run has worked in it"
        yield _Found(
            _item("work", folder, cleaned(reason), safe=safe),
            lambda folder=folder: _discard_work(folder),  # type: ignore[misc]
        )
    yield from _leftovers("work", settings.folders.work)


def _discard_work(folder: Path) -> None:
    # Patient: a runner that has told its end may not be gone yet.
    handle = storage.lock(folder / ".lock", "a run is working in it", patience=2.0)
    try:
        _discard(folder)
    finally:
        os.close(handle)


def _leftovers(kind: str, folder: Path) -> Iterator[_Found]:
    """What an interrupted removal left."""
    for path in _entries(folder):
        if path.name.startswith(_TRASH):
            item = _item(kind, path, "left by an interrupted removal", safe=True)
            yield _Found(item, lambda path=path: _discard(path))  # type: ignore[misc]


def _everything_in(kind: str, folder: Path, reason: str) -> Iterator[_Found]:
    for path in _entries(folder):
        item = _item(kind, path, reason, safe=True)
        yield _Found(item, lambda path=path: _discard(path))  # type: ignore[misc]


def _trash(settings: Settings, keep: int) -> Iterator[_Found]:
    yield from _everything_in("trash", settings.folders.state / "trash", "forgotten before")


def _crashes(settings: Settings, keep: int) -> Iterator[_Found]:
    yield from _everything_in("crashes", settings.folders.crashes, "a crash report")


def _hub(settings: Settings, keep: int) -> Iterator[_Found]:
    """Hugging Face's own cache: other programs use it too."""

    def refuse() -> None:
        raise Refused("the hub's cache is not ours to remove")

    home = os.environ.get("HF_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "huggingface"
    )
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub"))
    for folder in _entries(cache):
        if folder.name.startswith("models--"):
            reason = "shared with other programs: `hf cache` removes it"
            yield _Found(_item("hub", folder, reason, safe=False), refuse)


def _versions(settings: Settings, keep: int) -> Iterator[_Found]:
    """Versions of models; the live ones stay, and the `keep` newest beside them."""
    from console.desk import versions as use
    from console.triton import versions

    for known in versions.everything(settings.folders.work):
        older = [one for one in reversed(known.known) if one.number != known.live]
        for one in known.known:
            folders = [f for f in use.folders_of(settings, known, one) if f.is_dir()]
            if not folders:
                continue
            safe, reason = True, f"version {known.live} is live"
            if one.number == known.live:
                safe, reason = False, "it is live"
            elif one in older[:keep]:
                safe, reason = False, f"among the {keep} newest that a rollback can go to"
            items = [_item("versions", folder, reason, safe=safe) for folder in folders]
            size = sum(item.size for item in items)
            name = cleaned(f"{known.deployment} version {one.number}")
            item = replace(items[0], name=name, size=size)
            prune = partial(use.prune, settings, known.deployment, one.number)
            yield _Found(item, prune)


def _containers(settings: Settings, keep: int) -> Iterator[_Found]:
    """Containers that nobody follows any more; an engine that does not answer is left out."""
    from console.runtimes import containers, engines

    for kind in engines.ENGINES:
        engine = kind()
        try:
            found = list(containers.leftovers(engine)) if engine.installed else []
        except DeckError:
            continue
        for one in found:
            reason = f"{engine.name}: nobody follows it" + (", but it runs" if one.alive else "")
            name = cleaned(one.name)
            item = CleanItem("containers", name, Path(one.id), 0, 0.0, not one.alive, reason)
            yield _Found(item, partial(engine.remove, one.id))


_FINDERS: dict[str, Callable[[Settings, int], Iterator[_Found]]] = {
    "environments": _environments,
    "runs": _runs,
    "services": _services,
    "work": _work,
    "trash": _trash,
    "crashes": _crashes,
    "hub": _hub,
    "versions": _versions,
    "containers": _containers,
}
