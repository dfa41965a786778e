"""What is watched, and what every kind of asker has in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from console.facts import Endpoint
from console.triton.plain_http import token_headers
from console.triton.statistics import Told

TIMEOUT = 2.0
"""Seconds for everything that one poll asks of one address."""
STATES_EVERY = 2.0
"""Seconds between two looks at the repository index."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is watched. `headers` are added at each start from the endpoint's token."""

    name: str
    endpoint: Endpoint
    ca_file: Path | None = None
    token: Callable[[], Mapping[str, str]] | None = None
    """Headers with the token; read when the watch starts and again after a 403. The endpoint's
    token file when None."""

    def headers(self) -> Mapping[str, str]:
        return self.token() if self.token else token_headers(self.endpoint)


class Asker(Protocol):
    """Asks one kind of server, and turns its answers into `Told`."""

    def ask(self) -> Told: ...

    def close(self) -> None: ...
