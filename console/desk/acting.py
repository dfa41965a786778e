"""What an operator does is noted with its outcome, for marks on curves and for incidents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from console.facts import DeckError
from console.settings import Settings
from console.telemetry import actions


@contextmanager
def noted(settings: Settings, what: str, target: str, model: str = "") -> Iterator[None]:
    """Note `what` when the block ends; a `DeckError` is its outcome and goes on."""
    try:
        yield
    except DeckError as error:
        actions.note(settings.folders.state, what, target, model, str(error))
        raise
    actions.note(settings.folders.state, what, target, model)
