"""The Triton server inside the ``nvidia-pytriton`` wheel: what it is, and how it is started.

It has the Triton python backend and nothing else, and it is old: its check says so. The command line
here is completed by the worker (`backends/workers/triton_server.py`, which a plan carries): the
backend directory, the token, and what this host and build need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from console.facts import Host, ToolFacts, Verdict
from console.planning.plan import Command, ImageSpec, ServiceSpec
from console.planning.variables import Variable, literal
from console.triton import releases
from console.triton.options import (
    STOP_TIMEOUT,
    options,
    port_variables,
    reachable,
    shm_prefix,
    worker_options,
)

if TYPE_CHECKING:
    from console.planning.deployment import Deployment

VERSION = "2.51.0"
"""What ``GET /v2`` of the server in nvidia-pytriton 0.7.0 says; container release 24.10."""

TRITON_BACKENDS = frozenset({"python", "ensemble"})


class Embedded:
    """The wheel's server in the environment ``embedded``."""

    name = "embedded"
    environments: tuple[str, ...] = ("embedded",)
    worker = "triton_server"

    def variables(self, deployment: Deployment) -> tuple[Variable, ...]:
        return port_variables(deployment)

    def images(self, deployment: Deployment, requirements: Iterable[str]) -> tuple[ImageSpec, ...]:
        return ()

    def service(
        self, deployment: Deployment, models: Iterable[str], launcher_worker: str
    ) -> ServiceSpec:
        argv = (
            "${env_embedded}/bin/python",
            launcher_worker,
            "--folder=${work}/embedded",
            *worker_options(deployment.server, "${token_file}"),
            "--",
            *options(deployment),
        )
        return on_this_host(deployment, self.name, argv, models)

    def expected(self, deployment: Deployment) -> ToolFacts:
        return ToolFacts(triton_version=VERSION, triton_backends=TRITON_BACKENDS)

    def checks(self, deployment: Deployment, host: Host, tools: ToolFacts) -> Iterator[Verdict]:
        exposed = deployment.server.exposed
        yield from releases.safety(VERSION, exposed=exposed, whose="the embedded server")


def on_this_host(
    deployment: Deployment, launcher: str, argv: tuple[str, ...], models: Iterable[str]
) -> ServiceSpec:
    """A server that runs as a process of this host, in the environment ``embedded``."""
    server = deployment.server
    address = literal(reachable(server.address))
    return ServiceSpec.model_validate(
        {
            "name": "triton",
            "launcher": launcher,
            "command": Command(argv=argv, runtime="environment:embedded", env=server.visible_gpus),
            "http_url": f"http://{address}:${{http_port}}",
            "grpc_url": f"{address}:${{grpc_port}}",
            "metrics_url": f"http://{address}:${{metrics_port}}/metrics",
            "token_file": "${token_file}",
            "repository": "${repository}",
            "shm_prefix": shm_prefix(deployment),
            **kept(deployment),
            "models": tuple(models),
        }
    )


def kept(deployment: Deployment) -> dict[str, object]:
    """How a server of ours is kept, whatever started it."""
    server = deployment.server
    return {
        "stop_timeout": STOP_TIMEOUT,
        "restart": server.restart,
        "restart_limit": server.restart_limit,
        "probe_seconds": server.probe_seconds,
    }
