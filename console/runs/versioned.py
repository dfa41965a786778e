"""Steps of a run whose models have versions: joining a server, the new version beside the old one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from console.facts import DeckError, Endpoint, Refused
from console.planning.plan import JoinStep, LoadStep, Plan, SwitchStep
from console.runs import keys
from console.runs.context import Context
from console.runs.judging import judge
from console.services.model import ServiceState, ServiceView
from console.services.store import ServiceStore
from console.settings import Settings
from console.text import clean
from console.triton import control, health, switching, versions
from console.triton.versions import Version, Versions

# ---------------------------------------------------------------------------- a server of another


def joined_values(plan: Plan, settings: Settings) -> dict[str, str]:
    """The values of the server that the plan goes into; none for a plan with its own."""
    step = next((step for step in plan.steps if isinstance(step, JoinStep)), None)
    if step is None:
        return {}
    return _values_of(plan, settings, host_of(settings, step.deployment))


def _values_of(plan: Plan, settings: Settings, view: ServiceView) -> dict[str, str]:
    """What the plan uses of the server's values: its work folder and environments stay its own."""
    values = ServiceStore(settings).values(view.id)
    used = {v.name for v in plan.variables if v.kind == "joined"} | {"token_file"}
    return {name: values[name] for name in used}


def host_of(settings: Settings, deployment: str) -> ServiceView:
    """The running server of `deployment`; `Refused` where there is none to go into."""
    views = ServiceStore(settings).views()
    for view in views:
        if view.deployment == deployment and view.state is ServiceState.RUNNING:
            return view
    raise Refused(
        f"{clean(deployment)} has no running server to go into",
        why="[server] join names the deployment whose server takes the models",
        fix=f"tritondeck deploy {clean(deployment)} first, or give this one a server of its own",
    )


def join(context: Context, step: JoinStep) -> None:
    """Take the running server for ours, unless a model there has the name of one of ours."""
    view = host_of(context.run.settings, step.deployment)
    taken = dict.fromkeys(view.models, view.deployment)
    for owner in versions.owners(context.run.settings.folders.work, view.repository).values():
        taken |= dict.fromkeys(owner.all_models, owner.deployment)
    for model in step.models:
        owner_name = taken.get(model, context.run.deployment)
        if owner_name != context.run.deployment:
            raise Refused(
                f"the server of {step.deployment} has a model {clean(model)} already",
                why=f"it belongs to the deployment {owner_name}",
                fix="set model_name to another name",
            )
    values = _values_of(context.run.plan, context.run.settings, view)
    context.note_service(step.service, view.id, values)
    judge(context, None, view.endpoint)
    context.message = f"{view.id} at {view.endpoint.url}"


# ---------------------------------------------------------------------------- versions


def prepare(context: Context, step: LoadStep, view: ServiceView) -> tuple[str, ...]:
    """Put the configurations of the version in place; the names to load, in order.

    Where another version is live, that one is left as it is and the new one gets names of its own.
    """
    repository, number = _repository(context), int(context.expand(step.version))
    known = versions.read(_work(context))
    context.run.staged = {}
    beside = known is not None and known.repository == repository and known.live != number
    for model in _idle(context, view.endpoint, repository, () if beside else step.models):
        context.say(f"loading {model}, which this server had before")
        try:
            control.load(view.endpoint, model, step.model_timeout)
        except DeckError as error:  # somebody else's model: it must not stop this deployment
            context.say(str(error))
    if not beside:
        for model in step.models:
            versions.put(repository, model, number)
        return step.models
    assert known is not None
    context.say(f"version {number} is loaded beside version {known.live}, which goes on answering")
    context.run.staged = switching.stage(view.endpoint, repository, step.models, number)
    return tuple(context.run.staged.values())


def _idle(
    context: Context, endpoint: Endpoint, repository: Path, ours: tuple[str, ...]
) -> Iterator[str]:
    """Live models that this server was never asked for: it was started since they were loaded.

    One that somebody has unloaded has a state, and stays as it is.
    """
    never = {entry.name for entry in health.index(endpoint)[0] if not entry.state}
    for owner in versions.owners(context.run.settings.folders.work, repository).values():
        for model in owner.models:
            if clean(model) in never and model not in ours:
                yield model


def back_out(context: Context, view: ServiceView) -> bool:
    """Take away what was loaded beside the live version, which has answered all the time; False
    where nothing was."""
    staged, context.run.staged = context.run.staged, {}
    if not staged:
        return False
    context.say("the version that was live before goes on answering")
    try:
        switching.unstage(view.endpoint, _repository(context), staged, context.say)
    except DeckError as error:  # the failure that led here is the one to tell
        context.say(str(error))
    return True


def take_over(context: Context, step: SwitchStep, view: ServiceView) -> None:
    """Let the verified version answer, and note it."""
    work, repository = _work(context), _repository(context)
    number = int(context.expand(step.version))
    new = Version(
        number,
        step.models,
        keys.version_key(context.run.plan, context.run.values),
        context.run.id,
        time.time(),
    )
    staged, context.run.staged = context.run.staged, {}
    before = versions.read(work)
    if staged and before is not None:
        switching.unstage(view.endpoint, repository, staged, context.say)
        old = before.version(before.live)
        switching.switch(view.endpoint, repository, old, new, step.model_timeout)
        context.say(f"version {number} answers in place of version {old.number}")
    now = versions.verified(work, context.run.deployment, repository, new)
    context.message = _words(now)


def _words(now: Versions) -> str:
    there = any(one.number == now.previous for one in now.known)
    return f"version {now.live}" + (f"; a rollback goes to {now.previous}" if there else "")


def _work(context: Context) -> Path:
    return Path(context.run.values["work"])


def _repository(context: Context) -> Path:
    return Path(context.run.values["repository"])
