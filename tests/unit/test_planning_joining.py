"""A plan that goes into a running server: what it finds there, and what stays its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from console import settings
from console.desk.desk import Desk
from console.facts import UsageError
from console.planning.deployment import Deployment
from console.planning.plan import JoinStep, ServiceStep
from tests import shell

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits" / "deployment.toml"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(settings.load({"TRITONDECK_HOME": str(tmp_path)}))


def named(desk: Desk, name: str, **server: Any) -> Deployment:
    made = desk.open(str(DIGITS))
    changed = made.server.model_copy(update=server)
    return made.model_copy(update={"name": name, "server": changed})


def test_the_server_is_found_before_anything_is_written(desk: Desk):
    desk.save(named(desk, "host"))
    plan = desk.plan(named(desk, "guest", join="host"))
    first, *rest = plan.steps
    assert isinstance(first, JoinStep) and first.deployment == "host"
    assert not any(isinstance(step, ServiceStep) for step in rest)
    assert [step.id for step in rest][-3:] == ["load", "verify", "switch"]


def test_ports_and_repository_are_the_servers_and_the_version_is_its_own(desk: Desk):
    desk.save(named(desk, "host"))
    plan = desk.plan(named(desk, "guest", join="host"))
    kinds = {variable.name: variable.kind for variable in plan.variables}
    assert {name for name, kind in kinds.items() if kind == "joined"} == {
        "http_port",
        "grpc_port",
        "metrics_port",
        "repository",
    }
    assert kinds["version"] == "version"


def test_its_script_asks_for_what_it_cannot_know(desk: Desk):
    desk.save(named(desk, "host"))
    text = desk.script(named(desk, "guest", join="host"))
    shell.clean(text)
    ran = subprocess.run(
        ["bash", "-s"], input=text, env={"PATH": os.environ["PATH"]}, cwd=desk.settings.folders.state.parent,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode != 0
    assert "set HTTP_PORT: of the server of host: Triton's HTTP port" in ran.stderr


def test_a_server_that_loads_by_itself_takes_no_guests(desk: Desk):
    desk.save(named(desk, "host", control="none"))
    with pytest.raises(UsageError, match="cannot go into the server of host"):
        desk.plan(named(desk, "guest", join="host"))


def test_a_guest_is_no_host_and_nobody_joins_itself(desk: Desk):
    desk.save(named(desk, "host"))
    desk.save(named(desk, "guest", join="host"))
    with pytest.raises(UsageError, match="no server of its own"):
        desk.plan(named(desk, "third", join="guest"))
    with pytest.raises(UsageError, match="no server of its own"):
        desk.plan(named(desk, "host", join="host"))


def test_a_host_that_is_not_saved_is_named(desk: Desk):
    with pytest.raises(UsageError, match="no deployment called 'host'"):
        desk.plan(named(desk, "guest", join="host"))
