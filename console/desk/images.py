"""What an image really carries, asked inside it once and kept by the image's id.

Nothing is pulled for that: of an image that is not here the release table speaks. The probe is the
worker that later starts the server there, run with ``--check`` in a container without a network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console import storage
from console.desk.server_probe import told, worker
from console.facts import DeckError, ToolFacts
from console.settings import Settings, private_folder

if TYPE_CHECKING:
    from console.planning.server import ServerSection
    from console.runtimes.engine import Engine

_INSIDE = "/tritondeck/triton_server.py"
_PATIENCE = 120.0


def asked(settings: Settings, server: ServerSection, expected: ToolFacts) -> ToolFacts:
    """`expected` with what the image says, where an engine answers and has it.

    That no engine answers is another check's to say; the plan is then made from the data.
    """
    from console.runtimes.engine import Unreachable
    from console.runtimes.engines import engine
    from console.triton.container import InContainer

    wanted = InContainer().published(server).tag
    try:
        chosen = engine(server.engine)
        found = chosen.image(wanted)
    except Unreachable:
        return expected
    if found is None:
        return expected
    verdict = _kept(settings, found.id) or _ask(settings, chosen, wanted, found.id)
    facts = told(verdict, expected, wanted)
    if facts.triton_problem:
        return facts
    packages = verdict.get("facts", {}).get("packages", {})
    return replace(facts, server_packages={str(k): str(v) for k, v in packages.items()})


def _place(settings: Settings, identity: str) -> Path:
    return settings.folders.cache / "images" / f"{identity.removeprefix('sha256:')}.json"


def _kept(settings: Settings, identity: str) -> dict[str, Any] | None:
    return storage.read_json(_place(settings, identity))


def _ask(settings: Settings, engine: Engine, image: str, identity: str) -> Mapping[str, Any]:
    """Run the worker's check in the image; an answer, good or bad, is kept by the image's id."""
    from console.planning.containers import filled, run_words
    from console.planning.plan import Command, Container, Mount

    command = Command(
        argv=("python3", _INSIDE, "--check", "--program=tritonserver"),
        runtime="image:server",
        container=Container(
            mounts=(Mount(source=str(worker()), target=_INSIDE, read_only=True),), network="none"
        ),
    )
    caller = engine.caller_words(engine.facts())
    argv = filled(run_words(command), engine.name, {"image_server": image}, caller, "")
    done = engine.ask("run", "--rm", *argv, timeout=_PATIENCE)
    try:
        # The entry point of NVIDIA's images prints a banner first.
        verdict: dict[str, Any] = json.loads(done.out[max(0, done.out.find("\n{")) :])
    except ValueError:
        raise DeckError(
            f"the image {image} could not be asked what it carries",
            why=(done.err or done.out).strip().rpartition("\n")[2] or f"exit code {done.code}",
            fix="choose an image that has tritonserver and python3",
        ) from None
    private_folder(settings.folders.cache)
    private_folder(_place(settings, identity).parent)
    storage.write_json(_place(settings, identity), verdict)
    return verdict
