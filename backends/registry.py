"""Which export backends there are. Ours and third parties' are found the same way: as entry points.

The group is ``tritondeck.backends``. Listing imports nothing; `get` imports the one that was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from backends.base import Backend
from console.facts import DeckError, UsageError
from console.text import clean

GROUP = "tritondeck.backends"
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
    return tuple(
        sorted(found, key=lambda name: (origin_of(found[name]).distribution != OURS, name))
    )


def origins() -> dict[str, Origin]:
    """Name to distribution and version; none is imported."""
    return {name: origin_of(point) for name, point in _found().items()}


def get(name: str) -> Backend:
    """Import the backend `name` and make it.

    Raises `UsageError` for a name that nobody registered, `DeckError` for a plugin that does not
    load or is not what it says.
    """
    found = _found()
    point = found.get(name)
    if point is None:
        known = ", ".join(names()) or "none: is tritondeck installed?"
        raise UsageError(f"no export backend {clean(name)}", why=f"there are: {known}")
    origin = origin_of(point)
    fix = f"update or uninstall {origin}"
    try:
        made = point.load()()
    # A plugin is foreign code: whatever it raises while it is imported or made must not end the
    # console, which still has its other routes.
    except Exception as error:
        raise DeckError(
            f"the export backend {clean(name)} does not load",
            why=f"{type(error).__name__}: {clean(str(error))}",
            fix=fix,
        ) from error
    if not isinstance(made, Backend) or made.name != name:
        raise DeckError(
            f"the export backend {clean(name)} is not one",
            why=f"{clean(point.value)} must be a subclass of backends.base.Backend with this name",
            fix=fix,
        )
    return made


def origin_of(point: EntryPoint) -> Origin:
    """The distribution of one entry point."""
    if point.dist is None:
        return Origin("unknown", "")
    return Origin(clean(point.dist.name), clean(point.dist.version))


def _found() -> dict[str, EntryPoint]:
    """By name; ours win over a third party's of the same name, then the first distribution by name."""
    points = sorted(
        entry_points(group=GROUP),
        key=lambda p: (origin_of(p).distribution != OURS, origin_of(p).distribution),
    )
    found: dict[str, EntryPoint] = {}
    for point in points:
        found.setdefault(clean(point.name), point)
    return found
