"""Whether a step must run again: what it depends on, as digests, kept in ``${work}/steps``.

"Unchanged" means the same options, tools and inputs. A file is known by its size, its time of
change, its header and 64 sampled blocks: hashing 100 GB takes a minute, sampling does not. Ports and
the token never count; they are new each time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from console import storage
from console.planning import variables
from console.planning.plan import CommandStep, Plan, Step, WriteStep
from console.planning.variables import expand, names

VERSION = 1
BLOCK = 4096
SAMPLES = 64
_DISPLAY = frozenset({"title", "why", "timeout", "always", "progress", "inputs"})
"""Fields that change nothing about what a step makes; inputs count by content."""


@dataclass(frozen=True, slots=True)
class Key:
    """Digests of everything that a step's outcome depends on."""

    options: str
    environment: str = ""
    inputs: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, raw: object) -> Key | None:
        if not isinstance(raw, dict):
            return None
        try:
            return cls(raw["options"], raw["environment"], dict(raw["inputs"]))
        except (KeyError, TypeError, ValueError):
            return None


def key_of(step: Step, plan: Plan, values: Mapping[str, str]) -> Key:
    """The key of `step` on this host now; reads its inputs."""
    volatile = {v.name: f"${{{v.name}}}" for v in plan.variables if v.kind == "port"}
    fixed = {**values, **volatile, "token_file": "${token_file}"}
    shown = step.model_dump(mode="json", exclude=set(_DISPLAY))
    options = json.dumps(_expanded(shown, fixed), sort_keys=True)
    environment = ""
    if isinstance(step, CommandStep):
        name = step.command.runtime.partition(":")[2]
        specs = [spec for spec in plan.environments if spec.name == name]
        environment = f"{specs[0].digest} {specs[0].existing}".strip() if specs else ""
        tags = [image.tag for image in plan.images if image.name == step.command.image]
        environment = tags[0] if tags else environment
    inputs = {path: fingerprint(Path(path)) for path in expanded_inputs(step, values)}
    return Key(hashlib.sha256(options.encode()).hexdigest(), environment, inputs)


def version_key(plan: Plan, values: Mapping[str, str]) -> str:
    """Digest over everything that decides what is in the plan's version folders."""
    symbolic = {**values, variables.VERSION: "${version}"}
    made = [
        asdict(key_of(step, plan, symbolic))
        for step in plan.steps
        if isinstance(step, WriteStep | CommandStep) and _versioned(step)
    ]
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


def _versioned(step: Step) -> bool:
    return variables.VERSION in names(step.model_dump_json())


def expanded_inputs(step: Step, values: Mapping[str, str]) -> list[str]:
    return [expand(one.path, values) for one in step.inputs]


def _expanded(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return expand(value, values)
    if isinstance(value, dict):
        return {name: _expanded(part, values) for name, part in value.items()}
    if isinstance(value, list):
        return [_expanded(part, values) for part in value]
    return value


def fingerprint(path: Path) -> str:
    """What a file or folder is known by: a digest, or ``missing``."""
    digest = hashlib.sha256()
    try:
        if path.is_file():
            _sample(path, digest)
            return digest.hexdigest()
        if not path.is_dir():
            return "missing"  # or a pipe or device, which has no content to know it by
        for entry in sorted(p for p in path.rglob("*") if p.is_file()):
            info = entry.stat()
            line = f"{entry.relative_to(path)}\0{info.st_size}\0{info.st_mtime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
    except FileNotFoundError:
        return "missing"
    return digest.hexdigest()


def _sample(path: Path, digest: Any) -> None:
    info = path.stat()
    digest.update(f"{info.st_size} {info.st_mtime_ns}\n".encode())
    with path.open("rb") as stream:
        if info.st_size <= BLOCK * (SAMPLES + 1):
            digest.update(stream.read())
            return
        digest.update(stream.read(BLOCK))
        gap = (info.st_size - BLOCK) / SAMPLES
        for index in range(1, SAMPLES + 1):
            stream.seek(int(index * gap))
            digest.update(stream.read(BLOCK))


# ---------------------------------------------------------------------------- what is remembered


def _file(step: Step, values: Mapping[str, str]) -> Path:
    """One for each version that the step makes: an older one that is taken up again is not made
    again."""
    version = f".v{values[variables.VERSION]}" if _versioned(step) else ""
    return Path(values["work"]) / "steps" / f"{step.id}{version}.json"


def remember(step: Step, values: Mapping[str, str], key: Key, run: str) -> None:
    """Note that `step` succeeded with `key`, and what its output files looked like."""
    file = _file(step, values)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    outputs = {path: _look(Path(path)) for path in _outputs(step, values)}
    state = {"version": VERSION, "key": asdict(key), "outputs": outputs, "run": run}
    storage.write_json(file, state)


def forget(step: Step, values: Mapping[str, str]) -> None:
    """A step that starts has no result; one that fails keeps none."""
    _file(step, values).unlink(missing_ok=True)


def why_run(step: Step, values: Mapping[str, str], key: Key) -> str:
    """Why `step` has to run, in words; empty when it is unchanged and its outputs are there."""
    if step.always:
        return "runs each time"
    state = storage.read_json(_file(step, values))
    if state is None or state.get("version") != VERSION:
        return "not done here before"
    before = Key.read(state.get("key"))
    if before is None:
        return "not done here before"
    return _difference(before, key) or _outputs_differ(step, values, state.get("outputs", {}))


def _difference(before: Key, now: Key) -> str:
    if before.options != now.options:
        return "its options changed"
    if before.environment != now.environment:
        return "its environment changed"
    for path in now.inputs:
        if before.inputs.get(path) != now.inputs[path]:
            return f"input {Path(path).name} changed"
    return "an input was taken away" if set(before.inputs) != set(now.inputs) else ""


def _outputs(step: Step, values: Mapping[str, str]) -> Iterable[str]:
    return [expand(path, values) for path in step.outputs]


def _outputs_differ(step: Step, values: Mapping[str, str], before: Mapping[str, Any]) -> str:
    for path in _outputs(step, values):
        now = _look(Path(path))
        if now is None:
            return f"output {Path(path).name} is missing"
        if before.get(path) != now:
            return f"output {Path(path).name} was changed by something else"
    return ""


def _look(path: Path) -> list[int] | None:
    """Size and time of change of a file; a folder only has to be there: later steps fill it."""
    try:
        info = path.stat()
    except OSError:
        return None
    return [] if path.is_dir() else [info.st_size, info.st_mtime_ns]
