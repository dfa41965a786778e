"""The steps of the NeMo TensorRT-LLM route: image → flags compared → engine → PyTriton → an answer."""

from __future__ import annotations

from backends.language import nemo_trtllm_form as form
from backends.language.common import memory_figure
from backends.language.nemo_trtllm_checks import need_of
from backends.language.nemo_trtllm_words import Call
from backends.upstream import place_plan
from console.planning.plan import (
    Plan,
    Step,
)
from console.planning.variables import literal

SERVICE = "nemo-trtllm"


def plan(call: Call) -> Plan:
    """Raises `UsageError` where the place is an environment that nobody named."""
    specs, images = place_plan.needed(call)
    flags = call.argv() if call.script else ()
    steps: list[Step] = [
        place_plan.ready(specs, images),
        place_plan.workers(call, ("nemo_trtllm",)),
        place_plan.compared(call, flags),
    ]
    if call.options.mode == "export":
        steps += place_plan.engine_steps(
            call, _upstream(call), call.reads(), call.options.layout.world
        )
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


def _serving(call: Call) -> list[Step]:
    spec = place_plan.service(call, SERVICE, _upstream(call))
    why = "the engine is built where there is none yet, then PyTriton serves it"
    asked = form.cases(call.deployment, call.generation, call.options.max_output_len)
    return place_plan.served_steps(call, spec, ("engine", why), asked)
