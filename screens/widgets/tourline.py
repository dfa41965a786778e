"""`TourLine`: what this step is for, while the guided tour is on."""

from __future__ import annotations

from console.desk.desk import Term
from screens import tour
from screens.flow import Stage
from screens.phrase import join, lines, say
from screens.widgets.words import Words

_ROOM = 32
"""Rows of terminal from which each word stands with its meaning."""


class TourLine(Words):
    """A few lines under the step line; the words of the step follow when the desk has told them."""

    DEFAULT_CSS = """
    TourLine { height: auto; padding: 0 1; background: $panel; }
    """

    def __init__(self) -> None:
        super().__init__(id="tour")
        self._terms: tuple[Term, ...] = ()
        self._stage = Stage.HOME

    def at(self, stage: Stage, terms: tuple[Term, ...] = ()) -> None:
        """Explain `stage`, with the meaning of its words."""
        self._terms = terms or (self._terms if stage is self._stage else ())
        self._stage = stage
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        """On a short terminal what is explained needs the room: help has the words there."""
        if self.app.size.height < _ROOM:
            names = join(*(say(term.name, "accent") for term in self._terms), between=", ")
            meanings = [join(say("?", "accent"), say("explains"), names, between=" ")]
        else:
            meanings = [
                join(say(term.name, "accent"), say(term.means.replace("`", ""), "dim"))
                for term in self._terms
            ]
        self.show(lines(say(tour.text(self._stage)), *(meanings if self._terms else ())))
