"""Use case: start a run, cancel it, continue it, remove it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.desk import acting, check, configure, inspect, options, plan, readonly, tomlfile
from console.facts import DeckError, Level, Refused, UsageError
from console.settings import Settings
from console.text import clean

if TYPE_CHECKING:
    from console.planning.deployment import Deployment
    from console.runs.store import RunStore


def store(settings: Settings) -> RunStore:
    from console.runs.store import RunStore

    return RunStore(settings)


def deploy(
    settings: Settings, deployment: Deployment, *, from_step: str = "", force: bool = False
) -> str:
    """Check, save, create and start; the run id."""
    readonly.require_writable(settings, "deploy")
    running = next((run for run in store(settings).views(deployment.name) if run.active), None)
    if running:
        raise Refused(
            f"{deployment.name} is being built already, by run {running.id}",
            fix=f"tritondeck logs -f {deployment.name}, or tritondeck runs cancel {running.id}",
        )
    prepared, report = check.prepared(settings, deployment)
    blocking = [verdict for verdict in report.verdicts if verdict.blocks]
    if blocking or prepared is None:
        raise Refused(
            f"{deployment.name} was not started: {len(blocking)} check(s) failed",
            why="; ".join(
                f"{v.check}: {v.summary}" + (f" ({v.figure})" if v.figure else "") for v in blocking
            ),
            fix="; ".join(
                (
                    *dict.fromkeys(v.fix for v in blocking if v.fix),
                    f"or accept by name: {', '.join(dict.fromkeys(v.check for v in blocking))}",
                )
            ),
        )
    made = prepared.plan
    if from_step and from_step not in {step.id for step in made.steps}:
        raise UsageError(
            f"the plan has no step {clean(from_step)!r}",
            why=f"its steps: {', '.join(step.id for step in made.steps)}",
        )
    configure.save(settings, deployment)
    runs = store(settings)
    run_id = runs.create(made, tomlfile.render(deployment), from_step=from_step, force=force)
    with acting.noted(settings, "deploy", run_id):
        runs.start(run_id)
    return run_id


def build_fetched(settings: Settings, run_id: str, *, force: bool = False) -> str:
    """The run that builds what the ended run `run_id` has fetched: started, unless somebody else
    who watched the fetch was faster."""
    name = store(settings).view(run_id).deployment
    newest = store(settings).views(name)[0]
    if newest.id != run_id:
        return newest.id
    deployment = configure.open_deployment(settings, name)
    if plan.fetches_first(settings, deployment):
        raise DeckError(
            f"{name} was fetched, but nothing here says what it is",
            fix="give the path of the checkpoint file instead of the hub id",
        )
    try:
        return deploy(settings, _suited(settings, deployment), force=force)
    except Refused:
        newest = store(settings).views(name)[0]
        if newest.id != run_id:
            return newest.id
        raise


def _suited(settings: Settings, deployment: Deployment) -> Deployment:
    """The deployment, by the first route that takes what was fetched where its own does not: before
    the fetch a hub id tells no route what it stands for."""
    found = {role: plan.checkpoint(settings, deployment, role) for role in deployment.checkpoints}
    named = next(iter(deployment.checkpoints.values()))
    own = options.backend(deployment.backend)
    if len(found) > 1 or own.accepts(found).level is not Level.FAIL:
        return deployment
    checkpoint = next(iter(found.values()))
    for route in inspect.routes({"model": checkpoint}):
        if route.verdict.level in (Level.PASS, Level.WARN):
            chosen = options.backend(route.name)
            role, _ = inspect.accepted(chosen, {"model": checkpoint})
            suggested = chosen.suggest({role: checkpoint}, plan.host())
            return deployment.model_copy(
                update={
                    "backend": route.name,
                    "checkpoints": {role: named},
                    "options": suggested.model_dump(
                        mode="json", exclude_defaults=True, exclude_none=True
                    ),
                }
            )
    return deployment


def cancel(settings: Settings, run_id: str) -> None:
    readonly.require_writable(settings, "cancel a run")
    with acting.noted(settings, "cancel", run_id):
        store(settings).cancel(run_id)


def retry(settings: Settings, run_id: str, from_step: str = "") -> str:
    readonly.require_writable(settings, "continue a run")
    with acting.noted(settings, "retry", run_id):
        return store(settings).retry(run_id, from_step) or run_id


def delete(settings: Settings, run_id: str) -> None:
    readonly.require_writable(settings, "delete a run")
    store(settings).delete(run_id)
