"""Use case: the store of a deployment whose model searches one: fill, count, delete, rebuild."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.desk import acting, configure, options, readonly
from console.desk.options import bound
from console.facts import DeckError, Progress, UsageError
from console.settings import Settings
from console.text import clean, redact

if TYPE_CHECKING:
    from console.planning.deployment import Deployment
    from console.planning.plan import Command
    from console.runtimes.host import Launch

_LINE = re.compile(r"\[tritondeck\] (?P<kind>progress|failed|result|error:?) ?(?P<text>.*)")
_PROGRESS = re.compile(r"(?P<fraction>[0-9.]+)\s*(?P<message>.*)")
_LAST_WORDS = 12
DONE, FAILED_RECORDS = 0, 3


def fill(
    settings: Settings,
    name: str,
    source: Path,
    *,
    replace: bool = False,
    progress: Progress | None = None,
    on_failed: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Write the records of a folder or a file of JSON lines; what was done. Each record that cannot be
    used goes to `on_failed`, and the rest goes on."""
    from console.desk import query

    readonly.require_writable(settings, "fill a store")
    deployment = configure.open_deployment(settings, name)
    view = query.service(settings, deployment.name)
    if not view.living:
        raise DeckError(
            f"{clean(deployment.name)} is not being served, and its models make the vectors",
            why=view.reason,
            fix=f"tritondeck deploy {clean(deployment.name)}",
        )
    argv = ["--source", str(source.absolute()), "--url", view.endpoint.url]
    argv += ["--replace"] if replace else []
    with acting.noted(settings, "fill", deployment.name):
        return _run(settings, deployment, "fill", argv, progress, on_failed)


def count(settings: Settings, name: str, wanted: str = "") -> dict[str, Any]:
    """How many records there are (that fit the filter `wanted`, JSON), and their bytes."""
    deployment = configure.open_deployment(settings, name)
    return _run(settings, deployment, "count", _filter(wanted))


def delete(
    settings: Settings,
    name: str,
    ids: Sequence[str] = (),
    wanted: str = "",
    everything: bool = False,
) -> dict[str, Any]:
    """Remove records by id, by a filter, or all of them."""
    readonly.require_writable(settings, "delete records")
    if sum(map(bool, (ids, wanted, everything))) != 1:
        raise UsageError("say which records: ids, a filter, or all of them")
    deployment = configure.open_deployment(settings, name)
    argv = [word for one in ids for word in ("--id", one)] + _filter(wanted)
    argv += ["--all"] if everything else []
    with acting.noted(settings, "delete records", deployment.name):
        return _run(settings, deployment, "delete", argv)


def rebuild(settings: Settings, name: str, progress: Progress | None = None) -> dict[str, Any]:
    """Make the indexes anew, whatever the number of records."""
    readonly.require_writable(settings, "rebuild an index")
    deployment = configure.open_deployment(settings, name)
    with acting.noted(settings, "rebuild index", deployment.name):
        return _run(settings, deployment, "rebuild", [], progress)


def _filter(wanted: str) -> list[str]:
    if not wanted:
        return []
    try:
        value = json.loads(wanted)
    except ValueError as error:
        raise UsageError("the filter is not JSON", why=clean(str(error))) from error
    if not isinstance(value, dict):
        raise UsageError("the filter is not a JSON object", fix='{"color": "red"}')
    return ["--filter", json.dumps(value)]


def _command(deployment: Deployment, version: int, argv: Sequence[str]) -> Command:
    values = bound(deployment).model_dump(mode="json", exclude_none=True)
    backend = options.backend(deployment.backend)
    command = backend.store_command(deployment.model_copy(update={"options": values}), version)
    if command is None:
        raise UsageError(
            f"{clean(deployment.name)} has no store",
            why=f"models of the backend {deployment.backend} search none",
        )
    from console.planning.variables import literal

    return command.model_copy(update={"argv": (*command.argv, *map(literal, argv))})


def _launch(settings: Settings, deployment: Deployment, argv: Sequence[str]) -> Launch:
    from console.runtimes import host
    from console.runtimes.environments import Environments
    from console.triton import versions

    work = settings.folders.work / deployment.name
    known = versions.read(work)
    command = _command(deployment, known.live if known else 0, argv)
    if known is None:
        raise DeckError(
            f"{clean(deployment.name)} has no verified version",
            why="its store is known by the model whose vectors it holds",
            fix=f"tritondeck deploy {clean(deployment.name)}",
        )
    values = {"work": str(work), "repository": str(known.repository)}
    needs = options.backend(deployment.backend).needs(deployment)
    for spec in needs:
        values[host.variable_of(spec.name)] = str(Environments(settings).folder(spec))
    return host.launch(command, values, settings)


def _run(
    settings: Settings,
    deployment: Deployment,
    verb: str,
    argv: Sequence[str],
    progress: Progress | None = None,
    on_failed: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run the worker to its end; its result. Raises `DeckError` with its last words."""
    launch = _launch(settings, deployment, (verb, *argv))
    last: list[str] = []
    result: dict[str, Any] = {}
    with subprocess.Popen(
        launch.argv,
        env=dict(launch.env),
        cwd=launch.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                result = _told(line, last, progress, on_failed) or result
        # Whatever ends this (a cancel, ctrl+c, a defect of ours): leaving the `with` waits for the worker.
        except BaseException:
            process.terminate()
            raise
    if process.returncode not in (DONE, FAILED_RECORDS) or not result:
        raise DeckError(
            f"the store of {clean(deployment.name)}: {verb} did not work",
            why=last[-1] if last else f"exit status {process.returncode}",
            raw="\n".join(last),
        )
    return result


def _told(
    line: str,
    last: list[str],
    progress: Progress | None,
    on_failed: Callable[[str], None] | None,
) -> dict[str, Any] | None:
    """What one line of the worker means; the result when it is that one, and whole."""
    match = _LINE.match(line)
    if match and match["kind"] == "result" and line.endswith("\n"):
        found: dict[str, Any] = json.loads(match["text"])
        return found
    text = redact(clean((match["text"] if match else line).strip()))
    if match and match["kind"] == "progress":
        at = _PROGRESS.match(text)
        if at and progress:
            progress(at["message"], float(at["fraction"]))
    elif match and match["kind"] == "failed":
        if on_failed:
            on_failed(text)
    elif text:
        last[:] = [*last[1 - _LAST_WORDS :], text]
    return None
