"""The area of a chart: what each cell of it is."""

from __future__ import annotations

from screens.widgets.chart import Plot, area


def plot(*cells: float | None, marks: tuple[tuple[int, str], ...] = ()) -> Plot:
    return Plot("title", "figure", cells, 16.0, "16", marks=marks)


def texts(of: Plot, rows: int = 2) -> list[str]:
    """The cells of each row, without the scale."""
    return [line.plain[: len(of.cells)] for line in area(of, rows)]


def test_a_value_fills_its_share_of_the_rows_in_eighths() -> None:
    assert texts(plot(4.0, 8.0, 13.0, 16.0)) == ["  ▅█", "▄███"]


def test_a_known_nothing_differs_from_what_is_not_known() -> None:
    assert texts(plot(0.0, None)) == ["  ", "▁ "]


def test_a_mark_stands_where_the_area_does_not() -> None:
    assert texts(plot(12.0, 4.0, marks=((0, "step"), (1, "load")))) == ["▄┊", "█▄"]


def test_what_happened_outside_the_chart_is_left_out() -> None:
    assert texts(plot(None, marks=((-1, "step"), (9, "load")))) == [" ", " "]


def test_only_the_crest_has_the_colour_of_the_curve() -> None:
    top, bottom = area(plot(16.0), 2)
    assert (top.parts[0], bottom.parts[0]) == (("█", "accent"), ("█", "fill"))


def test_a_crest_too_thin_to_be_seen_colours_the_cell_below_it_too() -> None:
    top, bottom = area(plot(10.0), 2)
    assert (top.parts[0], bottom.parts[0]) == (("▂", "accent"), ("█", "accent"))


def test_the_scale_stands_beside_the_first_and_the_last_row() -> None:
    assert [line.plain[1:] for line in area(plot(1.0), 3)] == [" 16", " ", " 0"]
