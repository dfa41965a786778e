"""Two machines for a test: network namespaces of its own, joined by a wire.

What binds every interface (Ray does) binds those of the namespace alone, and what knows a machine by
its address sees two. Nothing of it outlives its processes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """One network namespace and the address on the wire."""

    pid: int
    address: str

    @property
    def enter(self) -> tuple[str, ...]:
        """Words in front of a command that is to run there."""
        mine = (program("nsenter"), f"--target={self.pid}", "--net")
        return mine if os.geteuid() == 0 else (*mine, "--user", "--preserve-credentials")


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"{name}: scripts/system-packages names what the tests need"
    return found


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Both up, with addresses 10.77.0.1 and 10.77.0.2 and their own loopback."""
    holders: list[subprocess.Popen[str]] = []
    try:
        first = _namespace((), "10.77.0.1", holders)
        second = _namespace(first.enter, "10.77.0.2", holders)
        _ip(first, "link add left type veth peer name right")
        _ip(first, f"link set right netns {second.pid}")
        for machine, device in ((first, "left"), (second, "right")):
            _ip(machine, "link set lo up")
            _ip(machine, f"addr add {machine.address}/24 dev {device}")
            _ip(machine, f"link set {device} up")
        yield first, second
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def _namespace(
    inside: tuple[str, ...], address: str, holders: list[subprocess.Popen[str]]
) -> Machine:
    """A namespace that lives as long as its holder, which says when it is there."""
    root = os.geteuid() == 0
    own = () if root or inside else ("--user", "--map-root-user")
    holder = subprocess.Popen(
        [*inside, program("unshare"), "--net", *own, "sh", "-c", "echo ready; exec sleep 3600"],
        stdout=subprocess.PIPE,
        text=True,
    )
    holders.append(holder)
    assert holder.stdout is not None and holder.stdout.readline().strip() == "ready"
    return Machine(holder.pid, address)


def _ip(machine: Machine, words: str) -> None:
    subprocess.run([*machine.enter, program("ip"), *words.split()], check=True)
