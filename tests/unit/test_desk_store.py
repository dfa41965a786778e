"""What the worker of a store says, line by line."""

from __future__ import annotations

from console.desk.store import _told


def test_a_result_that_was_cut_off_is_among_the_last_words_and_no_result() -> None:
    last: list[str] = []
    assert _told('[tritondeck] result {"total": 3}\n', last, None, None) == {"total": 3}
    assert _told('[tritondeck] result {"tot', last, None, None) is None
    assert last == ['{"tot']
