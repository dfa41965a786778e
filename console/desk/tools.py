"""Use case: what the tools that a deployment needs really are, asked of themselves.

Environments, and the server of the chosen launcher: a local program and an image are asked by the
worker that later starts them (`backends/workers/triton_server.py --check`), an attached server over
HTTP. Answers are kept as long as what was asked has not changed, for a form asks at each key press.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.desk.asking import Answers
from console.desk.server_probe import told, worker
from console.facts import DeckError, Endpoint, EnvironmentFacts, ToolFacts
from console.settings import Settings
from console.text import clean

if TYPE_CHECKING:
    from console.planning.deployment import Deployment
    from console.planning.plan import EnvironmentSpec
    from console.planning.server import ServerSection
    from console.runtimes.environments import Environments

INSTALLED = Path("/opt/tritonserver/bin/tritonserver")
"""Where NVIDIA's images have it, which may be where we are ourselves."""

_PATIENCE = 60.0


def tools(
    settings: Settings,
    deployment: Deployment,
    needs: tuple[EnvironmentSpec, ...],
    *,
    triton: bool = True,
    scripts: tuple[str, ...] = (),
) -> ToolFacts:
    """What is installed where it is installed already; what data expects where it is not. Without
    `triton` only the environments are asked: the route has a server of its own. `scripts` are
    upstream's own, which are read and never run."""
    from console.runtimes.environments import Environments
    from console.triton.launchers import launcher

    environments = Environments(settings)
    ready = {spec.name: _facts(environments, spec) for spec in needs if environments.ready(spec)}
    if not triton:
        return ToolFacts(environments=ready, sources=_sources(scripts, ready))
    expected = replace(
        launcher(deployment).expected(deployment),
        environments=ready,
        sources=_sources(scripts, ready),
    )
    server = deployment.server
    if server.launcher == "local":
        return _local(server, expected)
    if server.launcher == "attach":
        return _lately(server, expected, _attached)
    if server.launcher == "container":
        from console.desk import images

        return _lately(server, expected, partial(images.asked, settings))
    return expected


MAX_SCRIPT = 1 << 20
"""Bytes; upstream's longest has 40 kB."""


def _sources(scripts: tuple[str, ...], ready: Mapping[str, EnvironmentFacts]) -> dict[str, str]:
    """The texts that are there and are text; what is not is told when the plan runs."""
    found = {}
    for path in scripts:
        try:
            with _place(path, ready).open("rb") as file:
                found[path] = file.read(MAX_SCRIPT).decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
    return found


def _place(path: str, ready: Mapping[str, EnvironmentFacts]) -> Path:
    """`path`, or the file among an environment's packages that ``environment:NAME/…`` names."""
    head, slash, rest = path.partition("/")
    facts = ready.get(head.removeprefix("environment:"))
    if not head.startswith("environment:") or not slash or facts is None:
        return Path(path)
    minor = ".".join(facts.python_version.split(".")[:2])
    return facts.python.parent.parent / "lib" / f"python{minor}" / "site-packages" / rest


_SERVERS: Answers[ServerSection, ToolFacts] = Answers(fresh=3.0)
"""An engine's or a distant server's answer holds for a moment: a form asks at each key press."""


def _lately(
    server: ServerSection,
    expected: ToolFacts,
    ask: Callable[[ServerSection, ToolFacts], ToolFacts],
) -> ToolFacts:
    """What `ask` tells, or told of the same settings a moment ago."""
    facts = _SERVERS.get(server, partial(ask, server, expected))
    return replace(facts, environments=expected.environments, sources=expected.sources)


# ---------------------------------------------------------------------------- environments

_FACTS: Answers[tuple[Path, int], EnvironmentFacts] = Answers()
"""What environments answered. Asking one takes 0.2 s."""


def _facts(environments: Environments, spec: EnvironmentSpec) -> EnvironmentFacts:
    """Ask the environment unless nothing was installed or removed since it was asked."""
    folder = environments.folder(spec)
    changed = max(
        (p.stat().st_mtime_ns for p in folder.glob("lib/python3*/site-packages")), default=0
    )
    return _FACTS.get((folder, changed), partial(environments.facts, spec))


# ---------------------------------------------------------------------------- a local program

_PROGRAMS: Answers[tuple[str, str, int], Mapping[str, Any]] = Answers()


def program(server: ServerSection) -> str:
    """The local server's program as an absolute path; empty when there is none."""
    wanted = server.path or "tritonserver"
    found = shutil.which(wanted)
    if found is None and not server.path and INSTALLED.is_file():
        found = str(INSTALLED)
    return str(Path(found).absolute()) if found else ""


def _local(server: ServerSection, expected: ToolFacts) -> ToolFacts:
    place = program(server)
    if not place:
        wanted = clean(server.path) or "tritonserver on PATH or in /opt/tritonserver"
        return replace(expected, triton_problem=f"there is no {wanted}")
    key = (place, server.backend_directory, Path(place).stat().st_mtime_ns)
    try:
        said = _PROGRAMS.get(key, partial(_asked, place, server.backend_directory))
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        why = f"{place} could not be asked: {clean(str(error))}"
        return replace(expected, triton_problem=clean(why))
    return told(said, expected, place)


def _asked(place: str, backend_directory: str) -> Mapping[str, Any]:
    """The worker's answer; what keeps it from one (a busy machine) is raised, and so not kept."""
    from console.runtimes.host import child_environment

    words = [sys.executable, str(worker()), "--check", f"--program={place}"]
    if backend_directory:
        words.append(f"--backend-directory={backend_directory}")
    done = subprocess.run(
        words,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    said: Mapping[str, Any] = json.loads(done.stdout)
    return said


# ---------------------------------------------------------------------------- an attached server


def attached_endpoint(server: ServerSection) -> Endpoint:
    """Where an attached server answers, and how it is asked."""
    return Endpoint(
        url=server.url.rstrip("/"),
        grpc_url=server.grpc_url,
        metrics_url=server.metrics_url,
        token_file=Path(server.token_file) if server.token_file else None,
        token_env=server.token_env,
        token_header=server.token_header,
        ca_file=Path(server.ca_file) if server.ca_file else None,
        manage=server.manage,
    )


def _attached(server: ServerSection, expected: ToolFacts) -> ToolFacts:
    """Version, and the Triton backends of the models that it serves: others do not show."""
    from console.triton import health, inference

    if not server.url:
        return expected
    endpoint = attached_endpoint(server)
    found = health.probe(endpoint)
    if not found.live:
        return replace(expected, triton_problem=clean(found.problem) or "it is not live")
    backends = set()
    for model in found.models:
        if model.ready:
            try:
                backends.add(inference.metadata(endpoint, model.name).platform)
            except DeckError:
                continue  # a model may go while it is asked; its backend is only a hint
    return replace(
        expected,
        triton_version=found.version,
        triton_backends=frozenset(backends | {"ensemble"}) if backends else frozenset(),
        triton_program=endpoint.url,
    )
