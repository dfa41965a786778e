"""The ways to a Triton server, behind one Protocol: what a plan needs of each.

A launcher is stateless and starts nothing. It says which values are open until the server starts,
which command starts it, which images that needs, and what stands in its way here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from console.facts import Host, Level, ToolFacts, Verdict
from console.planning.plan import ImageSpec, ServiceSpec
from console.planning.variables import Variable
from console.text import clean
from console.triton.releases import flag_known

if TYPE_CHECKING:
    from console.planning.deployment import Deployment
    from console.planning.server import ServerSection


class Launcher(Protocol):
    """One way to a server. Every template may use the variables of `variables`."""

    @property
    def name(self) -> str: ...

    @property
    def environments(self) -> tuple[str, ...]:
        """Managed environments that the command runs in."""
        ...

    @property
    def worker(self) -> str:
        """The worker script (without suffix) that the command runs; empty when it needs none."""
        ...

    def variables(self, deployment: Deployment) -> tuple[Variable, ...]:
        """What is decided when the server starts: ports, the repository folder."""
        ...

    def images(self, deployment: Deployment, requirements: Iterable[str]) -> tuple[ImageSpec, ...]:
        """Images that must exist first. `requirements` are Python packages that the models import
        and the image lacks: with any, the last image is one built on top."""
        ...

    def service(
        self, deployment: Deployment, models: Iterable[str], launcher_worker: str
    ) -> ServiceSpec:
        """The server for `deployment`; `launcher_worker` is the template path of the worker."""
        ...

    def expected(self, deployment: Deployment) -> ToolFacts:
        """What the server will have, as far as data tells before anything was asked."""
        ...

    def checks(self, deployment: Deployment, host: Host, tools: ToolFacts) -> Iterator[Verdict]:
        """What stands in this launcher's way here, and what its server's age means."""
        ...


def launcher(deployment: Deployment) -> Launcher:
    """The launcher that the deployment names."""
    match deployment.server.launcher:
        case "embedded":
            from console.triton.embedded import Embedded

            return Embedded()
        case "local":
            from console.triton.local import Local

            return Local()
        case "container":
            from console.triton.container import InContainer

            return InContainer()
        case "attach":
            from console.triton.attach import Attached

            return Attached()


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


def flags(server: ServerSection, tools: ToolFacts) -> Iterator[Verdict]:
    """Whether the server at hand takes the options that only some builds have."""
    wanted = {
        "--allow-client-shm": ("allow_client_shm", server.allow_client_shm),
        "--grpc-max-response-pool-size": (
            "grpc_max_response_pool_size",
            bool(server.grpc_max_response_pool_size),
        ),
    }
    accepted = tools.flags.get("tritonserver")
    for flag, (name, asked) in wanted.items():
        if not asked:
            continue
        if accepted is None:
            takes, source = flag_known(flag, tools.triton_version), "the release table"
        else:
            takes, source = flag in accepted, "tritonserver --help"
        yield Verdict(
            f"server-flag-{name.replace('_', '-')}",
            Level.PASS if takes else Level.WARN,
            f"the server takes {flag}" if takes else f"the server has no {flag}: it is left out",
            clean(tools.triton_version),
            source,
            "" if takes else "serve with a newer Triton",
            "" if takes else f"server.{name}",
        )
