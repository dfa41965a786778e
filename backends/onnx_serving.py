"""The steps that serve the ONNX route's models: the server, their load, and a real request."""

from __future__ import annotations

from backends import labels, onnx_requests, speech
from backends.onnx_work import SAMPLES, VERSION, Work
from backends.sources import WORKERS
from console.planning.plan import (
    Inference,
    LoadStep,
    ServiceSpec,
    ServiceStep,
    Step,
    SwitchStep,
    UrlReady,
    VerifyStep,
    join,
)
from console.triton.launchers import launcher


def serving_steps(work: Work) -> list[Step]:
    """Start the server, load what it was given, verify an answer."""
    deployment = work.deployment
    # A model that others call must be there first.
    models = tuple(dict.fromkeys((work.graph_model, work.name)))
    start = launcher(deployment)
    service = start.service(deployment, models, join(WORKERS, f"{start.worker}.py"))
    attached = service.command is None
    explicit = deployment.server.control == "explicit"
    if not explicit and work.builds:
        service = service.model_copy(update={"version": VERSION})
    timeout = 60.0 if explicit else 60.0 + deployment.server.load_timeout * len(models)
    steps: list[Step] = [
        ServiceStep(
            id="service",
            title="attach to Triton" if attached else "start Triton",
            why="somebody else's server: it is asked, never stopped"
            if attached
            else "the server starts empty; live is not yet ready",
            service=service,
            success=(UrlReady(url=f"{service.http_url}/v2/health/live", timeout=timeout),),
        )
    ]
    if explicit and work.builds:
        steps.append(
            LoadStep(
                id="load",
                title="load the model",
                why="one request for each model, with a time limit",
                service=service.name,
                models=models,
                version=VERSION,
                model_timeout=deployment.server.load_timeout,
                success=tuple(
                    UrlReady(url=f"{service.http_url}/v2/models/{name}/ready") for name in models
                ),
            )
        )
    steps.append(
        VerifyStep(
            id="verify",
            title="verify",
            why="a model serves only when a real request has the right answer",
            service=service.name,
            success=verification(work)
            if work.builds or deployment.verify
            else _there(work, service),
        )
    )
    if not work.builds:
        return steps
    steps.append(_switch(work, service.name, models))
    return steps


def _there(work: Work, service: ServiceSpec) -> tuple[UrlReady, ...]:
    """That the model is ready, where nothing was built that a request could be made of."""
    return (UrlReady(url=f"{service.http_url}/v2/models/{work.name}/ready", timeout=5),)


def _switch(work: Work, service: str, models: tuple[str, ...]) -> SwitchStep:
    return SwitchStep(
        id="switch",
        title="let it answer",
        why="requests go to the verified version; an older one stays on disk for a rollback",
        service=service,
        models=models,
        version=VERSION,
        model_timeout=work.deployment.server.load_timeout,
    )


def verification(work: Work) -> tuple[Inference, ...]:
    """The requests that the deployment has to answer; one of our own where it names none."""
    cases = enumerate(work.deployment.verify)
    if not work.exported:
        given = [
            onnx_requests.verify_case(c, i, work.name, work.request_graph, work.batching)
            for i, c in cases
        ]
        made = onnx_requests.default_case(
            work.name, work.request_graph, work.batching, SAMPLES, work.tolerance
        )
        return tuple(given) or (made,)
    sample = f"{SAMPLES}/sample.wav"
    if not work.text:
        heard = [labels.verify_case(case, i, work.name, work.batching) for i, case in cases]
        return tuple(heard) or (labels.default_case(work.name, work.batching, sample),)
    spoken = [speech.verify_case(case, i, work.name, work.batching) for i, case in cases]
    language = work.languages[0] if work.masked and not work.options.language else ""
    return tuple(spoken) or (speech.default_case(work.name, work.batching, sample, language),)
