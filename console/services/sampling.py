"""The detached process that records one service; beside its supervisor, which stays small.

Started as ``python -m console.services.sampling``. It reads the service's folder, asks the server,
looks at the machine, and ends when the service has ended. When it is killed nothing else notices; the
next start or adoption of the service starts another, which goes on in the same recording.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from console import detach, storage
from console.facts import DeckError, Refused
from console.settings import RecordSettings, Settings
from console.text import clean

_FIRST_LOOK = 60.0
"""Seconds in which a service that was just made may not look alive yet."""


def start(folder: Path, settings: Settings) -> None:
    """Record the service of `folder` from now on; nothing where one records it already. A recorder
    that cannot start must not keep a server from serving: that is said on standard error."""
    if not settings.record.enabled:
        return
    request = {
        "folder": str(folder),
        "state": str(settings.folders.state),
        "record": asdict(settings.record),
    }
    try:
        detach.start("console.services.sampling", request)
    except (DeckError, OSError) as error:
        print(f"{clean(folder.name)} is not recorded: {clean(str(error))}", file=sys.stderr)


class Sampler:
    """Samples until the service has ended."""

    def __init__(self, folder: Path, state: Path, settings: RecordSettings) -> None:
        from console.services import record
        from console.telemetry import actions
        from console.telemetry.recording import FILE
        from console.telemetry.telemetry import Telemetry
        from console.triton.recorder import ViewRecorder, limits
        from console.triton.target import Target
        from console.triton.watch import ServerWatch

        self._actions, self._record = actions, record
        self.folder, self.state = folder, state
        self.view = record.view(folder)
        self._into = ViewRecorder(folder / FILE, f"service {self.view.id}", limits(settings))
        self._position = actions.read(state)[1]
        target = Target(self.view.id, self.view.endpoint)
        self._watch = ServerWatch(target, settings.interval)
        self._telemetry = Telemetry(settings.interval, owners=self._owners)
        self._since = time.monotonic()

    def _owners(self) -> Mapping[int, str]:
        return {self.view.pid: self.view.id} if self.view.pid is not None else {}

    def run(self) -> None:
        self._telemetry.start()
        try:
            reading = None
            while self._goes_on():
                found = self._telemetry.wait(reading)
                if found is None:
                    continue
                reading = found
                server = self._watch.poll()
                # What each core did is not worth its room.
                kept = replace(reading, host=replace(reading.host, cores=()))
                self._into.add(kept, (server,))
                self._note_actions()
            if self.folder.is_dir():
                self._into.mark("server", f"{self.view.state}: {self.view.reason}", self.view.id)
        finally:
            self._watch.close()
            self._telemetry.close()
            self._into.close()

    def _goes_on(self) -> bool:
        if not self.folder.is_dir():
            return False
        before, self.view = self.view.state, self._record.view(self.folder)
        if before is not self.view.state:
            self._into.mark("server", str(self.view.state), self.view.id)
        return self.view.living or (
            not self.view.started and time.monotonic() - self._since < _FIRST_LOOK
        )

    def _note_actions(self) -> None:
        done, self._position = self._actions.read(self.state, self._position)
        for action in done:
            if action.target in (self.view.id, self.view.deployment, self.view.endpoint.url):
                self._into.mark("action", action.words, action.target, action.time)


def main() -> NoReturn:
    def work(raw: dict[str, Any], ready: detach.Ready) -> None:
        folder = Path(raw["folder"])
        ready()
        try:
            held = storage.lock(folder / "recorder.lock", "this service is recorded already")
        except Refused:
            return
        try:
            Sampler(folder, Path(raw["state"]), RecordSettings(**raw["record"])).run()
        finally:
            os.close(held)

    detach.detached(work)


if __name__ == "__main__":
    main()
