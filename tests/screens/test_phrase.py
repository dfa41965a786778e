"""Text on its way to the screen: cleaned, fitted, never markup."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from screens.phrase import join, lines, say


@given(st.text(), st.integers(1, 40), st.booleans())
def test_a_fitted_phrase_has_exactly_its_width(text: str, width: int, right: bool) -> None:
    assert cell_len(say(text).fit(width, right=right).plain) == width


@given(st.text())
def test_nothing_that_a_terminal_acts_on_is_left(text: str) -> None:
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in say(text).plain)


def test_markup_is_shown_as_it_is_written() -> None:
    poison = "[/] [@click=app.quit]x[/] [bold]y"
    assert say(poison).content().plain == poison


def test_empty_parts_leave_no_gap() -> None:
    assert join(say("a"), say(""), say("b"), between=" · ").plain == "a · b"
    assert lines(say("a"), say(""), say("b")).plain == "a\n\nb"
