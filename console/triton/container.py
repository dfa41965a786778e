"""Triton in a container: NVIDIA's images, or any other that has it.

Inside, the server listens on every address, for publishing would reach nothing else; outside, the
ports are published on loopback unless the deployment says otherwise. The repository, the worker and
the token file are mounted read-only; the token stands in no argument that the engine keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from console.facts import Host, Level, ToolFacts, Verdict
from console.planning.plan import (
    Command,
    Container,
    ImageSpec,
    Mount,
    PublishedPort,
    ServiceSpec,
)
from console.planning.variables import Variable, literal
from console.text import clean
from console.triton import mpi, releases
from console.triton.embedded import kept
from console.triton.options import Places, options, port_variables, reachable, worker_options

if TYPE_CHECKING:
    from console.planning.deployment import Deployment
    from console.planning.server import ServerSection

IMAGE = "server"
"""Name of the image in the plan."""

PUBLISHED = "base"
"""Name of the image that a derived one is built on."""

PUBLISHED_ON = {"localhost": "127.0.0.1"}  # the engines publish on addresses, not on names
HTTP, GRPC, METRICS = 8000, 8001, 8002
MODELS, WORKER, TOKEN = "/models", "/tritondeck/triton_server.py", "/tritondeck/token"
INSIDE = Places(MODELS, "0.0.0.0", str(HTTP), str(GRPC), str(METRICS))


class InContainer:
    """A container of ``server.image``, under docker or podman."""

    name = "container"
    environments: tuple[str, ...] = ()
    worker = "triton_server"

    def variables(self, deployment: Deployment) -> tuple[Variable, ...]:
        return port_variables(deployment)

    def images(self, deployment: Deployment, requirements: Iterable[str]) -> tuple[ImageSpec, ...]:
        server = deployment.server
        wanted = tuple(requirements)
        if not wanted:
            return (self.published(server),)
        published = self.published(server, PUBLISHED)
        title = f"Triton with {', '.join(wanted)}"
        built = ImageSpec(name=IMAGE, title=title, base=published.tag, requirements=wanted)
        return (published, built)

    def published(self, server: ServerSection, name: str = IMAGE) -> ImageSpec:
        """The image as somebody publishes it, without packages of ours."""
        return ImageSpec(
            name=name,
            reference=releases.reference(server.image),
            title="Triton",
            digest=server.image_digest,
            tar=server.image_tar,
        )

    def service(
        self, deployment: Deployment, models: Iterable[str], launcher_worker: str
    ) -> ServiceSpec:
        server, models = deployment.server, tuple(models)
        # The image's own Python: its stub finds its packages through the first one on PATH.
        head = ("python3", WORKER, "--program=tritonserver", *worker_options(server, TOKEN))
        if server.ranks > 1:
            every = [mpi.options(deployment, models, r, INSIDE) for r in range(server.ranks)]
            argv = mpi.argv([(*head, "--", *rank) for rank in every])
        else:
            argv = (*head, "--", *options(deployment, INSIDE))
        address = literal(reachable(server.address))
        return ServiceSpec.model_validate(
            {
                "name": "triton",
                "launcher": self.name,
                "command": Command(
                    argv=argv,
                    runtime=f"image:{IMAGE}",
                    container=self._container(deployment, launcher_worker),
                ),
                "http_url": f"http://{address}:${{http_port}}",
                "grpc_url": f"{address}:${{grpc_port}}",
                "metrics_url": f"http://{address}:${{metrics_port}}/metrics",
                "token_file": "${token_file}",
                "repository": "${repository}",
                **kept(deployment),
                "models": models,
            }
        )

    def _container(self, deployment: Deployment, launcher_worker: str) -> Container:
        server = deployment.server
        published = (("http", HTTP), ("grpc", GRPC), ("metrics", METRICS))
        return Container(
            mounts=(
                Mount(source="${repository}", target=MODELS, read_only=True),
                Mount(source=launcher_worker, target=WORKER, read_only=True),
                Mount(source="${token_file}", target=TOKEN, read_only=True),
            ),
            ports=tuple(
                PublishedPort(
                    host=f"${{{name}_port}}",
                    container=port,
                    address=PUBLISHED_ON.get(server.address, server.address),
                )
                for name, port in published
            ),
            gpus=server.gpus,
            shm_size=server.shm_size,
            memory=server.memory,
            ulimits=("memlock=-1", "stack=67108864") if server.gpus else (),
        )

    def expected(self, deployment: Deployment) -> ToolFacts:
        said = releases.expected(deployment.server.image)
        return ToolFacts(triton_version=said.triton, triton_backends=said.backends)

    def checks(self, deployment: Deployment, host: Host, tools: ToolFacts) -> Iterator[Verdict]:
        server = deployment.server
        said = releases.expected(server.image)
        yield _carries(said, tools)
        if server.gpus and said.driver and host.driver:
            yield _driver(said, host)
        yield from releases.flag_verdicts(server, tools)
        yield from releases.safety(
            tools.triton_version, exposed=server.exposed, whose=clean(said.reference)
        )


def _carries(said: releases.Expected, tools: ToolFacts) -> Verdict:
    """What is in the image: asked of it when it is here, else what the data says."""
    listed = ", ".join(sorted(tools.triton_backends))
    if tools.triton_problem:
        return Verdict(
            "server-image", Level.FAIL, clean(tools.triton_problem), source=clean(said.reference),
            fix="choose an image that has tritonserver and python3", option="server.image",
        )  # fmt: skip
    if tools.triton_program:
        return Verdict(
            "server-image",
            Level.PASS,
            f"the image carries Triton {clean(tools.triton_version)}",
            f"Triton backends: {listed}",
            "asked inside the image",
        )
    if said.known:
        return Verdict(
            "server-image",
            Level.PASS,
            f"the image should carry Triton {said.triton}; it is not on this machine yet",
            f"Triton backends: {listed}",
            said.source,
        )
    return Verdict(
        "server-image",
        Level.UNKNOWN,
        f"nothing is known of {clean(said.reference)} before it is on this machine",
        source="no release of the data",
        fix="pull it first, then check again",
        option="server.image",
    )


def _driver(said: releases.Expected, host: Host) -> Verdict:
    have = releases.parsed(host.driver)
    fits = bool(have) and have[0] >= said.driver
    return Verdict(
        "server-driver",
        Level.PASS if fits else Level.FAIL,
        f"the driver runs CUDA {said.cuda}"
        if fits
        else f"the driver is too old for CUDA {said.cuda}",
        f"driver {clean(host.driver)}, at least {said.driver} needed",
        said.source,
        "" if fits else "update the driver, or choose an older image",
        "" if fits else "server.image",
    )
