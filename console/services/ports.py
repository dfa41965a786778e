"""Ports of a server: found free on its own address, or refused with the holder's name."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from console.facts import Refused, UsageError
from console.planning.plan import ServiceSpec
from console.planning.variables import expand, names
from console.services.record import Record
from console.telemetry.ports import PortHolder, holder
from console.text import clean

AUTO = "0"


Promised = Mapping[tuple[str, int], str]
"""Who is to listen at an address and a port, in words."""


def promised(living: Iterable[Record]) -> Promised:
    """The ports of our own servers: one that loads its model binds them late, and one that waits to
    be started again not at all."""
    return {
        _place(url, one.values): one.id
        for one in living
        if not one.attached
        for url in _urls(one.spec)
    }


def settle(spec: ServiceSpec, values: Mapping[str, str], others: Promised) -> dict[str, str]:
    """Values for every port variable of the spec's URLs: fixed ones checked, others found.

    A variable of a URL whose value is a number is a port; ``0`` means a free one. Sockets of found
    ports are held until all are known, so that none is given twice. Raises `Refused` naming the
    holder of a fixed port that is taken, or promised to one of `others`.
    """
    chosen: dict[str, str] = {}
    held: list[socket.socket] = []
    try:
        for url in _urls(spec):
            for name in sorted(names(url)):
                value = values.get(name, "")
                if name in chosen or not value.isdigit():
                    continue
                address, _ = _place(url, {**values, **chosen})
                if value == AUTO:
                    held += _until_free(address, others)
                    chosen[name] = str(held[-1].getsockname()[1])
                else:
                    _check(name, address, int(value), others)
                    chosen[name] = value
    finally:
        for one in held:
            one.close()
    return chosen


def _urls(spec: ServiceSpec) -> tuple[str, ...]:
    every = (spec.http_url, spec.grpc_url, spec.metrics_url, *spec.more_urls)
    return tuple(url for url in every if url)


def _place(url: str, values: Mapping[str, str]) -> tuple[str, int]:
    full = expand(url, values)
    parts = urlsplit(full if "://" in full else f"//{full}")
    if not parts.hostname:
        raise UsageError(f"{clean(full)} names no address to listen on")
    return parts.hostname, parts.port or 0


def _until_free(address: str, others: Promised) -> list[socket.socket]:
    """Sockets at ports that are free; the last one's is promised to nobody."""
    held = [_free(address)]
    while (address, held[-1].getsockname()[1]) in others:
        held.append(_free(address))
    return held


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


def _check(name: str, address: str, port: int, others: Promised) -> None:
    taken = holder(port, address)
    if taken is None and (address, port) in others:
        taken = PortHolder(port, reason=f"the service {others[address, port]} is to listen there")
    if taken is not None:
        raise Refused(
            f"port {port} on {clean(address)} is taken",
            why=f"{taken.words} holds it" if not taken.reason else taken.reason,
            fix=f"end that process, choose another {name}, or 0 for a free one",
        )
