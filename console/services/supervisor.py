"""The detached process that keeps one server: a keeper that also tidies, watches and restarts.

Started as ``python -m console.services.supervisor`` by `ServiceStore.start`. It outlives runs and
consoles. When it is killed itself the server goes on serving; `ServiceStore.stop` still ends it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from console import detach, keeper, storage
from console.facts import DeckError
from console.services import record, restarts, tokens, watch
from console.text import clean
from console.waiting import looks

if TYPE_CHECKING:
    from console.planning.plan import ServiceSpec
    from console.runtimes.host import Launch
    from console.settings import Settings

SHARED_MEMORY = Path("/dev/shm")
_SHORTEST_PREFIX = 8
_LIVE_AGAIN = 120.0
_FOLLOWERS = 20
"""How often a killed follower of one container is replaced."""


def start(
    folder: Path,
    spec: ServiceSpec,
    values: Mapping[str, str],
    shm_prefix: str,
    settings: Settings,
) -> None:
    """Start the server in `folder` under a supervisor; returns when its process runs."""
    from console.runtimes.host import launch

    if spec.process.image:
        command = _in_container(folder, spec, values)
    else:
        command = launch(spec.process, values, settings)
        command.cwd.mkdir(mode=0o700, parents=True, exist_ok=True)
    request = keeper.Request(
        folder=str(folder),
        argv=tuple(command.argv),
        env=dict(command.env),
        cwd=str(command.cwd),
        log=str(folder / "server.log"),
        # A container is stopped within its own time first.
        grace=spec.stop_timeout + (5 if spec.process.image else 0),
        end_with_keeper=False,
        leave=command.contained,
        extra={"shm_prefix": shm_prefix},
    )
    # What asks the server from time to time needs the key that the server wants.
    secrets = (spec.token_env,) if spec.token_env else ()
    detach.start("console.services.supervisor", asdict(request), secrets=secrets)


def _in_container(
    folder: Path,
    spec: ServiceSpec,
    values: Mapping[str, str],
    environ: Mapping[str, str] = os.environ,
) -> Launch:
    """The follower of a container that runs the server."""
    from console.runtimes import containers

    owner = containers.Owner(folder.name.rpartition("-s")[0], service=folder.name)
    return containers.prepare(
        spec.process, values, folder, owner, round(spec.stop_timeout), environ
    )


def remove_regions(prefix: str) -> int:
    """Remove this server's own regions from /dev/shm; how many there were.

    Triton's python stubs leave theirs behind when the server is killed. A short prefix could match
    somebody else's and removes nothing.
    """
    if len(prefix) < _SHORTEST_PREFIX or "/" in prefix:
        return 0
    mine = [
        region
        for region in SHARED_MEMORY.glob("*")
        if region.name.startswith(prefix) and region.lstat().st_uid == os.geteuid()
    ]
    for region in mine:
        region.unlink(missing_ok=True)
    return len(mine)


class Supervisor(keeper.Keeper):
    """One launch of the server: kept, watched, its shared memory and token removed at its end."""

    def __init__(self, request: keeper.Request, again: bool) -> None:
        super().__init__(request, self._tidy)
        self.watcher = watch.Watcher(
            self.folder, self._server, self._ooms, self._bring_back if again else lambda: None
        )
        self.before = watch.oom_kills()

    def start(self) -> None:
        super().start()
        # After the fork, so that the child's start needs no care for threads; it inherits the mask.
        self.watcher.start()

    def _to_group(self, number: int) -> None:
        self.watcher.end()  # no request of ours may keep the server from ending
        super()._to_group(number)

    def _server(self) -> int:
        """The process whose descendants the models' processes are; 0 when there is none to see."""
        from console.runtimes import containers

        contained = containers.look(self.folder)
        return contained.following.pid if contained else self.child

    def _ooms(self) -> int:
        """Processes that the kernel ended for want of memory since the start: in the container, or
        anywhere on this host, which is all that a host's kernel tells."""
        from console.runtimes import containers

        contained = containers.look(self.folder)
        return contained.following.oom_kills if contained else watch.oom_kills() - self.before

    def _tidy(self) -> str:
        self.watcher.end()
        self.watcher.join(5)
        prefix = str((self.request.extra or {}).get("shm_prefix", ""))
        count, ooms = remove_regions(prefix), self._ooms()
        notes = [f"removed {count} shared memory region(s)"] if count else []
        if ooms and self.status is not None and os.WIFSIGNALED(self.status):
            notes.append(record.OUT_OF_MEMORY)
        return "; ".join(notes)

    def _bring_back(self) -> None:
        """Load what the crashed server had loaded, and count as ready again."""
        from console.triton import control, health

        made = record.load(self.folder)
        watch.write(self.folder, watch.Report())
        health.wait_live(made.endpoint, _LIVE_AGAIN, alive=lambda: not self.watcher.over.is_set())
        for model in made.spec.models if made.spec.version == "" else ():
            control.load(made.endpoint, model)
        for model in _guests(made):
            try:
                control.load(made.endpoint, model)
            except DeckError as error:  # another deployment's: it must not keep this one down
                _complain(Path(self.request.log), str(error))
        (self.folder / "ready").touch(mode=0o600)
        # The next look asks at once: loaded is not yet serving.
        self.watcher.asked = float("-inf")


def _guests(made: record.Record) -> tuple[str, ...]:
    """Models that other deployments have in this server's repository, what they call first."""
    from console.triton import versions

    if "work" not in made.values or "repository" not in made.values:
        return ()
    works, repository = Path(made.values["work"]).parent, Path(made.values["repository"])
    found = versions.owners(works, repository).values()
    return tuple(m for owner in found if owner.deployment != made.deployment for m in owner.models)


def keep(request: keeper.Request, ready: detach.Ready) -> None:
    """Keep the server until it has ended and is not to be started again."""
    folder = Path(request.folder)
    one = Supervisor(request, again=False)
    keeper.run(one, ready)
    one = _follow_on(one)
    while _again(folder, one):
        one.release()
        try:
            made = record.load(folder)
            if made.spec.token_file:
                tokens.write(made)
            request = _relaunch(request, made)
            one = Supervisor(request, again=True)
            one.start()
            restarts.settled(folder)
        except (OSError, DeckError, record.Unreadable) as error:
            # Nobody waits for this any more: the service's own log is where it is looked for.
            _complain(Path(request.log), f"could not be started again: {error}")
            restarts.settled(folder)
            return
        one.wait()
        one = _follow_on(one)
    _forget_token(folder)


def _follow_on(one: Supervisor) -> Supervisor:
    """Follow a container again whose follower was killed; returns when it has really ended."""
    from console.runtimes import containers

    for _ in range(_FOLLOWERS):
        if one.asked or not containers.unfollowed(one.folder):
            break
        one.release()
        one = Supervisor(one.request, again=False)
        one.start()
        one.wait()
    return one


def _again(folder: Path, ended: Supervisor) -> bool:
    """Whether to start it again; waits until that is due."""
    stopping = folder / "stopping"
    if ended.asked or stopping.exists() or ended.status == 0:
        return False
    spec = record.load(folder).spec
    due = restarts.after_crash(folder, spec).next
    if due is None:
        return False
    (folder / "ready").unlink(missing_ok=True)
    # What stands in the folder is wall time, for people; somebody who sets the clock moves no restart.
    for _ in looks(due - time.time(), 0.1):
        told = signal.sigtimedwait(keeper.Keeper.SIGNALS, 0)
        if told and told.si_signo in (signal.SIGTERM, signal.SIGINT):
            stopping.touch(mode=0o600)
        if stopping.exists():
            break
    if stopping.exists():
        restarts.settled(folder)
        return False
    return True


def call_off(folder: Path) -> None:
    """End a supervisor that waits to start its server again; returns when it is gone."""
    waiting = keeper.look(folder).keeper
    for _ in looks(5, 0.03):
        if waiting is None or not waiting.alive or restarts.read(folder).next is None:
            return  # gone, or it has just started the server, which is ended as any other
        waiting.signal(signal.SIGTERM)


def _relaunch(request: keeper.Request, made: record.Record) -> keeper.Request:
    """The same command once more; a container is a new one, under the same owner."""
    if not made.spec.process.image:
        return request
    command = _in_container(Path(request.folder), made.spec, made.values, request.env)
    return replace(request, argv=tuple(command.argv), env=dict(command.env))


def _forget_token(folder: Path) -> None:
    """The token of a server that has ended opens nothing; it need not lie there."""
    try:
        tokens.remove(record.load(folder))
    except record.Unreadable:
        pass  # no token file is known then


def _complain(log: Path, words: str) -> None:
    handle = storage.open_log(log)
    try:
        os.write(handle, f"tritondeck: {clean(words)}\n".encode())
    finally:
        os.close(handle)


def main() -> NoReturn:
    def work(raw: dict[str, Any], ready: detach.Ready) -> None:
        keep(keeper.request_of(raw), ready)

    detach.detached(work)


if __name__ == "__main__":
    main()
