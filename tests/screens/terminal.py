"""Runs the console in a pseudo-terminal of its own; the child of `test_terminal`.

Arguments: home folder, poison (``-`` for none), and what to do: ``run`` or ``crash``.
"""

from __future__ import annotations

import sys

from console import settings as settings_module
from console.app import TritonDeckApp
from tests.screens.desk_double import DeskDouble


def crash() -> None:
    canary = "hf_" + "c" * 24
    raise ZeroDivisionError(f"{len(canary)} characters are only in a local variable")


class Crashing(TritonDeckApp):
    """Has a defect that shows after a second."""

    def on_mount(self) -> None:
        self.set_timer(1.0, crash)


def main() -> None:
    home, poison, what = sys.argv[1:]
    settings = settings_module.load({"TRITONDECK_HOME": home})
    desk = DeskDouble(settings, "" if poison == "-" else poison.encode().decode("unicode_escape"))
    app = (Crashing if what == "crash" else TritonDeckApp)(desk, hostname="gpu-07")
    app.run()
    sys.exit(app.return_code or 0)


main()
