"""Ports of a server: found free on its own address, or refused with the holder's name."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from console.facts import Refused, UsageError
from console.planning.variables import expand, names
from console.telemetry.ports import holder
from console.text import clean

AUTO = "0"


def settle(urls: Sequence[str], values: Mapping[str, str]) -> dict[str, str]:
    """Values for every port variable of `urls` (templates): fixed ones checked, others found.

    A variable of a URL whose value is a number is a port; ``0`` means a free one. Sockets of found
    ports are held until all are known, so that none is given twice. Raises `Refused` naming the
    holder of a fixed port that is taken.
    """
    chosen: dict[str, str] = {}
    held: list[socket.socket] = []
    try:
        for url in urls:
            for name in sorted(names(url)):
                value = values.get(name, "")
                if name in chosen or not value.isdigit():
                    continue
                address = _address(url, {**values, **chosen})
                if value == AUTO:
                    held.append(_free(address))
                    chosen[name] = str(held[-1].getsockname()[1])
                else:
                    _check(name, address, int(value))
                    chosen[name] = value
    finally:
        for one in held:
            one.close()
    return chosen


def _address(url: str, values: Mapping[str, str]) -> str:
    full = expand(url, values)
    host = urlsplit(full if "://" in full else f"//{full}").hostname
    if not host:
        raise UsageError(f"{clean(full)} names no address to listen on")
    return host


def _free(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        sock.bind((address, 0))
    except OSError as error:
        sock.close()
        raise Refused(
            f"no port on {clean(address)} can be used", why=error.strerror or str(error)
        ) from error
    return sock


def _check(name: str, address: str, port: int) -> None:
    taken = holder(port, address)
    if taken is not None:
        raise Refused(
            f"port {port} on {clean(address)} is taken",
            why=f"{taken.words} holds it" if not taken.reason else taken.reason,
            fix=f"end that process, choose another {name}, or 0 for a free one",
        )
