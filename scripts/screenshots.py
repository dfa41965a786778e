#!/usr/bin/env python3
"""Pictures of every screen, made by the app itself: `make screenshots`.

    scripts/screenshots.py [FOLDER]        default docs/screenshots

Runs the console on the spoken-digits example with the real desk: the checkpoint is read, the checks
are made, and where the example is already deployed its build, server and answer are shown too
(`make quickstart` first). Nothing is started or stopped here.
"""

from __future__ import annotations

import asyncio
import sys
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
from screens.widgets.options import OptionsForm
from screens.widgets.table import Listing
from screens.widgets.words import Words

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "digits"
SIZE = (120, 34)


class Photographer:
    """Walks the guided path and saves a picture at each stop."""

    def __init__(self, pilot: Pilot[None], folder: Path, home: Path) -> None:
        self.pilot = pilot
        self.app: Any = pilot.app
        self.folder = folder
        self.home = home

    async def until(self, predicate: Callable[[], object], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not predicate():
            if time.monotonic() > end:
                raise SystemExit(f"{self.app.screen} did not come to what was waited for")
            await self.pilot.pause(0.05)

    async def on(self, screen: type) -> None:
        await self.until(lambda: isinstance(self.app.screen, screen))

    async def take(self, name: str) -> None:
        await self.pilot.pause(1.2)
        picture = self.app.export_screenshot()
        for place, shown in ((EXAMPLE, "/opt/checkpoints"), (self.home, "~/tritondeck")):
            # Of the same length, because the picture fixes each text's width.
            picture = picture.replace(str(place), shown.ljust(len(str(place)), "\xa0"))
        (self.folder / f"{name}.svg").write_text(picture, encoding="utf-8")
        print(f"{self.folder / name}.svg")

    def says(self, selector: str, text: str) -> bool:
        return text in str(self.app.screen.query_one(selector, Words).content)

    async def before_the_build(self) -> None:
        """Home, help, checkpoint, route and options, check."""
        await self.on(HomeScreen)
        await self.take("home")
        await self.pilot.press("question_mark")
        await self.on(HelpScreen)
        await self.take("help")
        await self.pilot.press("escape", "n")
        await self.on(CheckpointScreen)
        table = self.app.screen.query_one(Listing).table
        await self.until(lambda: table.row_count)
        table.choose(str(EXAMPLE / "digits.nemo"))
        await self.until(lambda: self.says("#detail", "✓ onnx"))
        await self.take("checkpoint")
        await self.pilot.press("enter")
        await self.on(ConfigureScreen)
        await self.until(lambda: self.app.screen.query(OptionsForm))
        await self.pilot.press("enter", "tab")
        await self.until(lambda: self.says("#script-title", "lines"))
        await self.take("options")
        await self.pilot.press("ctrl+n")
        await self.on(CheckScreen)
        await self.until(lambda: self.says("#check-title", " checks in "))
        await self.take("check")

    async def the_deployment(self) -> None:
        """Build, serve and try of the deployed example."""
        await self.pilot.press("escape", "escape", "escape", "escape")
        await self.on(HomeScreen)
        table = self.app.screen.query_one(Listing).table
        await self.until(lambda: table.row_count)
        table.choose("digits")
        await self.pilot.press("enter")
        await self.on(ServeScreen)
        await self.until(lambda: self.says("#serve-title", "● ready"))
        await self.take("serve")
        await self.pilot.press("5")
        await self.on(BuildScreen)
        await self.until(lambda: self.app.screen._samples)
        await self.take("build")
        await self.pilot.press("7")
        await self.on(TryScreen)
        await self.until(lambda: isinstance(self.app.focused, Input))
        self.app.focused.value = str(EXAMPLE / "wavs" / "digits_1.wav")
        await self.pilot.press("enter")
        await self.until(lambda: self.says("#answers", " ms"))
        await self.take("try")


async def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    desk = Desk(settings_module.load())
    app = TritonDeckApp(desk, hostname="gpu-07", start=str(EXAMPLE))
    async with app.run_test(size=SIZE) as pilot:
        photographer = Photographer(pilot, folder, desk.settings.folders.state.parent)
        await photographer.before_the_build()
        if any(s.deployment == "digits" and s.state.value == "running" for s in desk.services()):
            await photographer.the_deployment()
        else:
            print("no server of the example runs: build, serve and try are left out")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screenshots"))
