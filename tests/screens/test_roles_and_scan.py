"""The Checkpoint screen on real files: a search below a folder, and one checkpoint a role."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from console.app import TritonDeckApp
from console.checkpoints.model import Checkpoint
from console.desk.desk import Desk
from console.settings import Settings
from screens.check import CheckScreen
from screens.checkpoint import CheckpointScreen
from screens.configure import ConfigureScreen
from screens.error import ErrorScreen
from screens.widgets.options import OptionsForm
from screens.widgets.table import Listing
from tests.screens.conftest import make_app, until
from tests.screens.steps import filtered, listed, on, shown
from tests.support import make_doubler

SIZE = (140, 40)
PAIR = '''
from backends.base import Role
from backends.onnx import OnnxBackend
from console.facts import Level, Verdict

class Pair(OnnxBackend):
    """Takes two graphs, and knows them by their names."""
    name = "pair"
    title = "A visual and a language graph"
    roles = (Role("visual", "Image graph"), Role("language", "Language graph"))

    def accepts(self, checkpoints):
        for role, checkpoint in checkpoints.items():
            if not checkpoint.path.name.startswith(role):
                return Verdict("route", Level.FAIL, f"{checkpoint.path.name} is no {role} graph")
        return Verdict("route", Level.PASS, f"{len(checkpoints)} of 2 graphs")

    def suggest(self, checkpoints, host):
        return super().suggest({"model": next(iter(checkpoints.values()))}, host)

    def checks(self, deployment, checkpoints, host, tools):
        return super().checks(deployment, {"model": checkpoints["visual"]}, host, tools)

    def memory(self, deployment, checkpoints, host):
        return None

    def plan(self, deployment, checkpoints, host, tools):
        made = super().plan(deployment, {"model": checkpoints["visual"]}, host, tools)
        note = f"beside {checkpoints['language'].path.name}"
        return made.model_copy(update={"notes": (*made.notes, note)})
'''


@pytest.fixture
def desk(settings: Settings) -> Desk:
    return Desk(settings)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three graphs in three folders, and a few thousand files that are none."""
    root = tmp_path / "models"
    for number, name in enumerate(("visual", "language", "other")):
        folder = root / f"folder-{number}" / "deep"
        folder.mkdir(parents=True)
        make_doubler(folder).rename(folder / f"{name}.onnx")
    many = root / "folder-1" / "many"
    many.mkdir()
    for number in range(2500):
        (many / f"{number}.txt").touch()
    return root


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A third party's backend with two roles, installed as its entry point."""
    site = tmp_path / "site"
    info = site / "acme_deck-2.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-deck\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[tritondeck.backends]\npair = acme_pair:Pair\n")
    (site / "acme_pair.py").write_text(PAIR)
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("acme_pair", None)


async def at_checkpoints(pilot: Pilot[None]) -> CheckpointScreen:
    await until(pilot, lambda: pilot.app.screen.query_one(Listing).has_class("-empty"))
    await pilot.press("n")
    screen: CheckpointScreen = await on(pilot, CheckpointScreen)
    await listed(pilot)
    return screen


def note(pilot: Pilot[None]) -> str:
    return shown(pilot.app, "#checkpoint-note")  # type: ignore[arg-type]


async def searched(pilot: Pilot[None]) -> None:
    await pilot.press("s")
    await until(
        pilot, lambda: "3 checkpoints below" in note(pilot) and "searching" not in note(pilot)
    )


async def test_a_search_that_goes_on_reads_the_chosen_file_once(
    desk: Desk, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, reads, whole = threading.Event(), [], desk.inspect

    def slow(path: Path) -> Checkpoint:
        reads.append(path)
        gate.wait(60)
        return whole(path)

    app = make_app(desk, start=str(tree))
    async with app.run_test(size=SIZE) as pilot:
        screen = await at_checkpoints(pilot)
        monkeypatch.setattr(desk, "inspect", slow)
        await searched(pilot)
        await until(pilot, lambda: reads)
        assert screen.scanning is not None
        for _ in range(3):
            screen.show_scan(screen.scanning)
            await pilot.pause()
        assert len(reads) == 1
        gate.set()
        await until(pilot, lambda: "route" in shown(app, "#detail"))


async def test_a_search_finds_what_lies_below_and_counts(desk: Desk, tree: Path) -> None:
    app = make_app(desk, start=str(tree))
    async with app.run_test(size=SIZE) as pilot:
        await at_checkpoints(pilot)
        await searched(pilot)
        assert "2 510 entries" in note(pilot)
        table = app.screen.query_one(Listing).table
        assert str(table.get_row_at(0)[0]).strip() == "folder-0/deep/visual.onnx"
        await filtered(pilot, "lang")
        await until(pilot, lambda: table.row_count == 1)
        await pilot.press("enter")
        await until(pilot, lambda: app.focused is table)
        await pilot.press("enter")
        await on(pilot, ConfigureScreen)
        assert app.screen.flow.checkpoint.path.name == "language.onnx"  # type: ignore[attr-defined]


async def test_escape_shows_the_folder_again(desk: Desk, tree: Path) -> None:
    app = make_app(desk, start=str(tree))
    async with app.run_test(size=SIZE) as pilot:
        await at_checkpoints(pilot)
        await searched(pilot)
        await pilot.press("escape")
        table = app.screen.query_one(Listing).table
        await until(pilot, lambda: Path(table.chosen).name.startswith("folder-"))
        assert note(pilot) == ""


async def test_escape_ends_a_search_and_keeps_what_it_found(
    desk: Desk, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, real = threading.Event(), desk.scan

    def slow(folder: Path, progress: Any, cancelled: Any) -> Iterator[Checkpoint]:
        for number, checkpoint in enumerate(real(folder, progress, cancelled)):
            yield checkpoint
            if number == 0:
                progress(1)
                going.wait(60)  # until the search has been stopped

    monkeypatch.setattr(desk, "scan", slow)
    app = make_app(desk, start=str(tree))
    async with app.run_test(size=SIZE) as pilot:
        await at_checkpoints(pilot)
        await pilot.press("s")
        await until(pilot, lambda: "searching" in note(pilot))
        await pilot.press("escape")
        going.set()
        await until(pilot, lambda: "stopped" in note(pilot))
        assert app.screen.query_one(Listing).table.row_count < 3


async def to_pair(pilot: Pilot[None], tree: Path) -> None:
    """From Home to the form of the route of two, with its first checkpoint."""
    await at_checkpoints(pilot)
    await searched(pilot)
    (await listed(pilot)).choose(str(tree / "folder-0" / "deep" / "visual.onnx"))
    await until(pilot, lambda: "pair" in shown(pilot.app, "#detail"))  # type: ignore[arg-type]
    assert "as visual" in shown(pilot.app, "#detail")  # type: ignore[arg-type]
    await pilot.press("enter")
    await on(pilot, ConfigureScreen)
    table = await listed(pilot)
    table.choose("pair")
    await until(
        pilot,
        lambda: (
            pilot.app.screen.flow.deployment  # type: ignore[attr-defined]
            and pilot.app.screen.flow.deployment.backend == "pair"  # type: ignore[attr-defined]
            and pilot.app.screen.query("#option-checkpoints-language")
        ),
    )


@pytest.mark.usefixtures("pair")
async def test_each_role_of_a_route_has_a_picker(desk: Desk, tree: Path) -> None:
    app = make_app(desk, start=str(tree))
    async with app.run_test(size=SIZE) as pilot:
        await to_pair(pilot, tree)
        language = app.screen.query_one("#option-checkpoints-language")
        language.query_one(Input).focus()
        await pilot.press("ctrl+f")
        await on(pilot, CheckpointScreen)
        await listed(pilot)
        assert "looking for language of visual" in note(pilot)
        await searched(pilot)
        table = app.screen.query_one(Listing).table
        table.choose(str(tree / "folder-2" / "deep" / "other.onnx"))
        await until(pilot, lambda: "✕ pair" in shown(app, "#detail"))
        table.choose(str(tree / "folder-1" / "deep" / "language.onnx"))
        await until(pilot, lambda: "✓ pair" in shown(app, "#detail"))
        await pilot.press("enter")
        await on(pilot, ConfigureScreen)
        chosen = app.screen.flow.deployment.checkpoints  # type: ignore[attr-defined]
        assert {role: Path(path).name for role, path in chosen.items()} == {
            "visual": "visual.onnx",
            "language": "language.onnx",
        }
        await until(pilot, lambda: "2 of 2 graphs" in shown(app, "#route-note"))


@pytest.mark.usefixtures("pair")
async def test_a_role_without_a_checkpoint_is_a_check_that_leads_to_its_picker(
    desk: Desk, tree: Path
) -> None:
    app = make_app(desk, start=str(tree))
    async with app.run_test(size=SIZE) as pilot:
        await to_pair(pilot, tree)
        await pilot.press("ctrl+n")
        await on(pilot, CheckScreen)
        await until(pilot, lambda: "Language graph" in shown(app, "#check-detail"))
        await pilot.press("enter")
        await on(pilot, CheckpointScreen)
        await until(pilot, lambda: "looking for language" in note(pilot))
        await pilot.press("escape")
        await on(pilot, ConfigureScreen)


@pytest.mark.usefixtures("pair")
async def test_a_role_can_be_typed_in_the_form(desk: Desk, tree: Path) -> None:
    app: TritonDeckApp = make_app(desk, start=str(tree))
    async with app.run_test(size=SIZE) as pilot:
        await to_pair(pilot, tree)
        path = tree / "folder-1" / "deep" / "language.onnx"
        app.screen.query_one("#option-checkpoints-language").query_one(Input).value = str(path)
        await until(
            pilot,
            lambda: app.screen.flow.deployment.checkpoints.get("language") == str(path),  # type: ignore[attr-defined]
        )
        assert app.screen.query(OptionsForm)
        assert not isinstance(app.screen, ErrorScreen)
