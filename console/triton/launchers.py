"""The ways to a Triton server, behind one Protocol: what a plan needs of each.

A launcher is stateless and starts nothing. It says which values are open until the server starts,
which command starts it, which images that needs, and what stands in its way here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from console.facts import Host, ToolFacts, Verdict
from console.planning.plan import ImageSpec, ServiceSpec
from console.planning.variables import Variable

if TYPE_CHECKING:
    from console.planning.deployment import Deployment


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
