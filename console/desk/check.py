"""Use case: every verdict on a deployment, here and now, before any time is spent.

Each room says its own; this module asks them in turn, marks what the operator accepted by name and
sorts. A check that itself fails is a verdict too (`unknown`, with its words), never a crash.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from console.desk import plan as planning
from console.desk.views import CheckReport
from console.facts import DeckError, Level, Progress, Verdict
from console.settings import Settings
from console.text import clean, human_bytes

if TYPE_CHECKING:
    from console.desk.plan import Prepared
    from console.planning.deployment import Deployment
    from console.planning.plan import EnvironmentSpec

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
        verdict = Verdict("checkpoint", Level.FAIL, error.title, figure=error.why, fix=error.fix)
        return None, CheckReport((verdict,), time.monotonic() - started)
    found = run(_groups(settings, ready), progress)
    found = judged(found, deployment.checks.accept)
    return ready, CheckReport(found, time.monotonic() - started)


def _groups(settings: Settings, ready: Prepared) -> tuple[Group, ...]:
    deployment, host = ready.deployment, ready.host
    return (
        ("route", lambda: (ready.backend.accepts(ready.checkpoints),)),
        (
            "backend",
            lambda: ready.backend.checks(deployment, ready.checkpoints, host, ready.tools),
        ),
        ("host", lambda: host_checks(settings, ready)),
        ("environments", lambda: environments(settings, ready.needs)),
        ("libpython", lambda: libpython(settings, ready)),
        ("checkpoint-risks", lambda: risks(ready)),
        ("server-age", lambda: server_age(ready)),
        ("model-configuration", lambda: model_configurations(ready)),
    )


def run(groups: Iterable[Group], progress: Progress | None = None) -> tuple[Verdict, ...]:
    """Ask every group; a failing one becomes an `unknown` verdict."""
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
    return tuple(found)


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


# ---------------------------------------------------------------------------- the rooms' verdicts


def host_checks(settings: Settings, ready: Prepared) -> Iterable[Verdict]:
    from console.planning import checks

    return checks.checks(ready.deployment, ready.host)


def environments(settings: Settings, needs: Iterable[EnvironmentSpec]) -> Iterator[Verdict]:
    """Ready, or what making it will take."""
    from console.runtimes.environments import Environments

    managed = Environments(settings)
    for spec in needs:
        name = f"environment-{spec.name}"
        if managed.ready(spec):
            yield Verdict(
                name,
                Level.PASS,
                f"the environment {spec.name} is ready",
                figure=clean(str(managed.folder(spec))),
            )
        else:
            yield Verdict(
                name,
                Level.WARN,
                f"the environment {spec.name} will be created first",
                figure=managed.why_not(spec),
                fix=f"tritondeck env create {spec.name} does it now",
            )


def libpython(settings: Settings, ready: Prepared) -> Iterator[Verdict]:
    """The embedded server's model processes link libpython; without it a load hangs for ever."""
    from console.runtimes import libpython as library

    if ready.deployment.server.launcher == "embedded":
        spec = next((spec for spec in ready.needs if spec.name == "embedded"), None)
        yield library.check(interpreter(settings, spec))


def interpreter(settings: Settings, spec: EnvironmentSpec | None) -> Path:
    """The Python that the environment has, or will be made with."""
    import sys

    from console.runtimes.environments import Environments

    if spec is not None and Environments(settings).ready(spec):
        return Environments(settings).folder(spec) / "bin" / "python"
    return Path((spec.python if spec else "") or settings.python or sys.executable)


def risks(ready: Prepared) -> Iterator[Verdict]:
    """What reading the checkpoint found; a danger blocks unless accepted."""
    from console.checkpoints.model import Severity

    levels = {Severity.NOTE: Level.PASS, Severity.WARN: Level.WARN, Severity.DANGER: Level.FAIL}
    for role, checkpoint in ready.checkpoints.items():
        for risk in checkpoint.risks:
            yield Verdict(
                f"checkpoint-{risk.code}",
                levels[risk.severity],
                risk.summary,
                figure=human_bytes(checkpoint.size),
                source=clean(str(checkpoint.path)),
                fix=risk.fix,
                option=f"checkpoints.{role}",
            )


def server_age(ready: Prepared) -> Iterator[Verdict]:
    """The embedded server is old, and what that means where it listens."""
    server = ready.deployment.server
    if server.launcher != "embedded":
        return
    yield Verdict(
        "server-age",
        Level.FAIL if server.expose else Level.WARN,
        f"the embedded Triton is {planning.EMBEDDED_TRITON} (container 24.10): it lacks the "
        "security fixes of 25.07 and later",
        figure=f"listens on {server.address}",
        source="nvidia-pytriton 0.7.0, its newest release; security bulletins of Triton 25.07",
        fix="keep it on loopback and load only models that you trust",
        option="server.expose" if server.expose else "server.launcher",
    )


def model_configurations(ready: Prepared) -> Iterator[Verdict]:
    """Every ``config.pbtxt`` that the plan writes, through the linter."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    from console.planning.plan import WriteStep
    from console.triton import repository

    for step in ready.plan().steps:
        for file in step.files if isinstance(step, WriteStep) else ():
            if not file.path.endswith("/config.pbtxt"):
                continue
            model = Path(file.path).parent.name
            message = text_format.Parse(file.text, model_config_pb2.ModelConfig())
            verdicts = tuple(repository.lint(message))
            yield from verdicts or (
                Verdict(
                    "model-configuration",
                    Level.PASS,
                    f"the configuration of {clean(model)} is sound",
                    source="config.pbtxt in the plan",
                ),
            )
