"""The live `MonitorSource`: this machine, the servers that run or are attached, what happens to them.

Each server is asked by a thread of its own, so that one that hangs delays nobody. What exists (services,
runs, attached servers, actions) is looked up every few seconds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from console.desk.monitor import Curve, Mark, MonitorView
from console.facts import DeckError
from console.settings import Settings
from console.telemetry import actions
from console.telemetry.reading import Reading
from console.telemetry.rings import Rings
from console.telemetry.telemetry import Telemetry
from console.triton import series
from console.triton.happenings import happenings
from console.triton.reading import ServerReading

if TYPE_CHECKING:
    from console.runs.model import StepState
    from console.triton.target import Target

LOOK_SECONDS = 5.0
FIRST_SECONDS = 0.7
"""What a screen is given to appear before servers and runs are looked for."""
MARKS_KEPT = 2000


class Watched:
    """One server and the thread that asks it."""

    def __init__(self, target: Target, interval: Callable[[], float]) -> None:
        self.target = target
        endpoint = target.endpoint
        self.latest = ServerReading(target.name, endpoint.url, endpoint.kind, endpoint.ours)
        from console.triton.watch import ServerWatch

        self._watch = ServerWatch(target, interval())
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"server {target.name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            self.latest = self._watch.poll()
            due = max(due + self._interval(), time.monotonic())
            self._ended.wait(due - time.monotonic())
        self._watch.close()

    def end(self) -> None:
        self._ended.set()


class Known:
    """What there is on this host now, looked up by a thread that may take its time."""

    def __init__(self, settings: Settings, marks: Callable[[Mark], None]) -> None:
        self.settings = settings
        self.owners: Mapping[int, str] = {}
        self.targets: tuple[Target, ...] = ()
        self.problem = ""
        self._marks = marks
        self._steps: dict[tuple[str, str], StepState] = {}
        self._position = actions.read(settings.folders.state)[1]

    def look(self) -> None:
        # Plans and their models take half a second to import: no first figure waits for them.
        from console.desk import attached
        from console.runs.store import RunStore
        from console.services.store import ServiceStore
        from console.triton.target import Target

        self.problem = ""
        services = [v for v in ServiceStore(self.settings).views() if v.living]
        runs = [r for r in RunStore(self.settings).views("") if r.active]
        owners = {v.pid: v.id for v in services if v.pid}
        self.owners = owners | {r.runner_pid: r.id for r in runs if r.runner_pid}
        targets = [Target(v.id, v.endpoint) for v in services if v.endpoint.url]
        try:
            others = attached.attached(self.settings)
        except DeckError as error:
            others, self.problem = (), str(error)
        known = {target.endpoint.url for target in targets}
        targets += [
            Target(s.name, s.endpoint, Path(s.ca_file) if s.ca_file else None, s.headers)
            for s in others
            if s.url not in known
        ]
        self.targets = tuple(targets)
        for run in runs:
            for step in run.steps:
                if step.started and self._steps.get((run.id, step.id)) is not step.state:
                    began = (run.id, step.id) not in self._steps
                    self._steps[(run.id, step.id)] = step.state
                    when = step.started if began else time.time()
                    self._marks(Mark(when, "step", f"{step.id} {step.state}", run.id))
        done, self._position = actions.read(self.settings.folders.state, self._position)
        for action in done:
            self._marks(Mark(action.time, "action", action.words, action.target))

    def folders(self) -> tuple[Path, ...]:
        places = self.settings.folders
        return (places.state, places.cache)


class LiveSource:
    """See `MonitorSource`. Everything that waits does so in threads of this object."""

    live = True

    def __init__(
        self,
        settings: Settings,
        interval: float = 0.0,
        each: Callable[[MonitorView], None] | None = None,
    ) -> None:
        """`each` is called with every new view, from a thread (a recorder, a printer)."""
        self.settings = settings
        self._marks: deque[Mark] = deque(maxlen=MARKS_KEPT)
        self._known = Known(settings, self._marks.append)
        self._telemetry = Telemetry(
            interval or settings.screen.interval, lambda: self._known.owners, self._known.folders
        )
        self._rings = Rings()
        self._watched: dict[str, Watched] = {}
        self._begun = time.time()
        self._view = MonitorView(0.0, start=self._begun)
        self._at = time.monotonic()
        self.looked = float("inf")
        """When servers and runs had been looked for once (monotonic seconds): readings from then on
        have those that there are."""
        self._each = each
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for work, name in ((self._look, "monitor-look"), (self._sample, "monitor-sample"))
        ]
        self._telemetry.start()
        for thread in self._threads:
            thread.start()

    @property
    def interval(self) -> float:
        return self._telemetry.interval

    def snapshot(self) -> MonitorView:
        return self._view

    def series(self) -> tuple[str, ...]:
        return self._rings.names()

    def history(self, series: str, span: float, points: int = 0) -> Curve:
        values = self._rings.curve(series, self._at, span, points, self.interval)
        return Curve(series, self._view.time - span, self._view.time, values)

    def marks(self, span: float) -> tuple[Mark, ...]:
        since = self._view.time - span
        return tuple(
            sorted((m for m in list(self._marks) if m.time >= since), key=lambda m: m.time)
        )

    def seek(self, time: float | None) -> MonitorView:
        return self._view

    def close(self) -> None:
        self._ended.set()
        self._telemetry.close()
        for watched in self._watched.values():
            watched.end()
        # Whoever gets the views closes what they went into: the thread that makes them is waited for.
        for thread, patience in zip(self._threads, (1.0, 10.0), strict=True):
            if thread is not threading.current_thread():
                thread.join(patience)

    # -- in threads

    def _look(self) -> None:
        if self._each is None:
            self._ended.wait(FIRST_SECONDS)
        while not self._ended.is_set():
            try:
                self._known.look()
            except (DeckError, OSError) as error:
                self._known.problem = str(error)
            self._arrange()
            self.looked = min(self.looked, time.monotonic())
            self._ended.wait(LOOK_SECONDS)

    def _arrange(self) -> None:
        """Watch what is there now, and nothing else."""
        wanted = {target.name: target for target in self._known.targets}
        now: dict[str, Watched] = {}
        for name, target in wanted.items():
            before = self._watched.get(name)
            if before is None or _differs(target, before.target):
                before = Watched(target, lambda: self.interval)
            now[name] = before
        # Replaced as a whole: the sampling thread reads it at any moment.
        gone, self._watched = self._watched, now
        for name, watched in gone.items():
            if now.get(name) is not watched:
                watched.end()

    def _sample(self) -> None:
        reading: Reading | None = None
        while not self._ended.is_set():
            found = self._telemetry.wait(reading)
            if found is None:
                continue
            reading = found
            servers = tuple(w.latest for _, w in sorted(self._watched.items()))
            for kind, text, target in happenings(self._view.servers, servers):
                self._marks.append(Mark(reading.time, kind, text, target))
            self._rings.add(reading.monotonic, series.values(reading, servers))
            note = self._known.problem
            self._view = MonitorView(
                reading.time, reading, servers, self._begun, reading.time, True, "", note
            )
            self._at = reading.monotonic
            if self._each is not None:
                self._each(self._view)


def _differs(one: Target, other: Target) -> bool:
    return (one.endpoint, one.ca_file) != (other.endpoint, other.ca_file)
