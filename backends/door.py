"""What a route says of a checkpoint before it is chosen.

A cursor that passes over checkpoints asks every route. A door is imported alone for that: the
options, plans and catalogs behind it take 3 to 12 MB a route and come with `backends.registry.get`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from console.checkpoints.model import Checkpoint
from console.facts import Verdict

Checkpoints = Mapping[str, Checkpoint]
"""Role to what was read from disk."""


@dataclass(frozen=True, slots=True)
class Role:
    """One checkpoint that a route takes."""

    name: str
    title: str
    required: bool = True


class Door(ABC):
    """The part of a backend that needs nothing but a checkpoint's facts."""

    name: ClassVar[str]
    """Stable, used in deployment files: ``onnx``."""
    title: ClassVar[str]
    """One line for the screen."""
    roles: ClassVar[tuple[Role, ...]] = (Role("model", "Checkpoint"),)
    served: ClassVar[tuple[frozenset[str], ...]] = ()
    """Names of inputs by which a model that somebody else serves is known as one of this kind: all of one
    of these sets. Empty where the route's models say themselves who built them."""

    @abstractmethod
    def accepts(self, checkpoints: Checkpoints) -> Verdict:
        """Whether this route takes these checkpoints; if not, why not and what would.

        Of a route with several roles it is asked for one of them too, while the others are still
        to be chosen.
        """
