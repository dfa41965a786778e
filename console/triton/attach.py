"""A server that somebody else runs: it is asked, and observed; never started and never stopped.

Models are loaded there only with ``manage = true``, and files are written only into the repository
that the deployment names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from console.facts import Host, Level, ToolFacts, Verdict
from console.planning.plan import ImageSpec, ServiceSpec
from console.planning.server import LOOPBACK
from console.planning.variables import Variable, literal
from console.text import clean, redact
from console.triton import releases

if TYPE_CHECKING:
    from console.planning.deployment import Deployment


class Attached:
    """The server at ``server.url``."""

    name = "attach"
    environments: tuple[str, ...] = ()
    worker = ""

    def variables(self, deployment: Deployment) -> tuple[Variable, ...]:
        place = deployment.server.repository
        return (
            Variable(
                name="repository",
                kind="path",
                default=literal(place) if place else "${work}/repository",
                help="the model repository",
            ),
        )

    def images(self, deployment: Deployment, requirements: Iterable[str]) -> tuple[ImageSpec, ...]:
        return ()

    def service(
        self, deployment: Deployment, models: Iterable[str], launcher_worker: str
    ) -> ServiceSpec:
        server = deployment.server
        return ServiceSpec(
            name="triton",
            launcher="attach",
            http_url=literal(server.url.rstrip("/")),
            grpc_url=literal(server.grpc_url),
            metrics_url=literal(server.metrics_url),
            token_file=literal(server.token_file),
            token_env=server.token_env,
            token_header=server.token_header,
            ca_file=literal(server.ca_file),
            manage=server.manage,
            repository="${repository}",
            models=tuple(models),
            probe_seconds=server.probe_seconds,
        )

    def expected(self, deployment: Deployment) -> ToolFacts:
        return ToolFacts()

    def checks(self, deployment: Deployment, host: Host, tools: ToolFacts) -> Iterator[Verdict]:
        server = deployment.server
        if not server.url:
            yield Verdict(
                "attach-url",
                Level.FAIL,
                "no server to attach to is named",
                fix="set server.url to http://HOST:PORT",
                option="server.url",
            )
            return
        where = clean(redact(server.url))
        yield _reached(where, tools)
        yield from _encrypted(deployment, where)
        if server.manage:
            yield _repository(server.repository)
        else:
            yield Verdict(
                "attach-manage",
                Level.PASS,
                "the server is only observed and asked; its models are there already",
                source="server.manage = false",
                option="server.manage",
            )
        if not tools.triton_problem:
            exposed = urlsplit(server.url).hostname not in LOOPBACK
            yield from releases.safety(
                tools.triton_version, exposed=exposed, whose="the attached server"
            )


def _reached(where: str, tools: ToolFacts) -> Verdict:
    if tools.triton_problem:
        return Verdict(
            "attach-server",
            Level.FAIL,
            clean(tools.triton_problem),
            source=f"{where}/v2/health/live",
            fix="start it, or correct server.url, ca_file and the token",
            option="server.url",
        )
    version = clean(tools.triton_version) or "of an unknown version"
    return Verdict("attach-server", Level.PASS, f"Triton {version} answers", where, f"{where}/v2")


def _encrypted(deployment: Deployment, where: str) -> Iterator[Verdict]:
    server = deployment.server
    parts = urlsplit(server.url)
    secret = server.token_file or server.token_env
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        yield Verdict(
            "attach-tls",
            Level.FAIL if secret else Level.WARN,
            "the token would travel unencrypted" if secret else "requests travel unencrypted",
            where,
            "server.url is http",
            "use https, or an ssh tunnel to 127.0.0.1",
            "server.url",
        )


def _repository(place: str) -> Verdict:
    if not place:
        return Verdict(
            "attach-repository",
            Level.FAIL,
            "the server's model repository is not named, so no model can be put there",
            source="server.manage = true",
            fix="set server.repository to its folder as this machine sees it",
            option="server.repository",
        )
    there = Path(place).is_dir()
    return Verdict(
        "attach-repository",
        Level.PASS if there else Level.FAIL,
        "models are written into the server's repository"
        if there
        else "the server's repository is not a folder here",
        clean(place),
        "server.repository",
        "" if there else "mount it, or correct server.repository",
        "server.repository",
    )
