#!/usr/bin/env python3
"""Pictures of every screen, made by the app itself: `make screenshots`.

    scripts/screenshots.py [FOLDER]        default docs/screenshots

Deploys the spoken-digits example for real in a state folder of its own (the managed environments
are the operator's), walks the guided path with the real desk, and stops the server. Takes two
minutes where the environments are there.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input

from console import settings as settings_module
from console.app import TritonDeckApp
from console.desk.desk import Desk
from screens.build import BuildScreen
from screens.check import CheckScreen
from screens.checkpoint import CheckpointScreen
from screens.configure import ConfigureScreen
from screens.help import HelpScreen
from screens.home import HomeScreen
from screens.serve import ServeScreen
from screens.try_ import TryScreen
from screens.widgets.logview import LogView
from screens.widgets.table import Listing
from screens.widgets.words import Words

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "digits"
SIZE = (120, 34)
HOST = "gpu-07"
_FONT = re.compile(r"@font-face\s*\{[^}]*\}\s*")


class Photographer:
    """Walks the guided path and saves a picture at each stop."""

    def __init__(self, pilot: Pilot[None], folder: Path, home: Path) -> None:
        self.pilot = pilot
        self.app: Any = pilot.app
        self.folder = folder
        self.names = {
            str(EXAMPLE): "/opt/checkpoints",
            f"{home}/state": "~/.local/state/tritondeck",
            f"{home}/config": "~/.config/tritondeck",
            f"{home}/cache": "~/.cache/tritondeck",
            str(ROOT): "/opt/tritondeck",
            str(Path.home()): "~",
        }

    async def until(self, predicate: Callable[[], object], seconds: float = 180) -> None:
        end = time.monotonic() + seconds
        while not predicate():
            if time.monotonic() > end:
                raise SystemExit(f"{self.app.screen} did not come to what was waited for")
            await self.pilot.pause(0.05)

    async def on(self, screen: type) -> None:
        await self.until(lambda: isinstance(self.app.screen, screen))

    async def take(self, name: str) -> None:
        await self.until(lambda: not self.app.workers)
        await self.pilot.pause(0.3)
        picture = self.app.export_screenshot(title=f"tritondeck · {name}", simplify=True)
        # The font is fetched from elsewhere otherwise; any monospace of the reader's does.
        picture = _FONT.sub("", picture).replace("Fira Code", "DejaVu Sans Mono, Menlo, Consolas")
        for place, shown in self.names.items():
            picture = anonymous(picture, place, shown)
        (self.folder / f"{name}.svg").write_text(picture, encoding="utf-8")
        print(self.folder / f"{name}.svg")

    def says(self, selector: str, text: str) -> bool:
        return text in str(self.app.screen.query_one(selector, Words).content)

    async def first_time(self) -> None:
        await self.on(HomeScreen)
        await self.until(lambda: self.app.screen.query_one(Listing).has_class("-empty"))
        await self.take("first-time")
        await self.pilot.press("t")
        await self.on(CheckpointScreen)
        await self.until(lambda: self.says("#tour", "pickle"))
        await self.until(lambda: self.says("#detail", "✓ onnx"))
        await self.take("tour")
        await self.pilot.press("escape")
        await self.on(HomeScreen)

    async def before_the_build(self) -> None:
        """Help, checkpoint, route and options, check, and the build while it runs."""
        await self.pilot.press("n")
        await self.on(CheckpointScreen)
        table = self.app.screen.query_one(Listing).table
        await self.until(lambda: table.row_count)
        table.choose(str(EXAMPLE / "digits.nemo"))
        await self.until(lambda: self.says("#detail", "✓ onnx"))
        await self.take("checkpoint")
        await self.pilot.press("enter")
        await self.on(ConfigureScreen)
        await self.until(lambda: self.app.screen.query("#option-server-metrics_port Input"))
        for port in ("http", "grpc", "metrics"):
            self.app.screen.query_one(f"#option-server-{port}_port").query_one(Input).value = "0"
        await self.pilot.press("enter", "tab")
        await self.until(lambda: self.says("#script-title", "lines"))
        await self.take("options")
        await self.pilot.press("ctrl+n")
        await self.on(CheckScreen)
        await self.until(lambda: self.says("#check-title", " checks in "))
        await self.take("check")
        await self.pilot.press("enter")
        await self.on(BuildScreen)
        table = self.app.screen.query_one(Listing).table
        await self.until(lambda: table.row_count and table.chosen == "export")
        await self.until(lambda: self.app.screen.query_one(Listing).table.row_count > 5)
        await self.until(lambda: self.says("#step-detail", "export"))
        await self.take("build-running")

    async def after_the_build(self) -> None:
        """The finished build, the server, an answer, and Home with its help."""
        await self.until(lambda: self.says("#build-title", "verified"))
        await self.until(lambda: self.app.screen._samples)
        self.app.screen.query_one(Listing).table.choose("export")
        log = self.app.screen.query_one(LogView)
        await self.until(lambda: log.lines and log.state.settled and log.state.tallied)
        await self.take("build")
        await self.pilot.press("enter")
        await self.on(ServeScreen)
        await self.until(lambda: self.says("#serve-title", "● serving"))
        await self.take("serve")
        await self.pilot.press("7")
        await self.on(TryScreen)
        await self.until(lambda: isinstance(self.app.focused, Input))
        self.app.focused.value = str(EXAMPLE / "wavs" / "digits_1.wav")
        await self.pilot.press("enter")
        await self.until(lambda: self.says("#answers", " ms"))
        await self.take("try")
        self.app.screen.action_stage(1)
        await self.on(CheckpointScreen)
        await self.pilot.press("escape")
        await self.on(HomeScreen)
        await self.until(lambda: self.app.screen.query_one(Listing).table.row_count)
        await self.take("home")
        await self.pilot.press("question_mark")
        await self.on(HelpScreen)
        await self.take("help")


def anonymous(picture: str, place: str, shown: str) -> str:
    """`picture` with `shown` for the folder `place` of this machine, also where a line was cut.

    Every text keeps its length, because the picture fixes its width.
    """

    def renamed(found: re.Match[str]) -> str:
        return (shown + found[1]).ljust(len(found[0]), "\xa0")[: len(found[0])]

    picture = re.sub(re.escape(place) + r"([^\s<&\xa0]*)", renamed, picture)
    for length in range(len(place) - 1, 5, -1):
        cut = shown[:length].ljust(length, "\xa0")
        picture = re.sub(re.escape(place[:length]) + "(?=[<…])", cut, picture)
    return picture


async def main(folder: Path, home: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # The way to the server that the pictures show is that of an operator who came by ssh.
    os.environ.update(SSH_CONNECTION=f"192.0.2.1 50000 {HOST} 22", LOGNAME="operator")
    places = {"TRITONDECK_ENVIRONMENTS": str(settings_module.load().folders.environments)}
    desk = Desk(settings_module.load({**os.environ, **places, "TRITONDECK_HOME": str(home)}))
    app = TritonDeckApp(desk, hostname=HOST, start=str(EXAMPLE))
    try:
        async with app.run_test(size=SIZE) as pilot:
            photographer = Photographer(pilot, folder, home)
            await photographer.first_time()
            await photographer.before_the_build()
            await photographer.after_the_build()
    finally:
        for run in desk.runs():
            if run.active:
                desk.cancel(run.id)
        for service in desk.services():
            if service.pid:
                desk.stop(service.id)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="tritondeck-") as home:
        place = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screenshots"
        asyncio.run(main(place, Path(home)))
