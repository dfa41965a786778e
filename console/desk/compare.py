"""Use case: what differs between two deployments, or two runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console import storage
from console.desk import configure, tomlfile
from console.desk.views import DiffEntry, DiffView
from console.facts import Refused, UsageError
from console.planning import deployment as files
from console.settings import Settings
from console.text import clean, human_seconds

if TYPE_CHECKING:
    from console.planning.deployment import Deployment
    from console.planning.plan import Plan
    from console.runs.model import RunView

Facts = dict[tuple[str, str], str]
"""Section and key to the value in words."""
_SECTIONS = ("deployment", "options", "versions", "keys", "timings", "outcome")


def diff(settings: Settings, left: str, right: str) -> DiffView:
    """Two runs by their ids, or two deployments by name or file; a run and a deployment compare
    by the deployment file that the run was made with."""
    a, b = _Side(settings, left), _Side(settings, right)
    both_runs = a.run is not None and b.run is not None
    facts = (a.facts(both_runs), b.facts(both_runs))
    _only_steps_that_ran_in_both(*facts)
    keys = sorted({*facts[0], *facts[1]}, key=lambda key: (_SECTIONS.index(key[0]), key[1]))
    entries = tuple(
        DiffEntry(
            section, name, facts[0].get((section, name), ""), facts[1].get((section, name), "")
        )
        for section, name in keys
        if facts[0].get((section, name)) != facts[1].get((section, name))
    )
    text = "".join(
        difflib.unified_diff(
            a.text.splitlines(keepends=True), b.text.splitlines(keepends=True), left, right
        )
    )
    return DiffView(clean(left), clean(right), entries, clean(text, multiline=True))


def _only_steps_that_ran_in_both(left: Facts, right: Facts) -> None:
    """A skipped step notes no key: that would look like a difference, and is told by its timing."""
    steps = [
        {key.partition(".")[0] for section, key in side if section == "keys"}
        for side in (left, right)
    ]
    for side in (left, right):
        for section, key in list(side):
            if section == "keys" and key.partition(".")[0] not in steps[0] & steps[1]:
                del side[section, key]


class _Side:
    """One of the two: its deployment, and its run where it is one."""

    def __init__(self, settings: Settings, words: str) -> None:
        self.settings = settings
        self.run = _run(settings, words)
        if self.run is None:
            self.deployment = configure.open_deployment(settings, words)
            file = _file(settings, words)
            self.text = _read(file)
        else:
            file = self.run.folder / "deployment.toml"
            self.text = _read(file)
            self.deployment = files.loads(self.text, file)

    def facts(self, with_run: bool) -> Facts:
        found = dict(_deployment_facts(self.deployment))
        if with_run and self.run is not None:
            found |= dict(_run_facts(self.run))
        return found


def _run(settings: Settings, words: str) -> RunView | None:
    from console.runs.store import RunStore

    if configure.is_file(settings, words):
        return None
    try:
        return RunStore(settings).view(words)
    except UsageError:
        return None


def _file(settings: Settings, words: str) -> Path:
    if configure.is_file(settings, words):
        return files.at_home(Path(words)).absolute()
    return configure.file_of(settings, words)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {clean(str(file))}", why=clean(str(error))) from error


def _deployment_facts(deployment: Deployment) -> Iterator[tuple[tuple[str, str], str]]:
    shown = deployment.model_dump(mode="json", exclude_none=True)
    for key, value in _flat(shown.pop("options")):
        yield ("options", key), value
    for key, value in _flat(shown):
        yield ("deployment", key), value


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and value in words of everything in nested tables."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        for index, part in enumerate(value):
            yield from _flat(part, f"{prefix}.{index}")
    else:
        yield clean(prefix), clean(str(value))


def _run_facts(run: RunView) -> Iterator[tuple[tuple[str, str], str]]:
    yield ("outcome", "state"), run.state.value
    yield ("outcome", "error"), clean(run.error)
    yield ("outcome", "answer"), clean(run.answer)
    yield ("timings", "total"), human_seconds(run.elapsed)
    for step in run.steps:
        took = human_seconds(step.elapsed) if step.elapsed is not None else ""
        yield ("timings", step.id), f"{step.state.value} {took}".strip()
    for name, value in _versions(_plan(run)):
        yield ("versions", name), value
    work = storage.read_json(run.folder / "values.json") or {}
    folder = str(work.get("values", {}).get("work", ""))
    for name, value in _keys(run.folder):
        name = name.replace(f"{folder}/", "${work}/") if folder else name
        yield ("keys", name), value


def _plan(run: RunView) -> Plan:
    from console.planning.plan import Plan

    try:
        return Plan.model_validate_json((run.folder / "plan.json").read_bytes())
    except (OSError, ValueError) as error:
        raise Refused(
            f"the plan of run {run.id} cannot be read", why=clean(str(error))[:300]
        ) from error


def _versions(plan: Plan) -> Iterator[tuple[str, str]]:
    """Pinned packages of each environment, and whose environment it is."""
    for spec in plan.environments:
        yield f"{spec.name}.lock", spec.digest
        if spec.existing:
            yield f"{spec.name}.use", clean(spec.existing)
        for line in (*spec.pre, *spec.requirements):
            name, separator, version = line.partition("==")
            if separator:
                yield f"{spec.name}.{clean(name.strip())}", clean(version.strip())


def _keys(folder: Path) -> Iterator[tuple[str, str]]:
    """What each command depended on when it last ran, as digests."""
    from console.runs import journal

    last = {e["step"]: e["key"] for e in journal.read(folder / "journal.jsonl") if e.get("key")}
    for step, key in last.items():
        for name, value in _flat(key):
            yield f"{step}.{name}", value[:12] if len(value) == 64 else value


def clone(settings: Settings, name: str, new: str) -> Path:
    """Save a copy of a deployment (or of a deployment file) as `new`, its comments kept."""
    from console.desk import readonly
    from console.settings import private_folder

    readonly.require_writable(settings, f"make {new}")
    target = configure.file_of(settings, new)
    if target.exists():
        raise Refused(
            f"there is a deployment called {clean(new)} already", fix="choose another name"
        )
    loaded = configure.open_deployment(settings, name)
    made = loaded.model_copy(update={"name": new})
    private_folder(settings.folders.state)
    private_folder(settings.folders.deployments)
    # Without a folder: what was relative to the old file is written absolute.
    tomlfile.put(target, tomlfile.render(made, _read(_file(settings, name))), 0o600)
    return target
