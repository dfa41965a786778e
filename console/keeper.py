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
import errno
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from console.facts import DeckError, Progress, Refused, UsageError
from console.text import clean, human_bytes

VERSION = 1
MARK = "TRITONDECK_KEPT"
"""Environment variable that names the keeper to everything below it."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_START_TIMEOUT = 60.0

# ---------------------------------------------------------------------------- who a process is


def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def hostname() -> str:
    return socket.gethostname()


def pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start time (clock ticks since boot), None when there is no such process.

    Not psutil's `create_time`: that is wall time, which moves when somebody sets the clock.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    words = text[text.rfind(")") + 2 :].split()
    return words[0], int(words[1]), int(words[19])


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that can be told from every other one, also from a later one with the same pid.

    `namespace` is the pid namespace: another container of this host has pids of its own.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Identity:
        """The identity of a living process; raises `ProcessLookupError`."""
        found = _stat(pid)
        if found is None:
            raise ProcessLookupError(errno.ESRCH, f"no process {pid}")
        return cls(hostname(), boot_id(), pid_namespace(), pid, found[2])

    @classmethod
    def read(cls, value: object) -> Identity | None:
        """From what `asdict` made; None for anything else."""
        if not isinstance(value, dict):
            return None
        try:
            return cls(**{f.name: value[f.name] for f in fields(cls)})
        except KeyError:
            return None

    @property
    def foreign(self) -> bool:
        """Whether it belongs to another host or container, so that nothing can be said about it."""
        if self.host != hostname():
            return True
        return self.boot == boot_id() and self.namespace != pid_namespace()

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs here (a zombie does not run)."""
        if self.foreign or self.boot != boot_id():
            return False
        found = _stat(self.pid)
        return found is not None and found[2] == self.start and found[0] not in "ZX"

    def signal(self, number: int, *, group: bool = False) -> bool:
        """Send a signal to exactly this process (or its group); False when it is gone."""
        if self.foreign:
            return False
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            # The descriptor pins the process: what `alive` says now stays true for it.
            if not self.alive:
                return False
            if group:
                os.killpg(self.pid, number)
            else:
                signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


def descendants(root: int) -> list[int]:
    """Every process below `root`, zombies left out."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        if (found := _stat(pid)) and found[0] not in "ZX":
            children.setdefault(found[1], []).append(pid)
    below: list[int] = []
    queue = [root]
    while queue:
        mine = children.get(queue.pop(), [])
        below += mine
        queue += mine
    return below


def survivors(mark: str) -> list[int]:
    """Processes of ours that carry `mark`: what a killed keeper left behind, however it forked."""
    return [pid for pid in _pids() if _carries(pid, mark)]


def _carries(pid: int, mark: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # gone, or another user's
    if f"{MARK}={mark}".encode() not in environment.split(b"\0"):
        return False
    now = _stat(pid)
    return now is not None and now[0] not in "ZX"


def _signal_survivors(mark: str, number: int) -> int:
    """Send a signal to every process that carries `mark`; how many there were."""
    count = 0
    for pid in survivors(mark):
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if _carries(pid, mark):  # the descriptor pins it: a reused pid is not hit
                signal.pidfd_send_signal(handle, number)
                count += 1
        except ProcessLookupError:
            continue
        finally:
            os.close(handle)
    return count


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


# ---------------------------------------------------------------------------- files


def write_private(path: Path, data: bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Write a whole file or nothing: a new file beside it, flushed, then renamed over it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(part, flags, mode)
        try:
            _write_all(handle, data)
            os.fchmod(handle, mode)
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        part.replace(path)
    except OSError as error:
        error.filename = str(path)  # so that whoever tells it names the right disk
        part.unlink(missing_ok=True)
        raise


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_private(path, json_bytes(value))


def json_bytes(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none (missing, torn, foreign)."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def discard(folder: Path, manifest: str) -> None:
    """Remove a folder of ours: only one that holds `manifest`, and out of sight at once."""
    if not (folder / manifest).is_file():
        raise Refused(f"{clean(str(folder))} holds no {manifest}: it is not ours to remove")
    trash = folder.with_name(f".trash-{folder.name}-{secrets.token_hex(4)}")
    folder.rename(trash)
    shutil.rmtree(trash)


def open_log(path: Path) -> int:
    """A descriptor that appends to a log of ours; never through a planted symlink."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


class StatusFile:
    """A small JSON file whose room on the disk is taken before it is needed.

    Writing it later allocates nothing: the bytes go into blocks that are ours, and a rename within
    one folder makes them visible at once.
    """

    def __init__(self, path: Path, size: int = 4096) -> None:
        self.path = path
        self.size = size
        self._spare = path.with_name(f".{path.name}.reserved")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self._spare, flags, 0o600)
        try:
            _write_all(handle, b" " * size)
            os.fsync(handle)
        except OSError:
            self._spare.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)

    def write(self, value: Mapping[str, Any]) -> None:
        data = json.dumps(value).encode().ljust(self.size)
        handle = os.open(self._spare, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _write_all(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        self._spare.replace(self.path)

    def write_patiently(self, value: Mapping[str, Any]) -> None:
        """Like `write`, again and again while the disk refuses; gives up when the folder is gone."""
        while True:
            try:
                return self.write(value)
            except OSError as error:
                if not self.path.parent.is_dir():
                    return None
                print(f"cannot write {self.path.name} yet: {error.strerror}", file=sys.stderr)
                time.sleep(1)


def storage_error(error: OSError, path: Path) -> DeckError:
    """An `OSError` of a file of ours, in words an operator can act on."""
    folder = next(place for place in (path, *path.parents) if place.is_dir())
    shown = clean(str(folder))
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        try:
            usage = shutil.disk_usage(folder)
            why = f"{human_bytes(usage.free)} free of {human_bytes(usage.total)}"
        except OSError:
            why = reason
        return DeckError(
            f"the disk of {shown} is full", why=why, fix="free some space there, then retry"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DeckError(
            f"{clean(str(path))} may not be used",
            why=reason,
            fix="give this user the right to it; TRITONDECK_HOME moves our own folders",
        )
    if error.errno == errno.ELOOP:
        return DeckError(
            f"{clean(str(path))} is a symbolic link; it is not followed",
            fix="remove the link: somebody put it where a file of ours belongs",
        )
    return DeckError(f"cannot use {clean(str(error.filename or path))}", why=reason)


# ---------------------------------------------------------------------------- the keeper itself


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
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
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

    def wait(self) -> None:
        """Wait for the child, end what it leaves, and write how it went."""
        deadline: float | None = None
        while self.status is None:
            number = self._next_signal(deadline)
            if number in (signal.SIGTERM, signal.SIGINT) and not self.asked:
                self.asked = True
                deadline = time.monotonic() + self.request.grace
                self._to_group(signal.SIGTERM)
            if deadline is not None and time.monotonic() >= deadline:
                self.killed = True
                self._to_group(signal.SIGKILL)
                deadline = time.monotonic() + 1
            self._reap()
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
        left = descendants(os.getpid())
        count = len(left)
        killing = time.monotonic() + (0 if self.killed else min(2.0, self.request.grace))
        giving_up = killing + 5
        for pid in left:
            _send(pid, signal.SIGTERM)
        while left and time.monotonic() < giving_up:
            signal.sigtimedwait(self.SIGNALS, 0.05)
            self._reap()
            left = descendants(os.getpid())
            if time.monotonic() >= killing:
                for pid in left:
                    _send(pid, signal.SIGKILL)
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


def lock(path: Path, held: str, patience: float = 0.0) -> int:
    """Hold `path` (flock) for the life of this process; `Refused` with `held` when somebody does."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.05)
                continue
            os.close(handle)
            raise Refused(held, fix="wait until it has ended, or cancel it") from None
        return handle


# ---------------------------------------------------------------------------- starting one

Ready = Callable[[], None]


def start(module: str, request: Mapping[str, Any], env: Mapping[str, str] | None = None) -> None:
    """Start `module` detached with `request` and return when it says that it is ready.

    The request travels through a pipe and is on no disk. `env` is the detached process's own
    environment (a few names of ours by default). Raises the `DeckError` that it failed with.
    """
    if env is None:
        kept = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONPATH", "TZ")
        env = {name: os.environ[name] for name in kept if name in os.environ}
    # What is detached belongs to no keeper above us any more.
    env = {name: value for name, value in env.items() if name != MARK}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd="/",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(json.dumps(request).encode(), timeout=_START_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise DeckError(
            "a background process did not start",
            why=f"{module} gave no sign of life within {_START_TIMEOUT:.0f} s",
            fix="the machine is overloaded or out of memory: try again",
        ) from None
    said = json.loads(out) if out else {}
    if said.get("ready"):
        return
    log = Path(request["folder"]) / "messages.log"
    raw = err or (log.read_bytes()[-4000:] if log.is_file() else b"")
    kinds: dict[str, type[DeckError]] = {"Refused": Refused, "UsageError": UsageError}
    raise kinds.get(said.get("kind", ""), DeckError)(
        said.get("title", "a background process did not start"),
        why=said.get("why", f"{module} ended before it was ready"),
        fix=said.get("fix", ""),
        raw=said.get("raw", clean(raw.decode(errors="replace"), multiline=True)),
    )


def detached(work: Callable[[dict[str, Any], Ready], None]) -> NoReturn:
    """The other side of `start`: leave parent, session and terminal, then do `work`.

    `work` gets the request and a function to call when it has started; an `OSError` or `DeckError`
    before that is told to whoever asked. Messages go to ``<folder>/messages.log`` afterwards.
    """
    request = json.load(sys.stdin)
    folder = Path(request["folder"])
    answer = os.dup(1)
    if os.fork():
        os._exit(0)
    os.setsid()
    os.umask(0o077)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    told = False

    def tell(value: Mapping[str, Any]) -> None:
        nonlocal told
        if told:
            return
        told = True
        try:
            os.write(answer, json.dumps(value).encode())
        except BrokenPipeError:
            pass  # whoever asked is gone; the work goes on
        os.close(answer)

    try:
        messages = open_log(folder / "messages.log")
        for number, target in ((nothing, 0), (messages, 1), (messages, 2)):
            os.dup2(number, target)
        work(request, lambda: tell({"ready": True}))
    except DeckError as error:
        tell(_told(error))
        _complain(error)
        os._exit(1)
    except OSError as error:
        tell(_told(storage_error(error, Path(error.filename or folder))))
        _complain(error)
        os._exit(1)
    sys.exit(0)


def _told(error: DeckError) -> dict[str, str]:
    kind = type(error).__name__
    # A pipe takes this in one piece; the whole text is in messages.log.
    return {
        "kind": kind,
        "title": error.title[:800],
        "why": error.why[:800],
        "fix": error.fix[:400],
        "raw": error.raw[-1500:],
    }


def _complain(error: Exception) -> None:
    try:
        print(clean(str(error)), file=sys.stderr, flush=True)
    except OSError:
        pass  # a full disk: it has been told through the pipe


def launch(request: Request) -> None:
    """Keep `request.argv` in a new keeper; returns when the child runs.

    Raises `DeckError` in words when it cannot (no such program, full disk, folder in use).
    """
    start("console.keeper", asdict(request))


def request_of(raw: Mapping[str, Any]) -> Request:
    """The other side of `asdict`."""
    return Request(**{**raw, "argv": tuple(raw["argv"])})


def main() -> NoReturn:
    def work(raw: dict[str, Any], ready: Ready) -> None:
        run(Keeper(request_of(raw)), ready)

    detached(work)


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


# ---------------------------------------------------------------------------- looking at one


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
    """What a keeper's folder says now."""

    folder: Path
    keeper: Identity | None = None
    child: Identity | None = None
    exit: Exit | None = None
    mark: str = ""
    started: float = 0.0
    monotonic: float = 0.0

    @property
    def foreign(self) -> bool:
        return self.keeper is not None and self.keeper.foreign

    @property
    def watched(self) -> bool:
        """A keeper waits for the child (or for room to write how it ended)."""
        return self.exit is None and self.keeper is not None and self.keeper.alive

    @property
    def child_alive(self) -> bool:
        return self.child is not None and self.child.alive

    @property
    def lost(self) -> bool:
        """The keeper is gone and never said how the child ended."""
        return self.exit is None and self.keeper is not None and not self.keeper.alive


def look(folder: Path) -> Kept:
    """Read a keeper's folder; an empty `Kept` where nothing was ever started."""
    raw = read_json(folder / "identity.json")
    if raw is None or raw.get("version") != VERSION:
        return Kept(folder)
    return Kept(
        folder=folder,
        keeper=Identity.read(raw.get("keeper")),
        child=Identity.read(raw.get("child")),
        exit=_read_exit(folder, raw.get("mark", "")),
        mark=raw.get("mark", ""),
        started=raw.get("started", 0.0),
        monotonic=raw.get("monotonic", 0.0),
    )


def _read_exit(folder: Path, mark: str) -> Exit | None:
    raw = read_json(folder / "exit.json")
    if raw is None or raw.get("version") != VERSION or raw.get("mark") != mark:
        return None
    try:
        return Exit(**{f.name: raw[f.name] for f in fields(Exit)})
    except KeyError:
        return None


def settled(kept: Kept) -> Kept:
    """`kept` looked at again when it seems lost: a keeper writes its result and is gone."""
    return look(kept.folder) if kept.lost else kept


def end(folder: Path, grace: float, progress: Progress | None = None) -> Kept:
    """End what a folder keeps and wait for it: SIGTERM, `grace` seconds, SIGKILL.

    Works with and without a living keeper. Returns what the folder says afterwards; `lost` with
    nothing alive when the keeper had been killed before.
    """
    kept = settled(look(folder))
    if kept.foreign:
        assert kept.keeper is not None
        raise Refused(
            f"this process belongs to host {clean(kept.keeper.host)}", fix="stop it there"
        )
    if kept.watched:
        assert kept.keeper is not None
        kept.keeper.signal(signal.SIGTERM)
        _wait(lambda: not look(folder).watched, grace + 10, "waiting for it to end", progress)
        kept = settled(look(folder))
    if not kept.watched:
        end_survivors(kept, grace, progress)
    return settled(look(folder))


def end_survivors(kept: Kept, grace: float = 2.0, progress: Progress | None = None) -> int:
    """End what a dead keeper left behind; how many processes that were."""
    if not kept.mark or kept.foreign:
        return 0
    count = _signal_survivors(kept.mark, signal.SIGTERM)
    message = f"ending {count} process(es) whose keeper is gone"
    if count and not _wait(lambda: not survivors(kept.mark), grace, message, progress):
        _signal_survivors(kept.mark, signal.SIGKILL)
        _wait(lambda: not survivors(kept.mark), 5, message, progress)
    return count


def _wait(
    done: Callable[[], bool], seconds: float, message: str, progress: Progress | None
) -> bool:
    until = time.monotonic() + seconds
    told = 0.0
    while not done():
        now = time.monotonic()
        if now >= until:
            return False
        if progress and now - told >= 0.5:
            progress(message)
            told = now
        time.sleep(0.03)
    return True


def command(argv: Sequence[str]) -> str:
    """The last part of a program's path, for a sentence."""
    return clean(Path(argv[0]).name) if argv else ""


if __name__ == "__main__":
    main()
