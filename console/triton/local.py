"""A Triton that is installed on this machine, or in the container that we are in ourselves.

Its flags, version and Triton backends are asked of itself (`console.desk.tools`). Python models run
in the environment ``embedded``, whose ``bin`` is first on its PATH: the stub finds its packages
there, so that environment's Python must be the one that the stub links.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from console.facts import Host, Level, ToolFacts, Verdict
from console.planning.plan import ImageSpec, ServiceSpec
from console.planning.variables import Variable, literal
from console.text import clean
from console.triton import mpi, releases
from console.triton.embedded import on_this_host
from console.triton.options import options, port_variables, worker_options

if TYPE_CHECKING:
    from console.planning.deployment import Deployment

PROGRAM = "tritonserver"


class Local:
    """``tritonserver`` on PATH, or the program that ``server.path`` names."""

    name = "local"
    environments: tuple[str, ...] = ("embedded",)
    worker = "triton_server"

    def variables(self, deployment: Deployment) -> tuple[Variable, ...]:
        return port_variables(deployment)

    def images(self, deployment: Deployment, requirements: Iterable[str]) -> tuple[ImageSpec, ...]:
        return ()

    def service(
        self, deployment: Deployment, models: Iterable[str], launcher_worker: str
    ) -> ServiceSpec:
        server = deployment.server
        models = tuple(models)
        program = [f"--program={literal(server.path or PROGRAM)}"]
        if server.backend_directory:
            program.append(f"--backend-directory={literal(server.backend_directory)}")
        head = ("${env_embedded}/bin/python", launcher_worker, *program)
        head += worker_options(server, "${token_file}")
        if server.ranks > 1:
            argv = mpi.argv(
                [(*head, "--", *mpi.options(deployment, models, r)) for r in range(server.ranks)]
            )
        else:
            argv = (*head, "--", *options(deployment))
        return on_this_host(deployment, self.name, argv, models)

    def expected(self, deployment: Deployment) -> ToolFacts:
        return ToolFacts()  # nobody knows what is installed before it was asked

    def checks(self, deployment: Deployment, host: Host, tools: ToolFacts) -> Iterator[Verdict]:
        server = deployment.server
        found = clean(server.path or PROGRAM)
        if tools.triton_problem:
            yield Verdict(
                "server-program",
                Level.FAIL,
                clean(tools.triton_problem),
                source=f"{found} --help",
                fix='name the program as server.path, or set launcher = "embedded"',
                option="server.path",
            )
            return
        listed = ", ".join(sorted(tools.triton_backends))
        yield Verdict(
            "server-program",
            Level.PASS,
            f"{found} is Triton {clean(tools.triton_version) or 'of an unknown version'}",
            f"Triton backends: {listed}",
            clean(tools.triton_program) or found,
        )
        yield from _stub(tools)
        yield from releases.flag_verdicts(server, tools)
        yield from releases.safety(tools.triton_version, exposed=server.exposed, whose=found)


def _stub(tools: ToolFacts) -> Iterator[Verdict]:
    """Whether models find their packages: the stub's Python is the serving environment's."""
    wanted = tools.stub_python
    environment = tools.environments.get("embedded")
    if not wanted or environment is None:
        return
    has = ".".join(environment.python_version.split(".")[:2])
    yield Verdict(
        "server-python",
        Level.PASS if has == wanted else Level.FAIL,
        f"python models run in Python {wanted}"
        if has == wanted
        else f"the server's stub is of Python {wanted}, the serving environment of Python {has}",
        f"Python {wanted}",
        "the libpython that the stub links",
        "" if has == wanted else f"set environments.embedded.python to a Python {wanted}",
        "" if has == wanted else "environments.embedded.python",
    )
