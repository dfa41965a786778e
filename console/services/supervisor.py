"""The detached process that keeps one server: a keeper that also tidies shared memory.

Started as ``python -m console.services.supervisor`` by `ServiceStore.start`. It outlives runs and
consoles. When it is killed itself the server goes on serving; `ServiceStore.stop` still ends it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from console import detach, keeper

if TYPE_CHECKING:
    from console.planning.plan import ServiceSpec
    from console.settings import Settings

SHARED_MEMORY = Path("/dev/shm")
_SHORTEST_PREFIX = 8


def remove_regions(prefix: str) -> int:
    """Remove this server's own regions from /dev/shm; how many there were.

    Triton's python stubs leave theirs behind when the server is killed. A short prefix could match
    somebody else's and removes nothing.
    """
    if len(prefix) < _SHORTEST_PREFIX or "/" in prefix:
        return 0
    mine = [
        region
        for region in SHARED_MEMORY.glob("*")
        if region.name.startswith(prefix) and region.lstat().st_uid == os.geteuid()
    ]
    for region in mine:
        region.unlink(missing_ok=True)
    return len(mine)


def start(
    folder: Path,
    spec: ServiceSpec,
    values: Mapping[str, str],
    shm_prefix: str,
    settings: Settings,
) -> None:
    """Start the server in `folder` under a supervisor; returns when its process runs."""
    from console.runtimes.host import launch

    command = launch(spec.process, values, settings)
    command.cwd.mkdir(mode=0o700, parents=True, exist_ok=True)
    request = keeper.Request(
        folder=str(folder),
        argv=tuple(command.argv),
        env=dict(command.env),
        cwd=str(command.cwd),
        log=str(folder / "server.log"),
        grace=spec.stop_timeout,
        end_with_keeper=False,
        extra={"shm_prefix": shm_prefix},
    )
    detach.start("console.services.supervisor", asdict(request))


def main() -> NoReturn:
    def work(raw: dict[str, Any], ready: detach.Ready) -> None:
        request = keeper.request_of(raw)
        prefix = str((request.extra or {}).get("shm_prefix", ""))

        def tidy() -> str:
            count = remove_regions(prefix)
            return f"removed {count} shared memory region(s)" if count else ""

        keeper.run(keeper.Keeper(request, tidy), ready)

    detach.detached(work)


if __name__ == "__main__":
    main()
