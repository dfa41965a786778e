"""Calls somebody back when a long run has ended: a toast, the bell, a desktop notification."""

from __future__ import annotations

from textual.app import App

from console.runs.model import RunState, RunView
from console.settings import NotifySettings
from console.text import clean, human_seconds


def ended(app: App[None], settings: NotifySettings, view: RunView) -> bool:
    """Tell that a run has ended, if it took long enough to have been left alone."""
    if view.active or view.elapsed < settings.after:
        return False
    good = view.state is RunState.SUCCEEDED
    words = clean(f"{view.deployment} {view.state.value} after {human_seconds(view.elapsed)}")
    app.notify(words, severity="information" if good else "error", markup=False, timeout=10)
    if settings.bell:
        app.bell()
    if settings.osc9 and app._driver is not None:
        # No public way writes to the terminal beside the frames; `App.bell` does the same.
        app._driver.write(f"\x1b]9;tritondeck: {words}\x1b\\")
    return True
