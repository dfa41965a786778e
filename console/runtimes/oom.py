"""How many processes of a container the kernel has ended for want of memory, from its cgroup.

Engines say it only of the container's first process, and only when that has ended; podman on
cgroup v1 not even then. A dead python stub leaves a server that looks well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


@dataclass
class OomCounter:
    """Reads one small file of the kernel's."""

    file: Path
    last: int = 0

    @classmethod
    def of(cls, pid: int) -> OomCounter | None:
        """The counter of the cgroup that process `pid` is in; None where it cannot be read."""
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()
        except OSError:
            return None  # it has ended, or the engine is on another machine
        for line in lines:
            number, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                return cls(_V1 / path.lstrip("/") / "memory.oom_control")
            if number == "0" and (file := _V2 / path.lstrip("/") / "memory.events").is_file():
                return cls(file)
        return None

    def read(self) -> int:
        """The count now; the last one read when the cgroup is gone."""
        try:
            match = _COUNT.search(self.file.read_text(encoding="ascii"))
        except OSError:
            return self.last
        if match:
            self.last = int(match[1])
        return self.last
