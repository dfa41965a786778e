"""What several verbs share: the desk, the meant deployment, the meant run."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console import settings
from console.desk.desk import Desk
from console.facts import DeckError, UsageError
from console.text import clean

if TYPE_CHECKING:
    from console.desk.views import OptionField
    from console.planning.deployment import Deployment
    from console.runs.model import RunView


def desk(args: argparse.Namespace) -> Desk:
    loaded = settings.load()
    if getattr(args, "readonly", False):
        loaded = replace(loaded, readonly=True)
    return Desk(loaded)


def deployment(args: argparse.Namespace, on: Desk) -> Deployment:
    """The deployment of a file, of a name, or drafted for a checkpoint; with the flags applied."""
    words: str = args.deployment
    from console.checkpoints.hub import is_hub
    from console.planning.deployment import at_home

    if not is_hub(words) and (words.endswith(".toml") or not at_home(Path(words)).exists()):
        if args.name or args.backend or args.profile:
            raise UsageError(
                "--name, --backend and --profile are for a checkpoint",
                why=f"{clean(words)} is a deployment, which has its own",
            )
        if "/" in words and not words.endswith(".toml"):
            raise UsageError(f"there is no file {clean(words)}")
        found = on.open(words)
    else:
        found = on.draft(Path(words), args.backend, args.name, args.profile)
    changes = [_pair(item, "--set") for item in args.settings]
    changes += _option_flags(args.option_words, on.option_fields(found.backend))
    return _accepting(_changed(on, found, changes), args.accept)


def _pair(text: str, flag: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UsageError(f"{flag} takes KEY=VALUE, got {clean(text)!r}")
    return key, value


def pairs(items: list[str], flag: str) -> dict[str, str]:
    return dict(_pair(item, flag) for item in items)


def _option_flags(words: list[str], fields: tuple[OptionField, ...]) -> list[tuple[str, str]]:
    """``--max-batch-size 8`` and ``--max-batch-size=8``; a switch alone means true."""
    known = {f"--{field.name.replace('_', '-')}": field for field in fields}
    changes: list[tuple[str, str]] = []
    rest = list(words)
    while rest:
        flag, separator, value = rest.pop(0).partition("=")
        field = known.get(flag)
        if field is None:
            raise UsageError(
                f"there is no flag {clean(flag)}",
                why=f"flags of this backend's options: {', '.join(known) or 'none'}",
            )
        if not separator:
            follows = bool(rest) and not rest[0].startswith("--")
            if field.kind == "bool" and not (follows and rest[0].lower() in _TRUTHS):
                value = "true"
            elif follows:
                value = rest.pop(0)
            else:
                raise UsageError(f"{flag} needs a value ({field.kind})")
        changes.append((field.name, value))
    return changes


_TRUTHS = frozenset({"true", "false", "yes", "no", "on", "off", "1", "0"})


def _changed(on: Desk, found: Deployment, changes: list[tuple[str, str]]) -> Deployment:
    """Apply KEY=VALUE pairs: a dotted key is the deployment's, another the backend's."""
    own = {k: v for k, v in changes if k.startswith("options.") or "." not in k}
    options = {k.removeprefix("options."): v for k, v in own.items()}
    result, problems = on.with_options(found, options)
    if problems:
        raise UsageError(
            f"{len(problems)} wrong option(s)",
            why="; ".join(f"{p.field}: {p.message}" for p in problems),
            fix=f"tritondeck backends {found.backend} lists what each option takes",
        )
    dotted = {k: v for k, v in changes if k not in own}
    return _with_keys(result, dotted) if dotted else result


def _with_keys(found: Deployment, changes: dict[str, str]) -> Deployment:
    """The deployment with dotted keys changed, validated once: keys may depend on each other."""
    from pydantic import ValidationError

    from console.planning.deployment import Deployment, problems, resolve

    data: dict[str, Any] = found.model_dump(mode="python")
    for key, value in changes.items():
        section = data
        *parents, last = key.split(".")
        for part in parents:
            inner = section.setdefault(part, {})
            if not isinstance(inner, dict):
                raise UsageError(f"--set {clean(key)}: {clean(part)} is not a section")
            section = inner
        section[last] = value.split(",") if isinstance(section.get(last), tuple | list) else value
    try:
        return resolve(Deployment.model_validate(data), Path.cwd())
    except ValidationError as error:
        words = " ".join(f"--set {clean(key)}={clean(value)}" for key, value in changes.items())
        raise UsageError(f"{words} is not valid", why="; ".join(problems(error, ""))) from error


def _accepting(found: Deployment, names: list[str]) -> Deployment:
    if not names:
        return found
    accept = tuple(dict.fromkeys((*found.checks.accept, *names)))
    checks = found.checks.model_copy(update={"accept": accept})
    return found.model_copy(update={"checks": checks})


def run_of(on: Desk, words: str) -> RunView:
    """A run by its id, else the newest run of the deployment with this name."""
    from console.planning.deployment import NAME

    if not NAME.match(words) or ".." in words:
        raise UsageError(f"{clean(words)!r} is neither a run's id nor a deployment's name")
    runs = on.runs()
    for run in runs:
        if words in (run.id, run.deployment):
            return run
    raise DeckError(
        f"there is no run {clean(words)!r}, and no deployment of this name has one",
        fix="tritondeck runs lists them",
    )
