"""The Triton server inside the ``nvidia-pytriton`` wheel: what it is, and how it is started.

It has the Triton python backend and nothing else, and it is old: `age` says so. The command line
here is completed by the worker (`backends/workers/triton_server.py`, which a plan carries): the
backend directory, the token, and what this host and build need.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from console.facts import Level, Verdict
from console.planning.plan import Command, ServiceSpec
from console.planning.variables import Variable, literal
from console.text import clean

if TYPE_CHECKING:
    from console.planning.deployment import Deployment

VERSION = "2.51.0"
"""What ``GET /v2`` of the server in nvidia-pytriton 0.7.0 says; container release 24.10."""

TRITON_BACKENDS = frozenset({"python", "ensemble"})
TOKEN_HEADER = "triton-access-token"
RESTRICTED = ("model-repository", "shared-memory", "trace", "logging")
"""Endpoint groups behind the token: those that change the server or reveal what it holds. Health,
metadata, model-config (read only in Triton), statistics and inference stay open: clients and monitors
need them, and they listen on loopback alone."""

EXIT_TIMEOUT = 8
"""Seconds that running requests get when the server stops. Also the delay that one idle keep-alive
connection costs; Triton's default of 30 would make every stop with a browser tab open that long."""

STOP_TIMEOUT = 16.0
"""Seconds from SIGTERM to SIGKILL: a server with a hanging load never ends by itself."""


def variables(deployment: Deployment) -> tuple[Variable, ...]:
    """What the embedded server's command leaves open: three ports and the repository folder."""
    server = deployment.server
    ports = (
        Variable(
            name=f"{name}_port", kind="port", default=str(number), help=f"Triton's {title} port"
        )
        for name, number, title in (
            ("http", server.http_port, "HTTP"),
            ("grpc", server.grpc_port, "gRPC"),
            ("metrics", server.metrics_port, "metrics"),
        )
    )
    repository = Variable(
        name="repository", kind="path", default="${work}/repository", help="the model repository"
    )
    return (*ports, repository)


def options(deployment: Deployment) -> tuple[str, ...]:
    """The options of ``tritonserver`` (templates); each address is said, for the defaults are 0.0.0.0."""
    server = deployment.server
    address = literal(server.address)
    words = ["--model-repository=${repository}"]
    for name in ("http", "grpc", "metrics"):
        words += [f"--{name}-address={address}", f"--{name}-port=${{{name}_port}}"]
    words += [
        f"--model-control-mode={server.control}",
        # Our configurations are complete; completing them costs a second start of each model.
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        f"--exit-timeout-secs={EXIT_TIMEOUT}",
        "--log-format=ISO8601",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix(deployment)}",
    ]
    if server.log_verbose:
        words.append(f"--log-verbose={server.log_verbose}")
    return tuple(words)


def service(
    deployment: Deployment, models: Iterable[str], launcher_worker: str, name: str = "triton"
) -> ServiceSpec:
    """The service that runs the embedded server for `deployment`.

    `launcher_worker` is the template path of the worker in the plan (``${work}/workers/…``). The
    command uses the environment ``embedded`` and the variables of `variables`.
    """
    address = literal(_reachable(deployment.server.address))
    argv = (
        "${env_embedded}/bin/python",
        launcher_worker,
        "--folder=${work}/embedded",
        "--token-file=${token_file}",
        f"--token-header={TOKEN_HEADER}",
        "--",
        *options(deployment),
    )
    return ServiceSpec(
        name=name,
        launcher="embedded",
        command=Command(argv=argv, runtime="environment:embedded"),
        http_url=f"http://{address}:${{http_port}}",
        grpc_url=f"{address}:${{grpc_port}}",
        metrics_url=f"http://{address}:${{metrics_port}}/metrics",
        token_file="${token_file}",
        repository="${repository}",
        shm_prefix=shm_prefix(deployment),
        stop_timeout=STOP_TIMEOUT,
        models=tuple(models),
    )


def shm_prefix(deployment: Deployment) -> str:
    """Template of the prefix of this server's regions in /dev/shm.

    By the deployment and the HTTP port, which no other living server on this host has: what is left
    under it after the server's end is ours to remove.
    """
    digest = hashlib.sha256(deployment.name.encode()).hexdigest()[:8]
    return f"tritondeck_{digest}_${{http_port}}_"


def _reachable(address: str) -> str:
    """An address that a client on this host can connect to."""
    if address in ("0.0.0.0", ""):
        return "127.0.0.1"
    if address == "::":
        return "[::1]"
    return f"[{address}]" if ":" in address else address


def age(address: str, exposed: bool = False) -> Verdict:
    """That the embedded server is older than known security fixes; `fail` when it is exposed.

    Fixed from 25.07: CVE-2025-23310, -23311, -23319, -23320, -23334; from 26.04: NVIDIA bulletin 5828.
    """
    return Verdict(
        check="server-age",
        level=Level.FAIL if exposed else Level.WARN,
        summary=f"the embedded Triton is {VERSION} (container 24.10): it lacks the security fixes "
        "of 25.07 and later",
        figure=f"listens on {clean(address)}",
        source="nvidia-pytriton 0.7.0, its newest release; CVE-2025-23319 and others, bulletin 5828",
        fix="keep it on loopback and load only models that you trust",
        option="server.expose" if exposed else "server.launcher",
    )
