"""The follower of one container: ``python -m console.runtimes.follow FOLDER``.

The child of a keeper. It starts what ``container.json`` says, or finds the container that an earlier
follower started, copies its log to standard output, turns SIGTERM into ``stop -t``, and ends with the
container's exit code. Killed with -9 it leaves the container running; the next follower finds it.

An engine that does not answer says nothing about its containers: dockerd may be restarted under a
living server. The follower waits for it and calls nothing dead before it has asked.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from console.facts import DeckError
from console.processes import boot_id
from console.runtimes import containers, engine_errors
from console.runtimes.containers import (
    ENDED,
    ENVIRONMENT,
    FOLLOWED,
    FOLLOWER,
    KEY,
    Ended,
    Following,
    Record,
)
from console.runtimes.copying import Copy
from console.runtimes.engine import Inspected, Unreachable
from console.runtimes.oom import OomCounter
from console.text import clean, human_bytes

REFUSED = 125
"""Exit code when the engine did not start it, as the engines' own command lines have it."""
_LOOK = 1.0
_AGAIN = 0.5


class Follower:
    """One container, from its start or from where it is found to its end."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.folder = folder
        self.record = record
        self.engine = containers.engine_of(record)
        self.following = Following()
        self.oom: OomCounter | None = None
        self.asked = 0.0
        """When somebody asked for its end (monotonic seconds); 0 when nobody did."""
        self.looked = 0.0
        self.stopping: subprocess.Popen[bytes] | None = None
        self.wake, self._bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def follow(self) -> int:
        """Until the container has ended; its exit code."""
        signal.set_wakeup_fd(self._bell, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked)
        try:
            found = self._find() or self._start()
        except DeckError as error:
            return self._refused(error)
        self._note(id=found.id, pid=found.pid)
        (self.folder / ENVIRONMENT).unlink(missing_ok=True)
        copy = Copy(self.engine, found.id, self.folder / FOLLOWED)
        while True:
            self._copy(copy)
            now = self._patiently(found.id)
            if now is None or not now.alive:
                return self._ended(now, copy.last.decode(errors="replace"))
            self._note(pid=now.pid)
            time.sleep(_AGAIN)

    def _asked(self, number: int, frame: object) -> None:
        self.asked = self.asked or time.monotonic()

    # -- beginning ----------------------------------------------------------------------

    def _find(self) -> Inspected | None:
        """The container of an earlier follower; None when there is none that ever ran."""
        before = containers.look(self.folder)
        known = before is not None and bool(before.following.id)
        while True:
            try:
                for container in self.engine.find(KEY, self.record.key):
                    found = self.engine.inspect(container)
                    if found is not None and found.status not in ("created", "configured"):
                        say(f"following the container {clean(found.name)}, which runs already")
                        return found
                    self.engine.remove(container)  # its start was cut off
            except Unreachable as error:
                if not known:
                    raise
                self._unreachable(error)
                continue
            if known:
                raise DeckError(
                    "the container is gone",
                    why="somebody removed it while nobody followed it",
                    fix="retry: another one is made",
                )
            return None

    def _start(self) -> Inspected:
        """Run it; a refusal raises `DeckError` and leaves no container."""
        try:
            container = self.engine.run(self.record.words)
            found = self.engine.inspect(container)
        except DeckError:
            for left in self.engine.find(KEY, self.record.key):
                self.engine.remove(left)
            raise
        if found is None:
            raise DeckError("the container is gone", why="somebody removed it as it started")
        return found

    def _refused(self, error: DeckError) -> int:
        (self.folder / ENVIRONMENT).unlink(missing_ok=True)
        say(f"error: {error}")
        told = containers.in_words(error)
        containers.write(
            self.folder / ENDED,
            Ended(REFUSED, asked=bool(self.asked), started=False, problem=told),
        )
        return REFUSED

    # -- while it runs ------------------------------------------------------------------

    def _copy(self, copy: Copy) -> None:
        """Copy its log until the engine ends that: the container's end, or the daemon's."""
        out, err = copy.open()
        with selectors.DefaultSelector() as selector:
            for stream, pipe in enumerate((out, err)):
                selector.register(pipe, selectors.EVENT_READ, stream)
            selector.register(self.wake, selectors.EVENT_READ, None)
            while len(selector.get_map()) > 1:
                for event, _ in selector.select(_LOOK):
                    if event.data is None:
                        os.read(self.wake, 512)
                        continue
                    data = os.read(event.fd, 1 << 16)
                    copy.take(event.data, data)
                    if not data:
                        selector.unregister(event.fileobj)
                if self.asked or time.monotonic() - self.looked >= _LOOK:
                    self._look()
        copy.end()

    def _look(self) -> None:
        """What has to be done now and then: stop it when asked, count what the kernel ended."""
        self.looked = time.monotonic()
        if self.asked:
            self._stop()
        if self.oom is None and self.following.pid:
            self.oom = OomCounter.of(self.following.pid)
        kills = self.oom.read() if self.oom else 0
        if kills > self.following.oom_kills:
            self._note(oom_kills=kills)
            say("warning: the kernel ended a process in the container: its memory limit is reached")

    def _stop(self) -> None:
        """One ``stop`` at a time, again and again until it has ended."""
        if self.stopping is not None and self.stopping.poll() is None:
            return
        left = self.record.stop_seconds - (time.monotonic() - self.asked)
        self.stopping = self.engine.popen(
            ["stop", "-t", str(max(1, round(left))), self.following.id],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _patiently(self, container: str) -> Inspected | None:
        """The container as the engine says it, however long the engine takes to answer."""
        while True:
            try:
                found = self.engine.inspect(container)
            except Unreachable as error:
                self._unreachable(error)
                continue
            if self.following.unreachable:
                say("the container engine answers again")
                self._note(unreachable="")
            return found

    def _unreachable(self, error: Unreachable) -> None:
        why = ": ".join(filter(None, (error.title, error.why)))
        if not self.following.unreachable:
            say(f"warning: {why}; the container may live on, asking again until it is known")
            self._note(unreachable=why)
        time.sleep(_AGAIN)

    # -- the end ------------------------------------------------------------------------

    def _ended(self, last: Inspected | None, said: str) -> int:
        if last is None:
            gone = DeckError(
                "the container is gone", why="somebody removed it", fix="retry: another one is made"
            )
            return self._refused(gone)
        problem = self._why(last, said)
        oom = last.oom_killed or (self.oom is not None and last.exit_code == 137 and not self.asked)
        ended = Ended(
            last.exit_code,
            oom=oom and not self.asked,
            asked=bool(self.asked),
            problem=containers.in_words(problem) if problem else {},
        )
        if problem:
            say(f"error: {problem}")
        containers.write(self.folder / ENDED, ended)
        try:
            self.engine.remove(last.id)
        except DeckError as error:
            say(f"warning: the ended container {clean(last.name)} stays: {error}")
        return last.exit_code

    def _why(self, last: Inspected, said: str) -> DeckError | None:
        """What ended it, where that is known and was not asked for."""
        if self.asked:
            return None
        limit = f" of {human_bytes(last.memory)}" if last.memory else ""
        if last.oom_killed:
            return DeckError(
                f"the container reached its memory limit{limit}",
                why="the kernel ended what took most of it",
                fix="raise the memory limit, or choose a smaller model or batch",
            )
        if self.record.boot != boot_id():
            return DeckError("the machine was started anew while it ran", fix="retry")
        if last.exit_code == 137 and last.memory:
            return DeckError(
                f"the container was killed, most likely by its memory limit{limit}",
                why="exit code 137 (SIGKILL), and nobody had asked for its end",
                fix="raise the memory limit, or choose a smaller model or batch",
            )
        if last.error:
            return containers.refusal(last.exit_code, last.error)
        return engine_errors.explain_end(said) if last.exit_code else None

    def _note(self, **changes: object) -> None:
        self.following = replace(self.following, **changes)  # type: ignore[arg-type]
        try:
            containers.write(self.folder / FOLLOWER, self.following)
        except OSError as error:
            say(f"warning: cannot note where the container stands: {error.strerror}")


def say(words: str) -> None:
    """A line of ours among those of the container."""
    try:
        os.write(1, f"[tritondeck] {words}\n".encode())
    except OSError:
        pass  # a full disk; the container's own lines wait in the engine


def main() -> NoReturn:
    folder = Path(sys.argv[1])
    view = containers.look(folder)
    if view is None:
        say(f"error: {clean(str(folder))} holds no container.json")
        sys.exit(REFUSED)
    os.umask(0o077)
    sys.exit(Follower(folder, view.record).follow())


if __name__ == "__main__":
    main()
