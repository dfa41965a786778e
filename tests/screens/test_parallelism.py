"""The parallelism of a language model on the Options step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from console.planning.deployment import Deployment
from console.planning.parallelism import ParallelismView
from console.settings import Settings
from screens.widgets.parallelism import Parallelism
from tests.screens import steps
from tests.screens.conftest import make_app, until
from tests.screens.desk_double import DeskDouble
from tests.unit.test_parallelism import shown as spread_over


class Language(DeskDouble):
    """A desk whose route has parallel sizes: 70 billion parameters on four GPUs."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(settings)
        self.options_given = options

    def parallelism(self, deployment: Deployment) -> ParallelismView | None:
        view = spread_over(gpus=4, **self.options_given)
        name = self._p("NVIDIA H200")
        return replace(view, ranks=tuple(replace(rank, name=name) for rank in view.ranks))


async def arrive(pilot: Pilot[None]) -> None:
    await steps.to_options(pilot)
    await until(pilot, lambda: "Parallelism" in steps.shown(pilot.app, "#parallelism"))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=["80x24", "160x48"])
@pytest.mark.parametrize("tensor", [1, 2, 3], ids=["too-small", "fits", "impossible"])
def test_it_looks_as_it_did(
    snap_compare: Any, settings: Settings, size: tuple[int, int], tensor: int
) -> None:
    async def go(pilot: Pilot[None]) -> None:
        await arrive(pilot)
        await until(pilot, lambda: not pilot.app.workers)
        await pilot.pause(0.2)

    app = make_app(Language(settings, tensor_parallel_size=tensor))
    assert snap_compare(app, run_before=go, terminal_size=size)


async def test_a_route_without_it_shows_none(settings: Settings) -> None:
    app = make_app(DeskDouble(settings))
    async with app.run_test(size=(120, 40)) as pilot:
        await steps.to_options(pilot)
        await until(pilot, lambda: not app.workers)
        assert not app.screen.query_one(Parallelism).display


async def test_each_rank_has_a_line_on_a_tall_terminal(settings: Settings) -> None:
    app = make_app(Language(settings, tensor_parallel_size=2))
    async with app.run_test(size=(160, 48)) as pilot:
        await arrive(pilot)
        text = steps.shown(app, "#parallelism")
        assert "rank 0" in text and "GPU 1 NVIDIA H200" in text and "1 × 131,072" in text


async def test_two_lines_are_left_on_a_short_one(settings: Settings) -> None:
    app = make_app(Language(settings, tensor_parallel_size=2))
    async with app.run_test(size=(80, 24)) as pilot:
        await arrive(pilot)
        assert len(steps.shown(app, "#parallelism").strip().splitlines()) == 2
