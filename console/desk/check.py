"""Use case: every verdict on a deployment, here and now, before any time is spent.

Each room says its own (`desk.verdicts` asks them); this module asks in turn, marks what the operator
accepted by name and sorts. A check that itself fails is a verdict too (`unknown`, with its words),
never a crash.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from console.desk import plan as planning
from console.desk import verdicts
from console.desk.views import CheckReport
from console.facts import DeckError, Level, Progress, Verdict
from console.settings import Settings
from console.text import clean

if TYPE_CHECKING:
    from console.desk.plan import Prepared
    from console.planning.deployment import Deployment

Group = tuple[str, Callable[[], Iterable[Verdict]]]
"""A kebab-case name, and what to ask."""


def check(
    settings: Settings, deployment: Deployment, progress: Progress | None = None
) -> CheckReport:
    return prepared(settings, deployment, progress)[1]


def prepared(
    settings: Settings, deployment: Deployment, progress: Progress | None = None
) -> tuple[Prepared | None, CheckReport]:
    """The report, and what it was made from (None when a checkpoint could not even be read)."""
    started = time.monotonic()
    if progress:
        progress("checkpoint", None)
    try:
        ready = planning.prepare(settings, deployment)
    except DeckError as error:
        empty = next(iter(planning.missing(deployment)), None)
        verdict = Verdict(
            "checkpoint",
            Level.FAIL,
            error.title,
            figure=error.why,
            fix=error.fix,
            option=f"checkpoints.{empty.name}" if empty else "",
        )
        return None, CheckReport((verdict,), time.monotonic() - started)
    found = run(_groups(settings, ready), progress)
    return ready, CheckReport(judged(found, deployment.checks.accept), time.monotonic() - started)


_BESIDE = {
    "container-engine": "server.engine",
    "container-image": "server.image",
    "container-gpus": "server.gpus",
    "container-shm": "server.shm_size",
    "container-memory": "server.memory",
    "exposure": "server.address",
    "join": "server.join",
    "port-grpc": "server.grpc_port",
    "port-http": "server.http_port",
    "port-metrics": "server.metrics_port",
    "server-age": "server.launcher",
    "server-image": "server.image",
    "server-program": "server.path",
}
"""The option that a verdict is about which needs no change of it."""


def server(settings: Settings, deployment: Deployment) -> tuple[Verdict, ...]:
    """The verdicts on single options of ``[server]``, each with its option, the worst first."""
    ready = planning.prepare(settings, deployment)
    asked = ("host", "join", "launcher", "containers")
    found = run(group for group in _groups(settings, ready) if group[0] in asked)
    beside = (replace(v, option=v.option or _BESIDE.get(v.check, "")) for v in found)
    mine = [v for v in beside if v.option.startswith("server.")]
    return judged(mine, {v.check for v in mine} & set(deployment.checks.accept))


def _groups(settings: Settings, ready: Prepared) -> tuple[Group, ...]:
    return (
        ("route", lambda: (ready.backend.accepts(ready.checkpoints),)),
        (
            "backend",
            lambda: ready.backend.checks(
                ready.deployment, ready.checkpoints, ready.host, ready.tools
            ),
        ),
        ("host", lambda: verdicts.host(settings, ready)),
        ("environments", lambda: verdicts.environments(settings, ready.needs)),
        ("libpython", lambda: verdicts.libpython(settings, ready)),
        ("join", lambda: verdicts.join(settings, ready)),
        ("hub", lambda: verdicts.hub(ready)),
        ("checkpoint-risks", lambda: verdicts.risks(ready)),
        ("launcher", lambda: verdicts.launcher(ready)),
        ("containers", lambda: verdicts.containers(settings, ready)),
        ("model-configuration", lambda: verdicts.model_configurations(ready)),
    )


def run(groups: Iterable[Group], progress: Progress | None = None) -> tuple[Verdict, ...]:
    """Ask every group; a failing one becomes an `unknown` verdict. Two rooms that say the same of
    the same check are heard once."""
    groups = tuple(groups)
    found: list[Verdict] = []
    for number, (name, ask) in enumerate(groups):
        if progress:
            progress(name.replace("-", " "), number / len(groups))
        try:
            found += ask()
        except DeckError as error:
            found.append(Verdict(name, Level.UNKNOWN, error.title, figure=error.why, fix=error.fix))
        except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
            found.append(
                Verdict(
                    name,
                    Level.UNKNOWN,
                    f"the check {name} did not work here",
                    figure=clean(f"{type(error).__name__}: {error}"),
                    source="tritondeck itself",
                    fix="please report this; the other checks still count",
                )
            )
    once = {(v.check, v.level, v.summary): v for v in reversed(found)}
    return tuple(reversed(once.values()))


def judged(found: Iterable[Verdict], accept: Iterable[str]) -> tuple[Verdict, ...]:
    """Mark accepted failures, tell names that no check has, sort by severity."""
    accepted = frozenset(accept)
    marked = [
        replace(v, accepted=True) if v.level is Level.FAIL and v.check in accepted else v
        for v in found
    ]
    unheard = accepted - {v.check for v in marked}
    marked += [
        Verdict(
            "accept",
            Level.WARN,
            f"[checks] accept names {clean(name)}, and no check is called that",
            fix="remove it, or correct its spelling",
            option="checks.accept",
        )
        for name in sorted(unheard)
    ]
    return tuple(sorted(marked, key=_severity))


def _severity(verdict: Verdict) -> int:
    if verdict.blocks:
        return 0
    return {Level.FAIL: 1, Level.WARN: 2, Level.UNKNOWN: 3, Level.PASS: 4}[verdict.level]
