"""Use case: the saved deployments for a first screen that does not wait.

Reads files and runs, which needs no model of pydantic's. Whether every value in a file is right,
and what servers say, is `console.desk.saved.deployments`.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.desk.views import DeploymentView
from console.settings import Settings
from console.text import clean

if TYPE_CHECKING:
    from console.runs.model import RunView


def glance(settings: Settings) -> tuple[DeploymentView, ...]:
    """Every saved deployment with what its file says and its newest run, the most recent first.

    Not `seen` where there are services: one of them may be its server.
    """
    places = settings.folders
    runs: dict[str, RunView] = {}
    seen = not _entries(places.services)
    if _entries(places.runs):
        from console.runs import views

        try:
            for run in views.every(places.runs):
                runs.setdefault(run.deployment, run)
        except OSError:
            seen = False  # `deployments` says why
    found = []
    for path in sorted(places.deployments.glob("*.toml")):
        view = _view(path, runs.get(path.stem), seen=seen)
        started = view.run.started if view.run else 0.0
        found.append((max(_saved(path), started), view))
    return tuple(view for _, view in sorted(found, key=lambda f: -f[0]))


def _entries(folder: Path) -> bool:
    return any(folder.glob("[!.]*"))


def _view(path: Path, run: RunView | None, *, seen: bool) -> DeploymentView:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        raw, seen = {}, False
    checkpoints: Any = raw.get("checkpoints")
    named = checkpoints if isinstance(checkpoints, dict) else {}
    checkpoint = str(named.get("model") or next(iter(named.values()), ""))
    backend = clean(str(raw.get("backend", "")))
    return DeploymentView(clean(path.stem), path, clean(checkpoint), backend, run, None, seen=seen)


def _saved(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0  # it went away between listing and looking
