"""Use case: what is this checkpoint, and which routes take it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from console.desk.views import BackendView, RouteView
from console.facts import CancelCheck, Level, Verdict
from console.planning.deployment import at_home
from console.text import clean

if TYPE_CHECKING:
    from backends.door import Door
    from console.checkpoints.model import Checkpoint

_ORDER = {Level.PASS: 0, Level.WARN: 1, Level.UNKNOWN: 2, Level.FAIL: 3}


def inspect(path: Path) -> Checkpoint:
    """Facts of the checkpoint at `path`, made absolute; a hub id stays one."""
    from console.checkpoints.hub import is_hub
    from console.checkpoints.read import read

    return read(path if is_hub(str(path)) else at_home(path).absolute())


def browse(folder: Path, cancelled: CancelCheck | None = None) -> tuple[Checkpoint, ...]:
    from console.checkpoints.browse import browse as look

    return tuple(look(at_home(folder).absolute(), cancelled))


def scan(
    folder: Path, progress: Callable[[int], None] | None, cancelled: CancelCheck | None
) -> Iterator[Checkpoint]:
    from console.checkpoints.scan import scan as walk

    return walk(at_home(folder).absolute(), progress, cancelled)


def backends() -> tuple[BackendView, ...]:
    from backends import registry

    origins = registry.origins()
    return tuple(BackendView(name, clean(str(origins[name]))) for name in registry.names())


def accepted(backend: Door, checkpoints: Mapping[str, Checkpoint]) -> tuple[str, Verdict]:
    """The backend's verdict, and the role of the first checkpoint in it.

    A single checkpoint whose role is not among the backend's own takes the one that suits it best.
    """
    names = [role.name for role in backend.roles]
    asked, first = next(iter(checkpoints.items()))
    if asked in names and set(checkpoints) <= set(names):
        return asked, backend.accepts(checkpoints)
    tried = [asked] if asked in names else names
    answers = [(name, backend.accepts({name: first})) for name in tried]
    return min(answers, key=lambda answer: _ORDER[answer[1].level])


def routes(checkpoints: Mapping[str, Checkpoint]) -> tuple[RouteView, ...]:
    """Ask every backend; one that cannot be imported is listed with the reason."""
    found = [_route(view, checkpoints) for view in backends()]
    return tuple(sorted(found, key=lambda r: (_ORDER[r.verdict.level], r.name)))


def _route(view: BackendView, checkpoints: Mapping[str, Checkpoint]) -> RouteView:
    from backends import registry

    try:
        backend = registry.door(view.name)
        role, verdict = accepted(backend, checkpoints)
        shown = role if len(backend.roles) > 1 else ""
        return RouteView(view.name, backend.title, verdict, view.origin, shown)
    except Exception as error:  # noqa: BLE001 - a third party's code: its failure is its verdict
        verdict = Verdict(
            "route",
            Level.FAIL,
            f"the backend {view.name} does not work here",
            figure=clean(f"{type(error).__name__}: {error}"),
            source=view.origin,
            fix="reinstall or remove the distribution that provides it",
        )
        return RouteView(view.name, view.name, verdict, view.origin)
