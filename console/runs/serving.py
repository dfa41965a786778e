"""The steps that need a server: start it, load models into it, verify an answer."""

from __future__ import annotations

import signal
from pathlib import Path

from console import keeper
from console.facts import DeckError
from console.planning.plan import LoadStep, ServiceStep, SwitchStep, UrlReady, VerifyStep
from console.runs import probes, reasons, saved, versioned
from console.runs.context import Cancelled, Context
from console.runs.failure import last_lines
from console.runs.judging import judge
from console.services.model import ServiceState, ServiceView
from console.services.store import ServiceStore
from console.text import clean, human_seconds
from console.waiting import looks

_SERVER_START = 60.0
_NOTICED = 2.0
"""Seconds from a connection that broke until the end of the process behind it shows."""
_TIDIED = 20.0
"""Seconds that a supervisor may take to end what a dead server left before it writes how it died."""


def start(context: Context, step: ServiceStep) -> None:
    services = ServiceStore(context.run.settings)
    running = {view.id for view in services.views() if view.state is ServiceState.RUNNING}
    mine = (one.service.name for one in context.run.plan.steps if isinstance(one, ServiceStep))
    service_id = services.start(
        step.service,
        context.run.values,
        context.run.deployment,
        context.progress,
        beside=frozenset(mine),
    )
    context.note_service(step.service.name, service_id, services.values(service_id))
    adopted = service_id in running
    context.say(f"{'adopted' if adopted else 'started'} service {service_id}")
    try:
        _until_ready(context, services, service_id)
        _all_ports(services.view(service_id).log)
        services.mark_ready(service_id)
    except (Cancelled, DeckError):
        if not adopted:
            services.stop(service_id, context.progress)
        raise
    context.message = f"{service_id} at {services.view(service_id).endpoint.url}"
    if adopted:
        context.message += " (was running, unchanged)"


def _all_ports(log: Path) -> None:
    """Raise for a port that was lost since it was found free: Triton serves on without metrics."""
    without = DeckError("the server runs without one of its ports")
    if (told := reasons.of_server(without, log, 0, "port-taken")) is not without:
        raise told


def _until_ready(context: Context, services: ServiceStore, service_id: str) -> None:
    view = services.view(service_id)

    def alive() -> None:
        _still_there(services, service_id)

    urls = [probe for probe in context.step.success if isinstance(probe, UrlReady)]
    for probe in urls:
        probes.url_ready(context, probe, view.endpoint, alive)
    if not urls:
        from console.triton.health import wait_live

        context.patiently(lambda: wait_live(view.endpoint, _SERVER_START), each=alive)
    judge(context, None, view.endpoint)


def _still_there(services: ServiceStore, service_id: str, since: int = 0) -> ServiceView:
    """The service, or why it ended, as its log says after byte `since`."""
    view = services.view(service_id)
    if view.state not in (ServiceState.STARTING, ServiceState.RUNNING):
        killed = view.exit_status == -signal.SIGKILL
        look = "look at the kernel's log (dmesg) for the OOM killer" if killed else "read its log"
        ended = DeckError(
            f"the server has ended: {view.reason}",
            fix=f"{look}, then retry",
            raw="\n".join(last_lines(view.log)),
        )
        raise reasons.of_server(ended, view.log, since)
    return view


def _death_says_more(error: DeckError, services: ServiceStore, service_id: str, since: int) -> None:
    """Raise why the server ended, if it did: that says more than a broken connection."""
    from console.triton.plain_http import NoAnswer

    def look() -> keeper.Kept:
        return keeper.look(_still_there(services, service_id, since).folder)

    for _ in looks(_NOTICED if isinstance(error, NoAnswer) else 0.0):
        kept = look()
        if kept.watched and not kept.child_alive:
            break
    else:
        return
    for _ in looks(_TIDIED):
        if look().child_alive:
            return


def _service_of(context: Context, name: str) -> tuple[ServiceStore, ServiceView]:
    services = ServiceStore(context.run.settings)
    service_id = context.run.services.get(name)
    if service_id is None:
        raise DeckError(f"the plan starts no service {clean(name)} before this step")
    return services, _still_there(services, service_id)


def load(context: Context, step: LoadStep) -> None:
    from console.triton.control import LoadHangs

    services, view = _service_of(context, step.service)
    since = reasons.size(view.log)
    try:
        names = versioned.prepare(context, step, view) if step.version else step.models
        for index, model in enumerate(names):
            context.progress(f"loading {model}", index / len(names))
            _load_one(context, services, view, model, step.model_timeout)
    except Cancelled:
        versioned.back_out(context, view)
        raise
    except DeckError as error:
        context.say(str(error))
        beside = versioned.back_out(context, view)
        if isinstance(error, LoadHangs) and not beside:
            services.mark_broken(view.id)
        _death_says_more(error, services, view.id, since)
        raise reasons.of_server(error, view.log, since) from error
    if not context.run.staged:
        judge(context, None, view.endpoint)


def _load_one(
    context: Context, services: ServiceStore, view: ServiceView, model: str, limit: float
) -> None:
    from console.triton import control

    since = reasons.size(view.log)
    context.say(f"loading {model} (time limit {human_seconds(limit)})")
    context.patiently(
        lambda: control.load(view.endpoint, model, limit),
        each=lambda: _still_there(services, view.id, since),
    )
    context.say(f"loaded {model}")


def verify(context: Context, step: VerifyStep) -> None:
    services, view = _service_of(context, step.service)
    since = reasons.size(view.log)
    try:
        judge(context, None, view.endpoint)
    except Cancelled:
        versioned.back_out(context, view)
        raise
    except DeckError as error:
        beside = versioned.back_out(context, view)
        _death_says_more(error, services, view.id, since)
        if known := reasons.of_dead_model(error):
            if not beside:
                services.mark_broken(view.id)
            raise known from error
        raise
    context.note_answer(context.message)
    services.served(view.id, context.run.deployment, saved.requests(step.success, context.path))


def switch(context: Context, step: SwitchStep) -> None:
    services, view = _service_of(context, step.service)
    since = reasons.size(view.log)
    try:
        versioned.take_over(context, step, view)
    except DeckError as error:
        _death_says_more(error, services, view.id, since)
        raise reasons.of_server(error, view.log, since) from error
