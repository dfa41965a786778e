"""Which export backends there are. Ours and third parties' are found the same way: as entry points.

The group is ``tritondeck.backends``. Listing imports nothing; `get` imports the one that was chosen.
A route may also have a light `Door` in the group ``tritondeck.doors``, by the same name and of the
same distribution; `door` imports that one alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from backends.door import Door
from console.facts import DeckError, UsageError
from console.text import clean

if TYPE_CHECKING:
    from backends.base import Backend

GROUP, DOORS = "tritondeck.backends", "tritondeck.doors"
OURS = "tritondeck"


@dataclass(frozen=True, slots=True)
class Origin:
    """The distribution that a backend comes from."""

    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


def names() -> tuple[str, ...]:
    """The names of all backends, ours first; none is imported."""
    found = _found()
    return tuple(sorted(found, key=lambda name: (_theirs(found[name][1]), name)))


def origins() -> dict[str, Origin]:
    """Name to distribution and version; none is imported."""
    return {name: origin for name, (_, origin) in _found().items()}


def get(name: str) -> Backend:
    """Import the backend `name` and make it.

    Raises `UsageError` for a name that nobody registered, `DeckError` for a plugin that does not
    load or is not what it says.
    """
    from backends.base import Backend

    point, origin = _point(name)
    made = _made(name, point, origin)
    if not isinstance(made, Backend) or made.name != name:
        raise DeckError(
            f"the export backend {clean(name)} is not one",
            why=f"{clean(point.value)} must be a subclass of backends.base.Backend with this name",
            fix=f"update or uninstall {origin}",
        )
    return made


def door(name: str) -> Door:
    """What the route says of checkpoints before it is chosen: its light part where it has one,
    else the backend itself. Raises as `get` does."""
    _, origin = _point(name)
    point = _doors(tuple(sys.path)).get((name, origin))
    if point is None:
        return get(name)
    made = _made(name, point, origin)
    if not isinstance(made, Door) or made.name != name:
        raise DeckError(
            f"the door of the export backend {clean(name)} is not one",
            why=f"{clean(point.value)} must be a subclass of backends.door.Door with this name",
            fix=f"update or uninstall {origin}",
        )
    return made


def _point(name: str) -> tuple[EntryPoint, Origin]:
    found = _found().get(name)
    if found is None:
        known = ", ".join(names()) or "none: is tritondeck installed?"
        raise UsageError(f"no export backend {clean(name)}", why=f"there are: {known}")
    return found


def _made(name: str, point: EntryPoint, origin: Origin) -> object:
    try:
        return point.load()()
    # A plugin is foreign code: whatever it raises while it is imported or made must not end the
    # console, which still has its other routes.
    except Exception as error:
        raise DeckError(
            f"the export backend {clean(name)} does not load",
            why=f"{type(error).__name__}: {clean(str(error))}",
            fix=f"update or uninstall {origin}",
        ) from error


def origin_of(point: EntryPoint) -> Origin:
    """The distribution of one entry point."""
    if point.dist is None:
        return Origin("unknown", "")
    return Origin(clean(point.dist.name), clean(point.dist.version))


def _found() -> Mapping[str, tuple[EntryPoint, Origin]]:
    return _points(tuple(sys.path))


@cache
def _points(path: tuple[str, ...]) -> Mapping[str, tuple[EntryPoint, Origin]]:
    """By name; ours win over a third party's of the same name, then the first distribution by name.

    Kept for each `sys.path`: finding them opens every distribution's metadata, and a cursor that
    passes over checkpoints asks at each.
    """
    points = [(point, origin_of(point)) for point in entry_points(group=GROUP)]
    found: dict[str, tuple[EntryPoint, Origin]] = {}
    for point, origin in sorted(points, key=lambda p: (_theirs(p[1]), p[1].distribution)):
        found.setdefault(clean(point.name), (point, origin))
    return found


@cache
def _doors(path: tuple[str, ...]) -> Mapping[tuple[str, Origin], EntryPoint]:
    """By name and distribution: nobody stands before another's route."""
    return {(clean(p.name), origin_of(p)): p for p in entry_points(group=DOORS)}


def _theirs(origin: Origin) -> bool:
    return origin.distribution != OURS
