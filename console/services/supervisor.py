"""The detached process that keeps one server: a keeper that also tidies shared memory.

Started as ``python -m console.services.supervisor`` by `ServiceStore.start`. It outlives runs and
consoles. When it is killed itself the server goes on serving; `ServiceStore.stop` still ends it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

from console import detach, keeper

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
