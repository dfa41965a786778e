"""The options of ``tritonserver`` that a deployment means, the same for every launcher.

What only some builds take is passed through the worker's ``--if-known``: it asks the program at
hand, so that an older one starts without the option instead of not at all.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from console.planning.variables import Variable, literal

if TYPE_CHECKING:
    from console.planning.deployment import Deployment
    from console.planning.server import ServerSection

TOKEN_HEADER = "triton-access-token"
RESTRICTED = ("model-repository", "shared-memory", "trace", "logging")
"""Endpoint groups behind the token: those that change the server or reveal what it holds. Health,
metadata, model-config (read only in Triton), statistics and inference stay open: clients and monitors
need them, and they listen on loopback alone."""

RESTRICTED_EXPOSED = (*RESTRICTED, "model-config", "statistics")
"""Behind the token where other machines reach the server: all but health, metadata and inference."""

EXIT_TIMEOUT = 8
"""Seconds that running requests get when the server stops. Also the delay that one idle keep-alive
connection costs; Triton's default of 30 would make every stop with a browser tab open that long."""

STOP_TIMEOUT = 16.0
"""Seconds from SIGTERM to SIGKILL: a server with a hanging load never ends by itself."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a server listens and reads, as templates; in a container these are not the host's."""

    repository: str = "${repository}"
    address: str = ""
    """Empty: the deployment's."""
    http: str = "${http_port}"
    grpc: str = "${grpc_port}"
    metrics: str = "${metrics_port}"


HERE = Places()


def options(deployment: Deployment, places: Places = HERE, rank: int = 0) -> tuple[str, ...]:
    """The options (templates); each address is said, for the defaults are 0.0.0.0.

    `rank` is the process of a server under mpirun: all but the first load what is theirs at once
    and have a shared-memory prefix of their own.
    """
    server = deployment.server
    address = places.address or literal(server.address)
    words = [f"--model-repository={places.repository}"]
    for name, port in (("http", places.http), ("grpc", places.grpc), ("metrics", places.metrics)):
        words += [f"--{name}-address={address}", f"--{name}-port={port}"]
    prefix = shm_prefix(deployment) + (f"{rank}_" if rank else "")
    words += [
        f"--model-control-mode={server.control}",
        # Our configurations are complete; completing them costs a second start of each model.
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        f"--exit-timeout-secs={EXIT_TIMEOUT}",
        "--log-format=ISO8601",
        f"--backend-config=python,shm-region-prefix-name={prefix}",
    ]
    if server.log_verbose:
        words.append(f"--log-verbose={server.log_verbose}")
    words += [f"--model-load-gpu-limit={limit}" for limit in limits(server)]
    return tuple(words)


def limits(server: ServerSection) -> tuple[str, ...]:
    """``GPU:FRACTION`` of each GPU that has a limit."""
    return tuple(part for part in server.model_load_gpu_limit.split(",") if part)


def worker_options(server: ServerSection, token_file: str) -> tuple[str, ...]:
    """What the worker adds by itself: the token, and the options that only some builds take.

    SageMaker's and Vertex AI's endpoints are turned off by the worker, always.
    """
    groups = RESTRICTED_EXPOSED if server.exposed else RESTRICTED
    words = [f"--token-file={token_file}", f"--token-header={TOKEN_HEADER}"]
    if groups != RESTRICTED:
        words.append(f"--restrict={','.join(groups)}")
    if server.allow_client_shm:
        words.append("--if-known=--allow-client-shm=true")
    if size := server.grpc_max_response_pool_size:
        words.append(f"--if-known=--grpc-max-response-pool-size={size}")
    return tuple(words)


def shm_prefix(deployment: Deployment) -> str:
    """Template of the prefix of this server's regions in /dev/shm.

    By the deployment and the HTTP port, which no other living server on this host has: what is left
    under it after the server's end is ours to remove.
    """
    digest = hashlib.sha256(deployment.name.encode()).hexdigest()[:8]
    return f"tritondeck_{digest}_${{http_port}}_"


def reachable(address: str) -> str:
    """An address that a client on this host can connect to."""
    if address in ("0.0.0.0", ""):
        return "127.0.0.1"
    if address == "::":
        return "[::1]"
    return f"[{address}]" if ":" in address else address


def port_variables(deployment: Deployment) -> tuple[Variable, ...]:
    """Three ports and the repository folder, as every launcher that starts a server leaves open."""
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
