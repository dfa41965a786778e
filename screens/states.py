"""Glyph, word and colour of every state: the one place that says them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from console.facts import Level, Verdict
from console.runs.model import RunState, RunView, StepState
from console.services.model import ServiceState, ServiceView
from screens.phrase import Phrase, Role, say

if TYPE_CHECKING:
    from console.desk.desk import DeploymentView
    from console.services.lifecycle import Phase
    from console.triton.health import ModelState

_LEVELS: Mapping[Level, tuple[str, Role]] = {
    Level.PASS: ("✓ pass", "ok"),
    Level.WARN: ("▲ warn", "warn"),
    Level.FAIL: ("✕ fail", "bad"),
    Level.UNKNOWN: ("? unknown", "warn"),
}
_STEPS: Mapping[StepState, tuple[str, Role]] = {
    StepState.PENDING: ("· waiting", "dim"),
    StepState.RUNNING: ("◐ running", "accent"),
    StepState.DONE: ("✓ done", "ok"),
    StepState.SKIPPED: ("= unchanged", "dim"),
    StepState.FAILED: ("✕ failed", "bad"),
    StepState.CANCELLED: ("○ cancelled", "warn"),
}
_RUNS: Mapping[RunState, tuple[str, Role]] = {
    RunState.STARTING: ("◐ starting", "accent"),
    RunState.RUNNING: ("◐ building", "accent"),
    RunState.SUCCEEDED: ("✓ verified", "ok"),
    RunState.FAILED: ("✕ failed", "bad"),
    RunState.CANCELLED: ("○ cancelled", "warn"),
    RunState.INTERRUPTED: ("▲ interrupted", "warn"),
    RunState.ORPHANED: ("◐ running alone", "warn"),
    RunState.FOREIGN: ("? other host", "dim"),
}
_FETCHES: Mapping[RunState, tuple[str, Role]] = {
    RunState.RUNNING: ("◐ fetching", "accent"),
    RunState.SUCCEEDED: ("✓ fetched", "ok"),
}
"""Of a run that brings checkpoints here and builds nothing."""
_SERVICES: Mapping[ServiceState, tuple[str, Role]] = {
    ServiceState.STARTING: ("◐ starting", "accent"),
    ServiceState.RUNNING: ("● running", "ok"),
    ServiceState.RESTARTING: ("◐ restarting", "warn"),
    ServiceState.STOPPING: ("◐ stopping", "warn"),
    ServiceState.STOPPED: ("○ stopped", "dim"),
    ServiceState.FAILED: ("✕ failed", "bad"),
    ServiceState.LOST: ("✕ lost", "bad"),
    ServiceState.FOREIGN: ("? other host", "dim"),
}
_PHASES: Mapping[str, tuple[str, Role]] = {
    "starting": ("◐ starting", "accent"),
    "live": ("◐ live", "accent"),
    "ready": ("● ready", "ok"),
    "model-ready": ("● model-ready", "ok"),
    "serving": ("● serving", "ok"),
    "degraded": ("▲ degraded", "bad"),
    "restarting": ("◐ restarting", "warn"),
    "stopping": ("◐ stopping", "warn"),
    "stopped": ("○ stopped", "dim"),
    "crashed": ("✕ crashed", "bad"),
    "lost": ("✕ lost", "bad"),
    "foreign": ("? elsewhere", "dim"),
}
"""By `Phase`, whose members are these words; its module is not needed for a list of deployments."""
_MODELS: Mapping[str, tuple[str, Role]] = {
    "READY": ("● ready", "ok"),
    "LOADING": ("◐ loading", "accent"),
    "UNLOADING": ("◐ unloading", "warn"),
    "UNAVAILABLE": ("✕ unavailable", "bad"),
}


def verdict(found: Verdict) -> Phrase:
    """``✕ fail``, or ``▲ accepted`` where the operator took it."""
    if found.level is Level.FAIL and found.accepted:
        return say("▲ accepted", "warn")
    return say(*_LEVELS[found.level])


def remark(found: Verdict, label: str = "") -> Phrase:
    """``✓ http port 8000 is free``: the verdict's sentence with its glyph, in its colour.

    Beside a label that its sentence begins with, the rest: ``✓ 8000 is free``.
    """
    word, role = _LEVELS[found.level]
    said, start = found.summary, f"{label} ".casefold()
    if label and said.casefold().startswith(start):
        said = said[len(start) :]
    return say(f"{word[0]} {said}", role)


def step(state: StepState) -> Phrase:
    return say(*_STEPS[state])


def run(view: RunView) -> Phrase:
    if view.fetches_only and view.state in _FETCHES:
        return say(*_FETCHES[view.state])
    return say(*_RUNS[view.state])


def service(state: ServiceState) -> Phrase:
    return say(*_SERVICES[state])


def phase(of: Phase) -> Phrase:
    return say(*_PHASES[of])


def model(state: ModelState) -> Phrase:
    """Triton's word for a model; one that was unloaded on purpose is not a failure."""
    if state.state == "UNAVAILABLE" and state.reason in ("", "unloaded"):
        return say("○ unloaded", "dim")
    if state.ready:
        return say(*_MODELS["READY"])
    if state.state:
        glyph, role = _MODELS.get(state.state, (f"? {state.state.lower()}", "warn"))
        return say(glyph, role)
    return say("○ not loaded", "dim")


def fact(word: str, true: bool | None) -> Phrase:
    """``● live``, ``○ not live`` or ``? live`` for one yes-or-no answer of a server."""
    if true is None:
        return say(f"? {word}", "dim")
    return say(f"● {word}", "ok") if true else say(f"○ not {word}", "warn")


def deployment(view: DeploymentView) -> Phrase:
    """One state for one line of Home: what an operator would say of this deployment."""
    if view.problem:
        return say("✕ unreadable", "bad")
    if not view.seen:
        return say("…", "dim")
    living = view.service is not None and view.service.state is ServiceState.RUNNING
    if view.run is not None and view.run.active:
        doing = "fetching" if view.run.fetches_only else "building"
        return say(f"◐ {doing} {_progress(view.run)}", "accent")
    if living and view.trouble:
        return say(*_PHASES["degraded"])
    if living and view.run is not None and view.run.state is RunState.SUCCEEDED:
        return say("● serving", "ok")
    if view.service is not None and not _ended(view.service):
        return service(view.service.state)
    if view.run is None:
        return say("· not built", "dim")
    if view.run.state is RunState.SUCCEEDED and not view.run.fetches_only:
        return service(view.service.state) if view.service else say("○ stopped", "dim")
    return run(view.run)


def _ended(view: ServiceView) -> bool:
    return view.state in (ServiceState.STOPPED, ServiceState.FAILED, ServiceState.LOST)


def _progress(view: RunView) -> str:
    done = sum(s.state in (StepState.DONE, StepState.SKIPPED) for s in view.steps)
    return f"{min(done + 1, len(view.steps))}/{len(view.steps)}"


def bar(fraction: float | None, width: int = 7) -> str:
    """``▮▮▮▯▯▯▯``; a fraction outside 0…1 is clamped."""
    full = round(width * min(1.0, max(0.0, fraction or 0.0)))
    return "▮" * full + "▯" * (width - full)
