"""The truth about a server in one word and a sentence: its process, what it says, what it does.

live, ready and model-ready are what the server says of itself; serving means that a real request was
answered, and degraded that something is wrong which the server does not say.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

from console.facts import DeckError
from console.services import restarts, watch
from console.services.model import ServiceState, ServiceView
from console.services.record import last_line
from console.text import human_seconds
from console.triton.health import ModelState, ServerHealth

_TAIL = 1 << 20


class Phase(StrEnum):
    """Where a server stands, from its start to its end."""

    STARTING = "starting"
    LIVE = "live"
    """It answers; its models are not all there."""
    READY = "ready"
    """It answers, and has no model of its deployment (none is loaded yet, or somebody unloaded it)."""
    MODEL_READY = "model-ready"
    """Its models are loaded; none has answered a request yet."""
    SERVING = "serving"
    DEGRADED = "degraded"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    CRASHED = "crashed"
    LOST = "lost"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """`words` say why, for a person; `cause` is what the log of a crashed server means."""

    phase: Phase
    words: str
    models: tuple[ModelState, ...] = ()
    last_line: str = ""
    """The newest line of the server's log that says something, while it starts and when it crashed."""
    problems: tuple[str, ...] = ()
    answered: float | None = None
    """Seconds since a real request was answered rightly; None when none was."""
    latency: float | None = None
    restarts: int = 0
    """Restarts within the last hour."""
    cause: DeckError | None = None


_ENDED = {
    ServiceState.STOPPING: Phase.STOPPING,
    ServiceState.STOPPED: Phase.STOPPED,
    ServiceState.FAILED: Phase.CRASHED,
    ServiceState.RESTARTING: Phase.RESTARTING,
    ServiceState.LOST: Phase.LOST,
    ServiceState.FOREIGN: Phase.FOREIGN,
}


def lifecycle(view: ServiceView, health: ServerHealth | None) -> Lifecycle:
    """The service as its folder and `health` tell it; `health` is None when it was not asked."""
    now = time.time()
    count = restarts.read(view.folder).recent(now)
    if view.state in _ENDED:
        phase = _ENDED[view.state]
        crashed = phase in (Phase.CRASHED, Phase.RESTARTING)
        gave_up = phase is Phase.CRASHED and restarts.read(view.folder).gave_up
        words = view.reason + (f"; not started again after {count} restarts" if gave_up else "")
        return Lifecycle(
            phase,
            words or view.state.value,
            last_line=last_line(view.log) if crashed else "",
            restarts=count,
            cause=cause(view) if crashed else None,
        )
    report = watch.read(view.folder)
    phase, words = _phase(view, health, report)
    mine = set(view.models)
    return Lifecycle(
        phase,
        words,
        tuple(m for m in health.models if m.name in mine) if health else (),
        last_line(view.log) if phase in (Phase.STARTING, Phase.LIVE) else "",
        report.problems,
        max(0.0, now - report.answered) if report.answered else None,
        report.latency,
        count,
    )


def _phase(
    view: ServiceView, health: ServerHealth | None, report: watch.Report
) -> tuple[Phase, str]:
    if health is None or not health.live:
        why = health.problem if health else "it was not asked"
        if view.state is ServiceState.STARTING:
            return Phase.STARTING, why or "it does not answer yet"
        return Phase.DEGRADED, f"its process runs and it does not answer: {why}"
    if report.problems:
        return Phase.DEGRADED, "; ".join(report.problems)
    mine = [m for m in health.models if m.name in view.models]
    # A version that goes while another answers is no news.
    there = {m.name for m in mine if m.ready}
    loading = [m for m in mine if m.state in ("LOADING", "UNLOADING") and m.name not in there]
    broken = [
        m
        for m in mine
        if m.state == "UNAVAILABLE" and m.reason not in ("", "unloaded") and m.name not in there
    ]
    if broken:
        return Phase.DEGRADED, "; ".join(f"{m.name}: {m.reason}" for m in broken)
    if loading:
        return Phase.LIVE, ", ".join(f"{m.name} is {m.state.lower()}" for m in loading)
    if not view.models or not there >= set(view.models):
        if health.ready:
            return Phase.READY, "no model of its deployment is loaded"
        return Phase.LIVE, health.problem or "its models are not ready"
    if report.answered:
        ago = human_seconds(max(0.0, time.time() - report.answered))
        return Phase.SERVING, f"a real request was answered {ago} ago"
    return Phase.MODEL_READY, "loaded; no request has been answered yet"


def cause(view: ServiceView) -> DeckError | None:
    """What the end of a crashed server's log means, where that is known."""
    from console.triton.logs import explain

    try:
        with view.log.open("rb") as stream:
            stream.seek(max(0, view.log.stat().st_size - _TAIL))
            text = stream.read().decode(errors="replace")
    except OSError:
        return None
    known = explain(text.splitlines())
    if not known:
        return None
    last = known[-1]
    return DeckError(last.what, why=last.why, fix=last.fix, raw=last.raw)
