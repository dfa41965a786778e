"""The first half of the path against the real desk and real files: Home, Checkpoint, Configure, Check."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from console.app import TritonDeckApp
from console.desk.desk import Desk
from console.settings import Settings
from screens.check import CheckScreen
from screens.checkpoint import CheckpointScreen
from screens.configure import ConfigureScreen
from screens.widgets.options import OptionRow, OptionsForm
from screens.widgets.table import Listing
from screens.widgets.textview import TextView
from tests.screens.conftest import make_app, until
from tests.screens.steps import listed, on, shown

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
SIZE = (140, 40)


@pytest.fixture
def real(settings: Settings) -> Desk:
    return Desk(settings)


async def to_form(pilot: Pilot[None]) -> None:
    await until(pilot, lambda: pilot.app.screen.query_one(Listing).has_class("-empty"))
    await pilot.press("n")
    await on(pilot, CheckpointScreen)
    table = await listed(pilot)
    table.choose(str(EXAMPLE / "digits.nemo"))
    await until(pilot, lambda: "✓ onnx" in shown(pilot.app, "#detail"))  # type: ignore[arg-type]
    await pilot.press("enter")
    await on(pilot, ConfigureScreen)
    await until(pilot, lambda: pilot.app.screen.query(OptionsForm))


def app_on(desk: Desk) -> TritonDeckApp:
    return make_app(desk, start=str(EXAMPLE))


async def test_a_nemo_checkpoint_is_known_by_its_facts_and_route(real: Desk) -> None:
    app = app_on(real)
    async with app.run_test(size=SIZE) as pilot:
        await to_form(pilot)
        fields = {row.option.name for row in app.screen.query(OptionRow)}
        assert fields > {f.name for f in real.option_fields("onnx")}
        assert {"server.http_port", "environments.nemo.use"} <= fields


async def test_the_script_follows_a_changed_option(real: Desk) -> None:
    app = app_on(real)
    async with app.run_test(size=SIZE) as pilot:
        await to_form(pilot)
        script = app.screen.query_one(TextView)
        await until(pilot, lambda: "tritonserver" in script.text or "pip" in script.text)
        before = script.text
        app.screen.query_one("#option-max_batch_size").query_one(Input).value = "3"
        await until(pilot, lambda: script.text != before)


async def test_an_invalid_option_is_told_by_the_real_backend(real: Desk) -> None:
    app = app_on(real)
    async with app.run_test(size=SIZE) as pilot:
        await to_form(pilot)
        row = app.screen.query_one("#option-max_batch_size", OptionRow)
        row.query_one(Input).value = "many"
        await until(pilot, lambda: "✕" in row.note.plain)


async def test_checks_of_the_real_host_are_listed(real: Desk) -> None:
    app = app_on(real)
    async with app.run_test(size=SIZE) as pilot:
        await to_form(pilot)
        await pilot.press("ctrl+n")
        await on(pilot, CheckScreen)
        await until(pilot, lambda: " checks in " in shown(app, "#check-title"))
        assert "disk" in " ".join(app.screen._verdicts)  # type: ignore[attr-defined]


async def test_a_saved_deployment_appears_on_home(real: Desk) -> None:
    real.save(real.draft(EXAMPLE / "digits.nemo", "onnx", "spoken"))
    app = app_on(real)
    async with app.run_test(size=SIZE) as pilot:
        table = await listed(pilot)
        assert table.chosen == "spoken"
        assert "Not built yet" in shown(app, "#home-detail")
        await pilot.press("enter")
        await on(pilot, CheckScreen)


async def test_the_doctor_looks_at_this_machine(real: Desk) -> None:
    app = app_on(real)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.screen.query_one(Listing).has_class("-empty"))
        await pilot.press("d")
        await on(pilot, CheckScreen)
        await until(pilot, lambda: " checks in " in shown(app, "#check-title"))
        assert "this machine" in shown(app, "#check-title")


async def test_a_path_that_is_no_checkpoint_is_an_error_in_words(
    real: Desk, tmp_path: Path
) -> None:
    from screens.error import ErrorScreen

    (tmp_path / "notes.txt").write_text("nothing")
    app = app_on(real)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.screen.query_one(Listing).has_class("-empty"))
        await pilot.press("n")
        await on(pilot, CheckpointScreen)
        await listed(pilot)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.focused, Input))
        app.focused.value = str(tmp_path / "notes.txt")  # type: ignore[union-attr]
        await pilot.press("enter")
        error = (await on(pilot, ErrorScreen)).error
        assert "notes.txt" in str(error)
