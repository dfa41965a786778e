"""A plan's command made ready for a keeper, wherever it runs: host, environment or container."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from console.runtimes import containers, host
from console.runtimes.host import Launch

if TYPE_CHECKING:
    from console.planning.plan import Command
    from console.settings import Settings


def prepare(
    command: Command,
    values: Mapping[str, str],
    settings: Settings,
    folder: Path,
    owner: containers.Owner,
    stop_seconds: float = 10.0,
    environ: Mapping[str, str] = os.environ,
) -> Launch:
    """What to keep in `folder`; raises as `host.launch` and `containers.prepare` do.

    `stop_seconds`: what a container gets from SIGTERM to SIGKILL. The keeper's grace must be longer
    (`Launch.stop_seconds` and five more), and its `leave` be `Launch.contained`.
    """
    if command.image:
        return containers.prepare(command, values, folder, owner, round(stop_seconds), environ)
    return host.launch(command, values, settings, environ)
