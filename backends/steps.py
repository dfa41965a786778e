"""Steps that plans of several routes have: what must be there, files, and a server with its models."""

from __future__ import annotations

from collections.abc import Iterable

from backends.sources import VERSION, WORKERS, worker
from console.planning.deployment import Deployment
from console.planning.plan import (
    EnvironmentSpec,
    EnvironmentStep,
    FileSpec,
    ImageSpec,
    ImageStep,
    LoadStep,
    Probe,
    ServiceSpec,
    ServiceStep,
    Step,
    SwitchStep,
    UrlReady,
    VerifyStep,
    WriteStep,
    join,
)
from console.planning.variables import literal
from console.text import clean
from console.triton.launchers import launcher


def environment_step(spec: EnvironmentSpec, why: str) -> EnvironmentStep:
    return EnvironmentStep(
        id=f"environment-{spec.name}",
        title=f"environment: {spec.title}",
        why=why,
        environment=spec.name,
    )


def image_step(image: ImageSpec, why: str = "nothing else is ever pulled") -> ImageStep:
    return ImageStep(
        id=f"image-{image.name}", title=f"image: {clean(image.title)}", why=why, image=image.name
    )


def write_step(
    step: str, title: str, why: str, files: Iterable[FileSpec], *, always: bool = False
) -> WriteStep:
    written = tuple(files)
    return WriteStep(
        id=step,
        title=title,
        why=why,
        files=written,
        outputs=tuple(file.path for file in written),
        always=always,
    )


def workers_step(why: str, names: Iterable[str], more: Iterable[FileSpec] = ()) -> WriteStep:
    """The workers `names` (those that are empty are none) and what they expect."""
    files = (*(worker(name) for name in names if name), *more)
    return write_step("workers", "workers", why, files)


# ---------------------------------------------------------------------------- a server, its models


def triton(deployment: Deployment, models: tuple[str, ...]) -> ServiceSpec:
    """The server of the deployment's launcher; `models` are loaded as it starts where it has no
    model control."""
    start = launcher(deployment)
    return start.service(deployment, models, join(WORKERS, f"{start.worker}.py"))


def model_ready(service: ServiceSpec, model: str, timeout: float) -> UrlReady:
    return UrlReady(url=f"{service.http_url}/v2/models/{literal(model)}/ready", timeout=timeout)


def triton_steps(
    deployment: Deployment,
    service: ServiceSpec,
    load: tuple[str, str],
    *,
    patience: float = 0.0,
    versioned: bool = False,
    loads: bool = True,
) -> list[Step]:
    """Start `service` and load its models: where they are loaded by requests, in a step of its own
    with title and reason `load`. A model may take `patience` seconds, at least the deployment's own
    limit. `versioned`: whether the models have versions of their own. `loads`: whether any are ours."""
    explicit = deployment.server.control == "explicit"
    seconds = max(patience, deployment.server.load_timeout)
    ready = tuple(model_ready(service, name, seconds) for name in service.models if loads)
    wait = 60.0 if explicit else 60.0 + seconds * len(service.models)
    live = UrlReady(url=f"{service.http_url}/v2/health/live", timeout=wait)
    version = VERSION if versioned else ""
    if loads and version and not explicit:
        service = service.model_copy(update={"version": version})
    title, why = "start Triton", "the server starts empty; live is not yet ready"
    if not explicit:
        why = "it loads its repository as it starts"
    if deployment.server.ranks > 1:
        why = "one process for each GPU of the engine"
    if service.command is None:
        title, why = "attach to Triton", "somebody else's server: it is asked, never stopped"
    steps: list[Step] = [
        ServiceStep(
            id="service",
            title=title,
            why=why,
            service=service,
            success=(live,) if explicit else (live, *ready),
        )
    ]
    if explicit and loads:
        steps.append(
            LoadStep(
                id="load",
                title=load[0],
                why=load[1],
                service=service.name,
                models=service.models,
                version=version,
                model_timeout=seconds,
                success=ready,
            )
        )
    return steps


def verify_step(service: ServiceSpec, success: Iterable[Probe]) -> VerifyStep:
    return VerifyStep(
        id="verify",
        title="verify",
        why="a model serves only when a real request has the right answer",
        service=service.name,
        success=tuple(success),
    )


def switch_step(deployment: Deployment, service: ServiceSpec) -> SwitchStep:
    return SwitchStep(
        id="switch",
        title="let it answer",
        why="requests go to the verified version; an older one stays on disk for a rollback",
        service=service.name,
        models=service.models,
        version=VERSION,
        model_timeout=deployment.server.load_timeout,
    )
