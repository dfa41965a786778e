"""A plan that goes into a server which runs already, instead of starting one of its own."""

from __future__ import annotations

from console.facts import UsageError
from console.planning.plan import JoinStep, LoadStep, Plan, ServiceSpec, ServiceStep, Step
from console.planning.variables import Variable, names


def joined(plan: Plan, deployment: str) -> Plan:
    """`plan` with the server of `deployment` in place of its own.

    The server is looked for first, before anything is written into its repository; its ports and
    its repository are values that it was started with. Raises `UsageError` for a plan that loads
    nothing by request: such a server takes models only when it starts.
    """
    starts = [step for step in plan.steps if isinstance(step, ServiceStep)]
    if len(starts) != 1 or not any(isinstance(step, LoadStep) for step in plan.steps):
        raise UsageError(
            f"{plan.deployment} cannot go into the server of {deployment}",
            why="that server does not load models by request",
            fix=f'set [server] control = "explicit" in {deployment}, or give this one its own server',
        )
    (start,) = starts
    service = start.service
    find = JoinStep(
        id="join",
        title=f"join the server of {deployment}",
        why="one server for several deployments: it is not started, stopped or restarted",
        service=service.name,
        deployment=deployment,
        http_url=service.http_url,
        models=service.models,
        success=start.success,
    )
    rest: list[Step] = [step for step in plan.steps if step is not start]
    return plan.model_copy(
        update={
            "variables": tuple(_of_the_server(v, service, deployment) for v in plan.variables),
            "steps": (find, *rest),
        }
    )


def _of_the_server(variable: Variable, service: ServiceSpec, deployment: str) -> Variable:
    told = names(" ".join((service.http_url, service.grpc_url, service.metrics_url)))
    if variable.name not in told | names(service.repository):
        return variable
    help_ = f"of the server of {deployment}: {variable.help}"
    return variable.model_copy(update={"kind": "joined", "default": "", "help": help_})
