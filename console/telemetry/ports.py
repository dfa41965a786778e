"""Who holds a port: a bind test first, then the process, where we may see it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import psutil

from console.text import clean


@dataclass(frozen=True, slots=True)
class PortHolder:
    """What keeps a port from being bound."""

    port: int
    pid: int | None = None
    """None when the process belongs to another user and cannot be seen."""
    name: str = ""
    user: str = ""
    ours: bool = False
    """A process of a service that tritondeck started."""
    reason: str = ""
    """Why the port cannot be bound when nobody holds it: a privileged port, an address not here."""

    @property
    def words(self) -> str:
        """``tritonserver (pid 4711)``, or what is known instead."""
        if self.reason:
            return self.reason
        if self.pid is None:
            return "a process of another user"
        whose = " of ours" if self.ours else f" of {self.user}" if self.user else ""
        return f"{self.name} (pid {self.pid}){whose}"


def holder(port: int, address: str = "127.0.0.1", ours: Collection[int] = ()) -> PortHolder | None:
    """Who holds `port` on `address`; None when it is free. `ours`: pids of our services."""
    return holders((port,), address, ours)[port]


def holders(
    ports: Iterable[int], address: str = "127.0.0.1", ours: Collection[int] = ()
) -> Mapping[int, PortHolder | None]:
    """`holder` for several ports, with one look at the process table. Port 0 is always free."""
    refusals = {port: _refusal(port, address) if port else 0 for port in ports}
    taken = {port for port, code in refusals.items() if code == errno.EADDRINUSE}
    pids = _pids(taken) if taken else {}
    answers: dict[int, PortHolder | None] = {}
    for port, code in refusals.items():
        if code == 0:
            answers[port] = None
        elif code == errno.EADDRINUSE:
            answers[port] = _described(port, pids.get(port), ours)
        else:
            answers[port] = PortHolder(
                port, reason=_REASONS.get(code, errno.errorcode.get(code, ""))
            )
    return answers


_REASONS = {
    errno.EACCES: "ports below 1024 need privileges",
    errno.EADDRNOTAVAIL: "no interface of this host has that address",
}


def _refusal(port: int, address: str) -> int:
    """The errno of a bind, 0 when it works. SO_REUSEADDR looks past TIME_WAIT, as servers do."""
    try:
        places = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:  # an unknown name, which no server can bind either
        return errno.EADDRNOTAVAIL
    family, kind, protocol, _, place = places[0]
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            # Two sockets may both be bound with SO_REUSEADDR; only one may listen.
            probe.listen(1)
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return 0


def _pids(ports: set[int]) -> dict[int, int]:
    """Port to pid, listening sockets before others."""
    found: dict[int, int] = {}
    for connection in psutil.net_connections(kind="tcp"):
        if not connection.laddr or connection.pid is None or connection.laddr.port not in ports:
            continue
        port = connection.laddr.port
        if port not in found or connection.status == psutil.CONN_LISTEN:
            found[port] = connection.pid
    return found


def _described(port: int, pid: int | None, ours: Collection[int]) -> PortHolder:
    if pid is None:
        return PortHolder(port)
    try:
        process = psutil.Process(pid)
        name, user = clean(process.name(), cap=60), clean(process.username(), cap=60)
    except psutil.Error:  # it ended, or belongs to another user
        return PortHolder(port, pid, "a process", ours=pid in ours)
    return PortHolder(port, pid, name, user, ours=pid in ours)
