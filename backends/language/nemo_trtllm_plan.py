"""The steps of the NeMo TensorRT-LLM route: image → flags compared → engine → PyTriton → an answer."""

from __future__ import annotations

from backends.language import nemo_trtllm_form as form
from backends.language.common import memory_figure
from backends.language.nemo_trtllm_checks import need_of
from backends.language.nemo_trtllm_words import Call
from backends.upstream import place_plan
from console.planning.plan import (
    CommandStep,
    ExitCode,
    InputFile,
    JsonFile,
    LogMarker,
    Plan,
    ServiceStep,
    Step,
    UrlReady,
    VerifyStep,
)
from console.planning.variables import literal

SERVICE = "nemo-trtllm"


def plan(call: Call) -> Plan:
    """Raises `UsageError` where the place is an environment that nobody named."""
    specs, images = place_plan.needed(call)
    flags = call.argv() if call.script else ()
    steps: list[Step] = [
        place_plan.ready(call),
        place_plan.workers(call, ("nemo_trtllm",)),
        place_plan.compared(call, flags),
    ]
    if call.options.mode == "export":
        steps += [_export(call), _proof(call)]
    else:
        steps += _serving(call)
    wanted = need_of(call)
    return Plan(
        deployment=call.deployment.name,
        backend="nemo-tensorrt-llm",
        variables=place_plan.ports(call),
        environments=specs,
        images=images,
        engine=call.deployment.server.engine,
        steps=tuple(steps),
        notes=(*place_plan.notes(call), *((memory_figure(wanted),) if wanted else ())),
    )


def _upstream(call: Call) -> list[str]:
    return place_plan.upstream(call, {"--checkpoint": literal(str(call.checkpoint.path))})


def _export(call: Call) -> CommandStep:
    return CommandStep(
        id="export",
        title="build the engine",
        why="weights are converted and compiled for these GPUs; this takes minutes to hours",
        command=place_plan.command(call, _upstream(call), gpus=True),
        inputs=tuple(InputFile(path=path) for path in call.reads()),
        outputs=(call.engine,),
        success=(ExitCode(), LogMarker(pattern=r"An error has occurred|^Traceback", absent=True)),
        timeout=place_plan.BUILD_HOURS * 3600,
    )


def _proof(call: Call) -> CommandStep:
    result = f"{place_plan.SCRATCH}/engine.json"
    ranks = call.options.layout.world
    argv = [
        place_plan.python(call),
        f"{place_plan.WORKERS}/nemo_trtllm.py",
        "prove",
        "--engine",
        call.engine,
    ]
    argv += ["--ranks", str(ranks), "--result", result]
    return CommandStep(
        id="engine",
        title="prove the engine",
        why="an exit code says nothing: there must be an engine for every rank",
        command=place_plan.command(call, argv),
        success=(ExitCode(), JsonFile(path=result, expect={"engines": {"min": ranks}})),
        timeout=600.0,
        always=True,
    )


def _serving(call: Call) -> list[Step]:
    model = call.deployment.served_name
    spec = place_plan.service(call, SERVICE, _upstream(call))
    hours = place_plan.BUILD_HOURS * 3600 if call.options.mode == "serve" else 1800.0
    return [
        ServiceStep(
            id="service",
            title="build and serve" if call.options.mode == "serve" else "serve the engine",
            why="the engine is built where there is none yet, then PyTriton serves it",
            service=spec,
            success=(
                UrlReady(
                    url=f"{spec.http_url}/v2/models/{literal(model)}/ready",
                    timeout=max(hours, call.deployment.server.load_timeout),
                ),
            ),
        ),
        VerifyStep(
            id="verify",
            title="verify",
            why="a model serves only when a real request has the right answer",
            service=spec.name,
            success=form.cases(call.deployment, call.generation, call.options.max_output_len),
        ),
    ]
