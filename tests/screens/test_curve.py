"""Memory curves: what is resampled, and where the steps stand."""

from __future__ import annotations

from textual.app import App, ComposeResult

from console.telemetry.sample import GpuSample, Sample
from screens.widgets.curve import Curve, resample, series


def test_a_slice_shows_its_highest_value() -> None:
    assert resample([(0, 1), (1, 9), (2, 3), (9, 4)], 0, 10, 2) == [9, 4]


def test_a_gap_keeps_the_earlier_value_and_the_future_is_empty() -> None:
    assert resample([(0, 5), (4, 7)], 0, 10, 10) == [5, 5, 5, 5, 7] + [None] * 5


def test_a_gpu_that_could_not_be_read_has_no_curve() -> None:
    lost = GpuSample(0, "H200", None, None, None, problem="GPU is lost")
    found = series([Sample(0, 1, 2, 0.0, (lost,))])
    assert [one.label for one in found] == ["host"]


def test_the_peak_is_of_all_samples_and_now_is_the_last() -> None:
    host = series([Sample(0, 5, 9, 0.0), Sample(1, 8, 9, 0.0), Sample(2, 6, 9, 0.0)])[0]
    assert (host.peak, host.now, host.total) == (8, 6, 9)


class Recording(App[None]):
    def compose(self) -> ComposeResult:
        yield Curve()


async def test_figures_are_drawn_before_the_first_step_has_begun() -> None:
    """The host is measured from the run's start on."""
    app = Recording()
    async with app.run_test(size=(100, 10)):
        curve = app.query_one(Curve)
        curve.show([Sample(0, 5, 9, 0.0), Sample(1, 8, 9, 0.0)], ())
        host, steps = (curve.render_line(y).text for y in (0, 1))
        assert host.startswith("host") and not steps.strip()
