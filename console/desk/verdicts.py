"""What the rooms below are asked for a check, with the data that each needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from console.facts import DeckError, Endpoint, Level, Verdict
from console.settings import Settings
from console.text import clean, human_bytes

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    from console.desk.plan import Prepared
    from console.planning.checks import SpaceNeed
    from console.planning.deployment import Deployment
    from console.planning.plan import EnvironmentSpec
    from console.runtimes.interpreter import Interpreter
    from console.telemetry.ports import PortHolder

RUN_BYTES = 64 * 1024**2
"""Room that journals, logs and workers of a run take, beside what the backend estimates."""


def host(settings: Settings, ready: Prepared) -> Iterable[Verdict]:
    """Ports with their holders, exposure, disk, memory, shared memory, the server's platform."""
    from console.planning import checks

    memory = ready.backend.memory(ready.deployment, ready.checkpoints, ready.host)
    embedded = next((spec for spec in ready.needs if spec.name == "embedded"), None)
    triton = not ready.backend.own_server(ready.deployment)
    return checks.checks(
        ready.deployment,
        ready.host,
        holders=port_holders(settings, ready.deployment),
        spaces=spaces(settings, ready.needs, memory.disk if memory else 0),
        memory=memory,
        # In a container it has a /dev/shm of its own.
        stubs=_stubs(ready) if triton and ready.deployment.server.launcher != "container" else 0,
        python=interpreter(settings, embedded).text if embedded else "",
        readonly=settings.readonly,
        triton=triton,
    )


def port_holders(settings: Settings, deployment: Deployment) -> dict[int, PortHolder | None]:
    """Who holds each port; this deployment's own living server does not stand in its own way, nor
    does the one that it goes into."""
    from console.services.store import ServiceStore
    from console.telemetry import ports

    services = [view for view in ServiceStore(settings).views() if view.pid]
    ours = {view.pid for view in services if view.pid}
    mine = (deployment.name, deployment.server.join)
    own = [view for view in services if view.deployment in mine]
    pids = {view.pid for view in own}
    # A container's ports are held by its engine.
    published = {port for view in own for port in _ports_of(view.endpoint)}
    server = deployment.server
    found = ports.holders(
        (server.http_port, server.grpc_port, server.metrics_port), server.address, ours
    )
    return {
        port: None if holder and (holder.pid in pids or port in published) else holder
        for port, holder in found.items()
    }


def _ports_of(endpoint: Endpoint) -> Iterator[int]:
    for url in filter(None, (endpoint.url, endpoint.grpc_url, endpoint.metrics_url)):
        if port := urlsplit(url if "://" in url else f"//{url}").port:
            yield port


def spaces(
    settings: Settings, needs: Iterable[EnvironmentSpec], work: int
) -> tuple[SpaceNeed, ...]:
    """What the state folder (`work` bytes of artefacts) and the environments still need."""
    from backends.environments import entries
    from console.planning.checks import SpaceNeed
    from console.runtimes.environments import Environments
    from console.telemetry.disk import disk_space

    managed, known = Environments(settings), entries()
    missing = [spec for spec in needs if not managed.ready(spec) and spec.name in known]
    return (
        SpaceNeed(
            "state",
            disk_space(settings.folders.state),
            work + RUN_BYTES,
            "estimate of the backend, and 64 MiB for logs",
        ),
        SpaceNeed(
            "cache",
            disk_space(settings.folders.environments),
            sum(known[spec.name].bytes for spec in missing),
            f"measured size of {' and '.join(spec.name for spec in missing)}"
            if missing
            else "every environment is there",
        ),
    )


def environments(settings: Settings, needs: Iterable[EnvironmentSpec]) -> Iterator[Verdict]:
    """Ready, or what making it will take."""
    from backends.environments import entries
    from console.runtimes.environments import Environments

    managed, known = Environments(settings), entries()
    for spec in needs:
        name, place = f"environment-{spec.name}", clean(str(managed.folder(spec)))
        why_not = managed.why_not(spec)
        size = known[spec.name].bytes if spec.name in known else 0
        takes = f", {human_bytes(size)} on disk" if size else ""
        if not why_not:
            yield Verdict(
                name, Level.PASS, f"the environment {spec.name} is ready", place, "its marker file"
            )
        elif spec.existing:
            yield Verdict(
                name,
                Level.FAIL,
                f"the environment {spec.name} that you named cannot be used",
                why_not,
                place,
                f"correct environments.{spec.name}.use, or remove it for a managed one",
                f"environments.{spec.name}.use",
            )
        else:
            yield Verdict(
                name,
                Level.WARN,
                f"the environment {spec.name} will be created first",
                why_not + takes,
                place,
                f"tritondeck env create {spec.name} does it now",
            )


def containers(settings: Settings, ready: Prepared) -> Iterator[Verdict]:
    """What the plan's containers need of the engine; nothing where it has none."""
    if not ready.plan.images:
        return
    from console.planning.variables import expand
    from console.runtimes import engine_checks

    values = {"work": str(settings.folders.work / ready.deployment.name)}
    for variable in ready.plan.variables:
        if variable.kind in ("path", "folder"):
            values[variable.name] = expand(variable.default, values)
    yield from engine_checks.checks(ready.plan, values, _stubs(ready))


def libpython(settings: Settings, ready: Prepared) -> Iterator[Verdict]:
    """The embedded server's model processes link libpython; without it a load hangs for ever."""
    from console.runtimes import libpython as library

    spec = next((spec for spec in ready.needs if spec.name == "embedded"), None)
    if spec is not None and ready.deployment.server.launcher == "embedded":
        yield library.judge(interpreter(settings, spec))


def interpreter(settings: Settings, spec: EnvironmentSpec) -> Interpreter:
    """The Python that the environment has, or will be made with."""
    from console.runtimes import interpreter as pythons
    from console.runtimes.environments import Environments

    managed = Environments(settings)
    if managed.ready(spec):
        return pythons.ask(managed.folder(spec) / "bin" / "python")
    return pythons.find(spec.python or settings.python, spec.python_range)


def join(settings: Settings, ready: Prepared) -> Iterator[Verdict]:
    """Whether the server that the deployment goes into runs."""
    name = ready.deployment.server.join
    if not name:
        return
    from console.runs import versioned

    try:
        host_server = versioned.host_of(settings, name)
    except DeckError as problem:
        yield Verdict(
            "join",
            Level.FAIL,
            problem.title,
            problem.why,
            "[server] join",
            problem.fix,
            "server.join",
        )
        return
    summary = f"the server of {clean(name)} runs and takes the models"
    yield Verdict(
        "join", Level.PASS, summary, host_server.endpoint.url, f"service {host_server.id}"
    )


def hub(ready: Prepared) -> tuple[Verdict, ...]:
    """Whether checkpoints named by a hub id can be fetched from here."""
    from backends import hub as fetching

    return fetching.checks(ready.checkpoints)


def risks(ready: Prepared) -> Iterator[Verdict]:
    """What reading the checkpoint found; a danger blocks unless accepted."""
    from console.checkpoints.model import Severity

    levels = {Severity.NOTE: Level.PASS, Severity.WARN: Level.WARN, Severity.DANGER: Level.FAIL}
    for role, checkpoint in ready.checkpoints.items():
        for risk in checkpoint.risks:
            yield Verdict(
                risk.code,
                levels[risk.severity],
                risk.summary,
                source=clean(str(checkpoint.path)),
                fix=risk.fix,
                option=f"checkpoints.{role}",
            )


def launcher(ready: Prepared) -> Iterator[Verdict]:
    """What the launcher says of its server here: is it there, what it takes, how old it is."""
    from console.triton.launchers import launcher as chosen

    if ready.backend.own_server(ready.deployment):
        return
    yield from chosen(ready.deployment).checks(ready.deployment, ready.host, ready.tools)


def model_configurations(ready: Prepared) -> Iterator[Verdict]:
    """Every ``config.pbtxt`` that the plan writes, through the linter."""
    from console.triton.lint import Surroundings, lint

    if ready.backend.own_server(ready.deployment):
        return
    version = tuple(int(part) for part in ready.tools.triton_version.split(".")[:2])
    for name, message in _configurations(ready):
        around = Surroundings(
            directory=name,
            gpus=len(ready.host.gpus),
            backends=ready.tools.triton_backends or None,
            server_version=(version[0], version[1]) if version else None,
        )
        found = lint(message, around)
        yield from found
        if not any(verdict.level is Level.FAIL for verdict in found):
            yield Verdict(
                "model-configuration",
                Level.PASS,
                f"Triton will take the configuration of {clean(name)}",
                source="config.pbtxt in the plan",
            )


def _configurations(ready: Prepared) -> Iterator[tuple[str, ModelConfig]]:
    """Model name and `ModelConfig` of each configuration in the plan."""
    from google.protobuf import text_format

    from console.planning.plan import WriteStep
    from console.triton.messages import model_config

    for step in ready.plan.steps:
        for file in step.files if isinstance(step, WriteStep) else ():
            if file.path.endswith("/config.pbtxt"):
                message = text_format.Parse(file.text, model_config().ModelConfig())
                yield _model_of(Path(file.path)), message


def _model_of(config: Path) -> str:
    """The model's folder, or the one above its version folder."""
    above = config.parent
    return above.parent.name if above.name == "${version}" else above.name


def _stubs(ready: Prepared) -> int:
    """Instances of Triton's python backend: each is a process with a shared-memory region."""
    return sum(
        sum(group.count or 1 for group in message.instance_group) or 1
        for _, message in _configurations(ready)
        if message.backend == "python"
    )
