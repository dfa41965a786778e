"""The small language model in PyTorch through real PyTriton: from the command line, and on the screen."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from console import settings as settings_module
from console.app import TritonDeckApp
from console.desk.desk import Desk
from console.facts import Endpoint
from console.generation.client import complete
from console.prompts import TextRequest, Turn
from console.triton import health
from console.triton.plain_http import request
from screens.build import BuildScreen
from screens.check import CheckScreen
from screens.checkpoint import CheckpointScreen
from screens.configure import ConfigureScreen
from screens.serve import ServeScreen
from screens.try_ import TryScreen
from screens.widgets.options import OptionsForm
from screens.widgets.table import Listing
from tests.screens.conftest import until
from tests.screens.steps import listed, on, shown
from tests.support import Operator, free_ports, managed, until_gone

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
WORKER = ROOT / "backends" / "workers" / "in_framework.py"
NAME = "facts"
COUNTED = "one two three four five six seven eight nine ten"


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    managed("inframework")
    person = Operator(tmp_path_factory.mktemp("in-framework"))
    yield person
    person.does("stop", NAME, code=None)
    until_gone(str(person.home))


@pytest.fixture(scope="module")
def served(operator: Operator) -> Operator:
    """Deployed on the screen, from choosing the folder to the verified answer."""
    asyncio.run(build(operator))
    return operator


async def sees(pilot: Pilot[None], selector: str, text: str, seconds: float = 60) -> None:
    await until(pilot, lambda: text in shown(pilot.app, selector), seconds)  # type: ignore[arg-type]


def console(operator: Operator) -> TritonDeckApp:
    return TritonDeckApp(Desk(settings_module.load(operator.env)), start=str(EXAMPLES))


async def build(operator: Operator) -> None:
    app = console(operator)
    async with app.run_test(size=(160, 48)) as pilot:
        home = app.screen
        await until(pilot, lambda: home.query_one("#deployments").has_class("-empty"))
        await pilot.press("n")
        await on(pilot, CheckpointScreen)
        (await listed(pilot)).choose(str(EXAMPLES / NAME))
        await sees(pilot, "#detail", "✓ in-framework")
        await pilot.press("enter")
        await on(pilot, ConfigureScreen)
        await listed(pilot)
        app.screen.query_one("#routes", Listing).table.choose("in-framework")
        await until(pilot, lambda: _flow(pilot).backend == "in-framework", 30)
        await until(pilot, lambda: app.screen.query("#option-max_batch_size"), 30)
        app.screen.query_one(OptionsForm).focus_option("max_batch_size")
        for option in ("http_port", "grpc_port", "metrics_port"):
            app.screen.query_one(f"#option-server-{option}").query_one(Input).value = "0"
        await until(pilot, lambda: _flow(pilot).server.metrics_port == 0, 30)
        await pilot.press("ctrl+n")
        await on(pilot, CheckScreen)
        await sees(pilot, "#check-title", "nothing blocks", 60)
        await pilot.press("enter")
        await on(pilot, BuildScreen)
        await sees(pilot, "#build-title", "verified", 240)


def _flow(pilot: Pilot[None]):  # type: ignore[no-untyped-def]
    return pilot.app.screen.flow.deployment  # type: ignore[attr-defined]


async def test_a_question_on_the_screen_has_the_right_answer(served: Operator) -> None:
    app = console(served)
    async with app.run_test(size=(160, 48)) as pilot:
        await listed(pilot)
        await sees(pilot, "#home-detail", "verified")
        await pilot.press("enter")
        await on(pilot, ServeScreen)
        await listed(pilot)
        await pilot.press("7")
        await on(pilot, TryScreen)
        await until(pilot, lambda: isinstance(app.focused, Input), 30)
        app.focused.value = "What is the color of a banana?"  # type: ignore[union-attr]
        await pilot.press("enter")
        await sees(pilot, "#answers", "yellow", 60)


def test_the_command_line_has_the_same_answers_as_they_are_made(served: Operator) -> None:
    told = served.json("query", NAME, "--text", "Count from one to ten.")
    assert told["answer"] == COUNTED
    assert told["finish_reason"] == "stop" and told["first_text"] < told["latency"]
    assert served.does("query", NAME, "--text", "What is 3 plus 4?").strip() == "7"


def test_health_is_where_upstream_has_it(served: Operator) -> None:
    (service,) = served.json("services")["services"]
    place = Endpoint(service["endpoint"]["url"], "openai")
    assert request(place, "/v1/health").json()["status"] == "ok"
    assert request(place, "/health").status == 404


@pytest.fixture
def talkative(tmp_path: Path) -> Iterator[tuple[Endpoint, psutil.Process]]:
    """The worker by itself, with a model that knows no end and has room for a million tokens."""
    folder = tmp_path / "model"
    shutil.copytree(EXAMPLES / NAME, folder)
    for name in ("config.json", "generation_config.json"):
        told = json.loads((folder / name).read_text())
        told |= {"eos_token_id": None, "max_position_embeddings": 1_000_000}
        (folder / name).write_text(json.dumps(told))
    ports = free_ports(4)
    words = [str(managed("inframework") / "bin" / "python"), str(WORKER), "--device=cpu"]
    words += [f"--model={folder}", f"--name={NAME}", "--dtype=float32"]
    words += [
        f"--{name}={port}"
        for name, port in zip(
            ("port", "triton-port", "grpc-port", "metrics-port"), ports, strict=True
        )
    ]
    place = Endpoint(f"http://127.0.0.1:{ports[0]}", "openai")
    env = {"PATH": os.defpath, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=env)
    try:
        health.wait_live(place, 120, alive=lambda: process.poll() is None)
        yield place, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def test_an_answer_whose_client_has_gone_is_generated_no_further(
    talkative: tuple[Endpoint, psutil.Process],
) -> None:
    """It would go on for hours at the whole of a core; then the process has nothing to do."""
    place, process = talkative
    asked = TextRequest(
        model=NAME,
        turns=(Turn("user", "Count from one to ten."),),
        max_tokens=900_000,
    )
    heard: list[str] = []
    told = complete(place, asked, on_text=heard.append, cancelled=lambda: bool(heard))
    assert told.finish_reason == "cancelled"

    def busy() -> float:
        before = sum(process.cpu_times()[:2])
        time.sleep(0.5)
        return sum(process.cpu_times()[:2]) - before

    deadline = time.monotonic() + 30
    while busy() > 0.1:
        assert time.monotonic() < deadline


def test_nothing_listens_beyond_loopback(served: Operator) -> None:
    """Front, HTTP, gRPC and metrics; upstream's script binds the last two to every address."""
    (service,) = served.json("services")["services"]
    first = psutil.Process(service["pid"])
    found = {
        (one.laddr.ip, one.laddr.port)
        for process in (first, *first.children(recursive=True))
        for one in process.net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    }
    assert len({port for _, port in found}) >= 4
    # gRPC writes the same address in IPv6.
    assert {address.removeprefix("::ffff:") for address, _ in found} == {"127.0.0.1"}
