"""Words ask for another layout only when they need other room."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult

from screens.phrase import lines, say
from screens.widgets.words import Words


class WordsApp(App[None]):
    CSS = "Words { height: auto; width: 100%; }"

    def compose(self) -> ComposeResult:
        yield Words(say("one"))


async def test_words_of_more_lines_get_them() -> None:
    app = WordsApp()
    async with app.run_test(size=(20, 10)) as pilot:
        words = app.query_one(Words)
        words.show(lines(say("one"), say("two")))
        await pilot.pause()
        assert words.size.height == 2
        words.show(say("a line that is wrapped because it is long"))
        await pilot.pause()
        assert words.size.height == 3


async def test_other_words_of_the_same_size_cost_no_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    app = WordsApp()
    async with app.run_test(size=(20, 10)) as pilot:
        await pilot.pause()
        laid_out: list[bool] = []
        refresh = Words.refresh
        monkeypatch.setattr(
            Words,
            "refresh",
            lambda self, *a, **k: laid_out.append(k.get("layout", False)) or refresh(self, *a, **k),
        )
        app.query_one(Words).show(say("two"))
        await pilot.pause()
        assert laid_out == [False]


async def test_other_words_draw_only_the_lines_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    app = WordsApp()
    async with app.run_test(size=(20, 10)) as pilot:
        words = app.query_one(Words)
        words.show(lines(say("one"), say("two"), say("three")))
        await pilot.pause()
        drawn: list[int] = []
        render_line = Words.render_line
        monkeypatch.setattr(
            Words, "render_line", lambda self, y: drawn.append(y) or render_line(self, y)
        )
        words.show(lines(say("one"), say("2"), say("three")))
        await pilot.pause()
        assert drawn == [1]
        assert [words.render_line(y).text.strip() for y in range(3)] == ["one", "2", "three"]


async def test_wrapped_words_are_drawn_as_a_whole() -> None:
    app = WordsApp()
    async with app.run_test(size=(20, 10)) as pilot:
        words = app.query_one(Words)
        words.show(lines(say("one line that is wrapped"), say("two")))
        await pilot.pause()
        words.show(lines(say("one line that is wrapped"), say("2")))
        await pilot.pause()
        shown = [strip.text.strip() for strip in app.screen._compositor.render_strips()[:3]]
        assert shown == ["one line that is", "wrapped", "2"]
