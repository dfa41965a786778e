"""One detached child with its folder, lock and exit-status file.

A keeper is a small process in a session of its own, with no terminal, that starts one child and
outlives whoever asked for it. Its folder tells everything about the child to anybody who looks
later, with no process to ask:

``keeper.lock``    held (flock) while the keeper lives: two keepers never share a folder
``identity.json``  who keeper and child are: boot id, pid, start time and host, never a pid alone
``exit.json``      how the child ended

The folder never holds the child's environment: it reaches the keeper through a pipe.

When a keeper is killed itself (kill -9), the child of a step dies with it (``end_with_keeper``): a
result that nobody can learn is not worth a process that nobody sees. What the child had started is
found again by a mark in its environment (`survivors`). A server is left alive instead; it serves.
Nothing is lost on a full disk: the room of ``exit.json`` is taken before the child starts.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from console import detach
from console.detach import Ready
from console.facts import DeckError, Progress, Refused
from console.processes import (
    MARK,
    Identity,
    descendants,
    signal_survivors,
    survivors,
)
from console.storage import StatusFile, lock, open_log, read_json, write_json
from console.text import clean
from console.waiting import looks

VERSION = 1

_PR_SET_PDEATHSIG = 1

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Request:
    """What a keeper keeps. `grace` is the time in seconds from SIGTERM to SIGKILL."""

    folder: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    log: str
    grace: float = 10.0
    end_with_keeper: bool = True
    leave: bool = False
    """Leave alone what the child leaves behind: a container belongs to its engine."""
    extra: dict[str, Any] | None = None
    """For whoever builds on the keeper; the keeper itself does not read it."""


class Keeper:
    """The process that waits. Signals are taken one at a time with `sigtimedwait`: no handlers."""

    SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self, request: Request, at_end: Callable[[], str] | None = None) -> None:
        self.request = request
        self.folder = Path(request.folder)
        self.at_end = at_end
        self.mark = secrets.token_hex(8)
        self.child = 0
        self.started = 0.0
        self.status: int | None = None
        self.usage: Any = None
        self.asked = False
        self.killed = False

    def start(self) -> None:
        """Start the child; raises `OSError` and `DeckError` with nothing left running."""
        self._lock = lock(self.folder / "keeper.lock", "this step is already kept by somebody")
        self._exit = StatusFile(self.folder / "exit.json")
        self._identify(None)
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)  # an inherited "ignore" would lose them
        signal.pthread_sigmask(signal.SIG_BLOCK, self.SIGNALS)
        _prctl(_PR_SET_CHILD_SUBREAPER, 0 if self.request.leave else 1)
        log = open_log(Path(self.request.log))
        keeper = os.getpid()

        def in_child() -> None:
            if self.request.end_with_keeper:
                _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != keeper:
                    os._exit(127)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())

        try:
            # Waited for with wait4 below, which also tells what it used.
            process = subprocess.Popen(
                self.request.argv,
                cwd=self.request.cwd,
                env={**self.request.env, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=in_child,  # safe: this process has one thread
            )
        finally:
            os.close(log)
        process.returncode = 0  # nobody else may wait for it
        self.child, self.started = process.pid, time.monotonic()
        try:
            self._identify(Identity.of(self.child))
        except OSError:
            os.killpg(self.child, signal.SIGKILL)
            raise

    def _identify(self, child: Identity | None) -> None:
        value = {
            "version": VERSION,
            "keeper": asdict(Identity.of(os.getpid())),
            "child": asdict(child) if child else None,
            "mark": self.mark,
            "started": time.time(),
            "monotonic": time.monotonic(),
            "log": self.request.log,
        }
        write_json(self.folder / "identity.json", value)

    def release(self) -> None:
        """Let another keeper have the folder, when the child has ended."""
        os.close(self._lock)

    def wait(self) -> None:
        """Wait for the child, end what it leaves, and write how it went."""
        deadline: float | None = None
        while self.status is None:
            number = self._next_signal(deadline)
            if number in (signal.SIGTERM, signal.SIGINT) and not self.asked:
                self.asked = True
                deadline = time.monotonic() + self.request.grace
                self._to_group(signal.SIGTERM)
            # First what has ended: a keeper that got no turn for long comes late to a child that did not.
            self._reap()
            if self.status is None and deadline is not None and time.monotonic() >= deadline:
                self.killed = True
                self._to_group(signal.SIGKILL)
                deadline = time.monotonic() + 1
        elapsed = time.monotonic() - self.started
        leftover, stuck = self._end_leftovers()
        note = self.at_end() if self.at_end else ""
        self._exit.write_patiently(self._result(elapsed, leftover, stuck, note))

    def _next_signal(self, deadline: float | None) -> int | None:
        if deadline is None:
            return signal.sigwaitinfo(self.SIGNALS).si_signo
        info = signal.sigtimedwait(self.SIGNALS, max(0.0, deadline - time.monotonic()))
        return info.si_signo if info else None

    def _to_group(self, number: int) -> None:
        try:
            os.killpg(self.child, number)
        except ProcessLookupError:
            pass  # it ended by itself at this moment

    def _reap(self) -> None:
        """Collect every child that ended: ours, and what was handed to us as subreaper."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self.child:
                self.status, self.usage = status, usage

    def _end_leftovers(self) -> tuple[int, int]:
        """End what still runs below us; how many there were, and how many could not be ended."""
        left = [] if self.request.leave else descendants(os.getpid())
        count = len(left)
        for pid in left:
            _send(pid, signal.SIGTERM)
        patience = 0.0 if self.killed else min(2.0, self.request.grace)
        for number, seconds in ((0, patience), (signal.SIGKILL, 5.0)):
            for _ in looks(seconds, 0.03) if left else ():
                for pid in left if number else ():
                    _send(pid, number)
                self._reap()
                if not (left := descendants(os.getpid())):
                    break
        return count, len(left)

    def _result(self, elapsed: float, leftover: int, stuck: int, note: str) -> dict[str, Any]:
        assert self.status is not None
        code = os.waitstatus_to_exitcode(self.status)
        return {
            "version": VERSION,
            "code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "asked": self.asked,
            "killed": self.killed,
            "leftover": leftover,
            "stuck": stuck,
            "note": note,
            "ended": time.time(),
            "elapsed": elapsed,
            "peak_memory": self.usage.ru_maxrss * 1024,
            "cpu_seconds": self.usage.ru_utime + self.usage.ru_stime,
            "mark": self.mark,
        }


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # gone, or not ours any more (a setuid program): counted by the caller


def launch(request: Request) -> None:
    """Keep `request.argv` in a new keeper; returns when the child runs.

    Raises `DeckError` in words when it cannot (no such program, full disk, folder in use).
    """
    detach.start("console.keeper", asdict(request))


def request_of(raw: Mapping[str, Any]) -> Request:
    """The other side of `asdict`."""
    return Request(**{**raw, "argv": tuple(raw["argv"])})


def main() -> NoReturn:
    def work(raw: dict[str, Any], ready: Ready) -> None:
        run(Keeper(request_of(raw)), ready)

    detach.detached(work)


def run(keeper: Keeper, ready: Ready) -> None:
    """Start, say so, wait."""
    try:
        keeper.start()
    except OSError as error:
        for name in ("identity.json", ".exit.json.reserved"):
            (keeper.folder / name).unlink(missing_ok=True)
        argv, cwd = keeper.request.argv, keeper.request.cwd
        if error.filename in (argv[0], cwd):
            raise DeckError(
                f"cannot start {clean(argv[0])}",
                why=f"{error.strerror}: {clean(str(error.filename))}",
                fix="check that the program and its working folder exist and may be used",
            ) from error
        raise
    ready()
    keeper.wait()


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended; seconds and bytes. Exactly one of `code` and `signal` is set."""

    code: int | None
    signal: int | None
    asked: bool
    """Somebody asked the keeper to end it."""
    killed: bool
    """It did not end within its grace and was killed."""
    leftover: int
    """Processes that it left behind and that were ended."""
    stuck: int
    note: str
    ended: float
    elapsed: float
    peak_memory: int
    cpu_seconds: float

    @property
    def words(self) -> str:
        if self.signal is not None:
            try:
                name = signal.Signals(self.signal).name
            except ValueError:
                name = f"signal {self.signal}"
            return f"ended by {name}"
        return f"exit code {self.code}"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a keeper's folder said, and who lived, at one moment."""

    folder: Path
    keeper: Identity | None = None
    child: Identity | None = None
    exit: Exit | None = None
    mark: str = ""
    started: float = 0.0
    monotonic: float = 0.0
    keeper_alive: bool = False
    child_alive: bool = False

    @property
    def foreign(self) -> bool:
        return self.keeper is not None and self.keeper.foreign

    @property
    def watched(self) -> bool:
        """A keeper waits for the child (or for room to write how it ended)."""
        return self.exit is None and self.keeper_alive

    @property
    def lost(self) -> bool:
        """The keeper is gone and never said how the child ended."""
        return self.exit is None and self.keeper is not None and not self.keeper_alive


def look(folder: Path) -> Kept:
    """Read a keeper's folder; an empty `Kept` where nothing was ever started."""
    raw = read_json(folder / "identity.json")
    if raw is None or raw.get("version") != VERSION:
        return Kept(folder)
    keeper, child = Identity.read(raw.get("keeper")), Identity.read(raw.get("child"))
    # Before the result is looked for: a keeper writes it and is gone.
    keeper_alive, child_alive = bool(keeper and keeper.alive), bool(child and child.alive)
    return Kept(
        folder=folder,
        keeper=keeper,
        child=child,
        exit=_read_exit(folder, raw.get("mark", "")),
        mark=raw.get("mark", ""),
        started=raw.get("started", 0.0),
        monotonic=raw.get("monotonic", 0.0),
        keeper_alive=keeper_alive,
        child_alive=child_alive,
    )


def _read_exit(folder: Path, mark: str) -> Exit | None:
    raw = read_json(folder / "exit.json")
    if raw is None or raw.get("version") != VERSION or raw.get("mark") != mark:
        return None
    try:
        return Exit(**{f.name: raw[f.name] for f in fields(Exit)})
    except KeyError:
        return None


def end(folder: Path, grace: float, progress: Progress | None = None) -> Kept:
    """End what a folder keeps and wait for it: SIGTERM, `grace` seconds, SIGKILL.

    Works with and without a living keeper. Returns what the folder says afterwards; `lost` with
    nothing alive when the keeper had been killed before.
    """
    kept = look(folder)
    if kept.foreign:
        assert kept.keeper is not None
        raise Refused(
            f"this process belongs to host {clean(kept.keeper.host)}", fix="stop it there"
        )
    if kept.watched:
        assert kept.keeper is not None
        kept.keeper.signal(signal.SIGTERM)
        _wait(lambda: not look(folder).watched, grace + 10, "waiting for it to end", progress)
        kept = look(folder)
    if not kept.watched:
        end_survivors(kept, grace, progress)
    return look(folder)


def end_survivors(kept: Kept, grace: float = 2.0, progress: Progress | None = None) -> int:
    """End what a dead keeper left behind; how many processes that were."""
    if not kept.mark or kept.foreign:
        return 0
    count = signal_survivors(kept.mark, signal.SIGTERM)
    message = f"ending {count} process(es) whose keeper is gone"
    if count and not _wait(lambda: not survivors(kept.mark), grace, message, progress):
        signal_survivors(kept.mark, signal.SIGKILL)
        _wait(lambda: not survivors(kept.mark), 5, message, progress)
    return count


def _wait(
    done: Callable[[], bool], seconds: float, message: str, progress: Progress | None
) -> bool:
    told = 0.0
    for _ in looks(seconds, 0.03):
        if done():
            return True
        now = time.monotonic()
        if progress and now - told >= 0.5:
            progress(message)
            told = now
    return False


if __name__ == "__main__":
    main()
