"""The steps that serve the ONNX route's models: the server, their load, and a real request."""

from __future__ import annotations

from backends import labels, onnx_requests, speech
from backends.onnx_work import SAMPLES, Work
from backends.steps import model_ready, switch_step, triton, triton_steps, verify_step
from console.planning.plan import (
    Inference,
    Step,
)


def serving_steps(work: Work) -> list[Step]:
    """Start the server, load what it was given, verify an answer."""
    deployment = work.deployment
    # A model that others call must be there first.
    models = tuple(dict.fromkeys((work.graph_model, work.name)))
    service = triton(deployment, models)
    load = ("load the model", "one request for each model, with a time limit")
    steps = triton_steps(deployment, service, load, versioned=True, loads=work.builds)
    asked = work.builds or deployment.verify
    # Where nothing was built, no request can be made up: the model is ready, and that is all.
    there = (model_ready(service, work.name, 30),)
    steps.append(verify_step(service, verification(work) if asked else there))
    return [*steps, switch_step(deployment, service)] if work.builds else steps


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
