"""Runs the console in a pseudo-terminal of its own; the child of `test_terminal`.

Arguments: home folder, poison (``-`` for none), and what to do: ``run``, ``plain`` (with Textual's own
driver), or where to have a defect: ``crash`` (later), ``load``, ``compose`` or ``key`` (of ``d``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from textual.drivers.linux_driver import LinuxDriver
from textual.screen import Screen
from textual.widget import Widget

from console import settings as settings_module
from console.app import TritonDeckApp
from screens.home import HomeScreen
from tests.screens.desk_double import NOW, DeskDouble


def crash() -> None:
    canary = "hf_" + "c" * 24
    raise ZeroDivisionError(f"{len(canary)} characters are only in a local variable")


class Crashing(TritonDeckApp):
    """Has a defect that shows after a second."""

    def on_mount(self) -> None:
        self.set_timer(1.0, crash)


class FailsToLoad(TritonDeckApp):
    """Has a defect before its terminal is taken over."""

    def on_load(self) -> None:
        crash()


class FailsToCompose(TritonDeckApp):
    """Has a defect in its first screen."""

    def get_default_screen(self) -> Screen[None]:
        class Broken(HomeScreen):
            def body(self) -> Iterable[Widget]:
                yield from super().body()
                crash()

        return Broken(self._given, self._flow)


class FailsAtKey(TritonDeckApp):
    """Has a defect in what a key does on its first screen."""

    def get_default_screen(self) -> Screen[None]:
        class Broken(HomeScreen):
            def action_doctor(self) -> None:
                crash()

        return Broken(self._given, self._flow)


class Plain(TritonDeckApp):
    """Draws with Textual's own driver, to compare with."""

    def __init__(self, desk: DeskDouble, **more: Any) -> None:
        super().__init__(desk, **more)
        self.driver_class = LinuxDriver


APPS: Mapping[str, type[TritonDeckApp]] = {
    "run": TritonDeckApp,
    "plain": Plain,
    "crash": Crashing,
    "load": FailsToLoad,
    "compose": FailsToCompose,
    "key": FailsAtKey,
}


def main() -> None:
    home, poison, what = sys.argv[1:]
    settings = settings_module.load({"TRITONDECK_HOME": home})
    desk = DeskDouble(settings, "" if poison == "-" else poison.encode().decode("unicode_escape"))
    # A minute that goes by is no difference between two looks.
    app = APPS[what](desk, hostname="gpu-07", clock=lambda: NOW)
    app.run()
    sys.exit(app.return_code or 0)


main()
