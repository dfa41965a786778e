"""How to reach a server on loopback from the machine that an operator sits at."""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from console.facts import Endpoint

SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class Login:
    """How the operator's own machine reaches this one by ssh."""

    user: str
    host: str
    port: int = SSH_PORT


def login(environ: Mapping[str, str], user: str, hostname: str) -> Login:
    """The way that the operator came: the address in ``SSH_CONNECTION``, else this host's name.

    sshd sets it to client address, client port, server address, server port. Behind address
    translation the server's own address is not the one that was dialled; the name in the operator's
    ssh configuration always works in its place.
    """
    words = environ.get("SSH_CONNECTION", "").split()
    if len(words) != 4 or not words[3].isdigit():
        return Login(user, hostname)
    return Login(user, words[2], int(words[3]))


def forward(endpoint: Endpoint, to: Login) -> str:
    """The ``ssh -L`` command for the operator's own machine; empty for a server that is reached
    without one. Every port keeps its number there."""
    words = ["ssh", "-N"]
    for url in (endpoint.url, endpoint.grpc_url, endpoint.metrics_url):
        place = _loopback(url)
        if place and place not in words:
            words += ["-L", place]
    if len(words) == 2:
        return ""
    if to.port != SSH_PORT:
        words += ["-p", str(to.port)]
    return shlex.join([*words, f"{to.user}@{to.host}"])


def _loopback(url: str) -> str:
    """``PORT:HOST:PORT`` of a URL (or HOST:PORT) on loopback; empty for any other."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host, port = parts.hostname or "", parts.port
        on_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return ""
    shown = f"[{host}]" if ":" in host else host
    return f"{port}:{shown}:{port}" if on_loopback and port else ""
