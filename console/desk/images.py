"""What an image really carries, asked inside it once and kept by the image's id.

Nothing is pulled for that: of an image that is not here the release table speaks. The probe is the
worker that later starts the server there, run with ``--check`` in a container without a network.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console import storage
from console.facts import ToolFacts
from console.settings import Settings, private_folder
from console.text import clean

if TYPE_CHECKING:
    from console.planning.server import ServerSection

_INSIDE = "/tritondeck/triton_server.py"
_PATIENCE = 120.0


def asked(settings: Settings, server: ServerSection, expected: ToolFacts) -> ToolFacts:
    """`expected` with what the image says, where the engine has it."""
    from console.desk.tools import told
    from console.triton.releases import reference

    wanted = reference(server.image)
    if server.image_digest:
        wanted = f"{wanted.partition('@')[0]}@{server.image_digest}"
    engine = _engine(server.engine)
    identity = _identity(engine, wanted) if engine else ""
    if not identity:
        return expected
    verdict = _kept(settings, identity) or _ask(settings, engine, wanted, identity)
    facts = told(verdict, expected, wanted)
    if facts.triton_problem:
        return facts
    packages = verdict.get("facts", {}).get("packages", {})
    return replace(facts, server_packages={str(k): str(v) for k, v in packages.items()})


def _engine(wanted: str) -> str:
    """The engine that answers; empty when none does."""
    names = ("docker", "podman") if wanted == "auto" else (wanted,)
    return next(
        (
            name
            for name in names
            if _told(name, "version", "--format", "{{.Server.Version}}")
            or _told(name, "version", "--format", "{{.Version}}")
        ),
        "",
    )


def _identity(engine: str, image: str) -> str:
    """The id of the image's content; empty when the engine does not have it."""
    return _told(engine, "image", "inspect", "--format", "{{.Id}}", image).removeprefix("sha256:")


def _told(*argv: str) -> str:
    """The first line that a command prints; empty when it fails or is not there."""
    from console.runtimes.host import child_environment

    try:
        done = subprocess.run(
            argv, env=child_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


def _place(settings: Settings, identity: str) -> Path:
    return settings.folders.cache / "images" / f"{identity[:64]}.json"


def _kept(settings: Settings, identity: str) -> dict[str, Any] | None:
    return storage.read_json(_place(settings, identity))


def _ask(settings: Settings, engine: str, image: str, identity: str) -> Mapping[str, Any]:
    """Run the worker's check in the image; an answer, good or bad, is kept by the image's id."""
    from console.desk.tools import worker
    from console.planning import containers
    from console.planning.plan import Command, Container, Mount

    container = Container(
        mounts=(Mount(source=str(worker()), target=_INSIDE, read_only=True),), network="none"
    )
    command = Command(
        argv=("python3", _INSIDE, "--check", "--program=tritonserver"),
        runtime="image:server",
        container=container,
    )
    words = containers.run_words(command)
    name = "podman" if engine == "podman" else "docker"
    argv = containers.filled(words, name, {"image_server": image}, (), "")
    try:
        done = subprocess.run(
            [engine, "run", "--rm", *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        # The entry point of NVIDIA's images prints a banner first.
        verdict: dict[str, Any] = json.loads(done.stdout[max(0, done.stdout.find("\n{")) :])
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"problems": [{"summary": f"the image could not be asked: {clean(str(error))}"}]}
    private_folder(settings.folders.cache)
    private_folder(_place(settings, identity).parent)
    storage.write_json(_place(settings, identity), verdict)
    return verdict
