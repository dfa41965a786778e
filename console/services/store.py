"""Start, adopt, view and stop servers. Every one has a folder under the state folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from console import keeper, processes, storage
from console.facts import Progress, Refused, UsageError
from console.planning.deployment import check_name
from console.planning.plan import Inference, ServiceSpec, TextAnswered
from console.runtimes import containers
from console.services import ports, record, sampling, supervisor, tokens, watch
from console.services.model import ServiceState, ServiceView
from console.services.record import MANIFEST, Record
from console.services.supervisor import remove_regions
from console.settings import Settings, private_folder
from console.text import clean

_ANSWERS = 10.0
"""Seconds in which a living server has to answer to be taken up; one that is only busy is not ended."""
_ENDED_KEPT = 5
"""Ended services of a deployment whose folders stay, for their logs."""


class ServiceStore:
    """The services folder. Holds no state of its own: any number of these may exist at once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.folders.services

    # -- looking ------------------------------------------------------------------------

    def views(self) -> tuple[ServiceView, ...]:
        """Every service of ours, living ones first, then the newest first."""
        try:
            found = [record.view(f) for f in self._folders()] if self.folder.is_dir() else []
        except OSError as error:
            raise storage.storage_error(error, Path(error.filename or self.folder)) from error
        return tuple(sorted(found, key=lambda v: (not v.living, -v.started)))

    def view(self, name_or_id: str) -> ServiceView:
        """A service by id, or the newest one of a deployment; `UsageError` when there is none."""
        for view in (views := self.views()):
            if view.id == name_or_id:
                return view
        mine = [view for view in views if view.deployment == name_or_id]
        if mine:
            return mine[0]
        known = ", ".join(sorted({view.deployment for view in views if view.deployment}))
        raise UsageError(
            f"no service {clean(name_or_id)}",
            why=f"known: {known}" if known else "nothing has been served yet",
        )

    def values(self, service_id: str) -> dict[str, str]:
        """The values that a service was started with: its ports and its token file."""
        return dict(self._record(service_id).values)

    # -- starting -----------------------------------------------------------------------

    def start(
        self,
        spec: ServiceSpec,
        values: Mapping[str, str],
        deployment: str,
        progress: Progress | None = None,
        beside: frozenset[str] = frozenset(),
    ) -> str:
        """Start the server, or adopt the living one of `deployment` when it is the same; its id.

        Port variables with value ``0`` are found free. A fresh token goes into the service's folder
        and `token_file` names it; `values(id)` tells what was used. Returns when the process runs,
        which is before it answers; call `mark_ready` when it does. A living server that differs is
        stopped first, but for those of other names that `beside` holds: a deployment may have a server
        behind the one that people ask.
        """
        check_name(deployment)
        try:
            private_folder(self.settings.folders.state)
            private_folder(self.folder)
            with self._alone(f".{deployment}.lock", f"another start of {deployment} is under way"):
                adopted = ""
                for old in self.views():
                    if old.deployment != deployment or not old.living:
                        continue
                    if (name := self._record(old.id).spec.name) != spec.name and name in beside:
                        continue
                    if not adopted and self._same(old, spec, values):
                        adopted = old.id
                        if old.endpoint.ours:
                            sampling.start(old.folder, self.settings)
                        continue
                    if progress:
                        progress(f"stopping {old.id}, which has other settings or needs a restart")
                    self._stop(old, progress)
                if adopted:
                    return adopted
                self._prune(deployment)
                return self._launch(spec, values, deployment)
        except OSError as error:
            raise storage.storage_error(error, Path(error.filename or self.folder)) from error

    def mark_ready(self, service_id: str) -> None:
        """Note that the server answered: `starting` becomes `running`."""
        (self.view(service_id).folder / "ready").touch(mode=0o600)

    def mark_broken(self, service_id: str) -> None:
        """Note that only a restart helps (a load that hangs, a dead model): it is not adopted again."""
        (self.view(service_id).folder / "broken").touch(mode=0o600)

    def served(
        self, service_id: str, deployment: str, probes: tuple[Inference | TextAnswered, ...]
    ) -> None:
        """Note that the server has just answered these requests of a deployment; the first is sent
        again from time to time, to see whether it still does. Paths in them are filled in."""
        watch.save_probes(self.view(service_id).folder, deployment, probes[:1])

    def _same(self, old: ServiceView, spec: ServiceSpec, values: Mapping[str, str]) -> bool:
        from console.triton.health import probe

        before = self._record(old.id)
        if old.state is ServiceState.STOPPING or before.spec != spec:
            return False
        if (old.folder / "broken").exists():
            return False
        now = record.asked(spec, {"token_file": "", **values})
        then = record.asked(spec, before.values)
        differs = {name for name in now if now[name] != then.get(name)}
        if any(now[name] != ports.AUTO for name in differs):
            return False
        if record.tools_digest(spec, before.values) != before.tools:
            return False
        # One that has not answered yet is waited for by whoever asked; one that did and stopped
        # answering hangs.
        return old.state is ServiceState.STARTING or probe(old.endpoint, _ANSWERS).live

    def _launch(self, spec: ServiceSpec, values: Mapping[str, str], deployment: str) -> str:
        if spec.command is None:
            return self._attach(spec, values, deployment)
        # Until it runs, and holds its ports by its record, nobody else may choose any.
        with self._alone(".ports", "another server is being started"):
            living = (self._record(view.id) for view in self.views() if view.living)
            chosen = {**values, **ports.settle(spec, values, ports.promised(living))}
            folder, number = self._new_folder(deployment)
            chosen["token_file"] = str(folder / "token")
            made = _record(folder, deployment, number, spec, chosen)
            made.save(folder)
            tokens.write(made)
            remove_regions(made.shm_prefix)
            supervisor.start(folder, spec, chosen, made.shm_prefix, self.settings)
        sampling.start(folder, self.settings)
        return folder.name

    def _attach(self, spec: ServiceSpec, values: Mapping[str, str], deployment: str) -> str:
        """Know somebody else's server; no process is started."""
        folder, number = self._new_folder(deployment)
        _record(folder, deployment, number, spec, {"token_file": "", **values}).save(folder)
        return folder.name

    def _new_folder(self, deployment: str) -> tuple[Path, int]:
        taken = [r.number for r in self._records(deployment)]
        number = max(taken, default=0) + 1
        while True:
            folder = self.folder / f"{deployment}-s{number}"
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                number += 1
                continue
            return folder, number

    # -- stopping -----------------------------------------------------------------------

    def stop(self, name_or_id: str, progress: Progress | None = None) -> ServiceView:
        """Stop a service and wait for its end; one that has ended already is left as it is. The
        servers of its deployment that were started before it stand behind it and end after it.

        An attached server is only forgotten: it is somebody else's. SIGTERM, the spec's
        `stop_timeout`, then SIGKILL to everything that it started.
        """
        try:
            front = self.view(name_or_id)
            mine = [v for v in self.views() if v.deployment == front.deployment and v.living]
            ended = self._stop(front, progress)
            for other in mine:
                if other.id != front.id and other.started <= front.started:
                    self._stop(other, progress)
            return ended
        except OSError as error:
            raise storage.storage_error(error, Path(error.filename or self.folder)) from error

    def _stop(self, view: ServiceView, progress: Progress | None) -> ServiceView:
        if view.state is ServiceState.FOREIGN:
            raise Refused(f"service {view.id} cannot be stopped from here", why=view.reason)
        if not view.living:
            return view
        made = self._record(view.id)
        try:
            (view.folder / "stopping").touch(mode=0o600)
        except OSError as error:
            # Only the shown state needs the mark; a full disk must not keep a server alive.
            if progress:
                progress(f"could not note that it stops: {error.strerror}")
        if made.attached:
            return record.view(view.folder)
        if view.state is ServiceState.RESTARTING:
            supervisor.call_off(view.folder)
        keeper.end(view.folder, made.spec.stop_timeout + (5 if _contained(made) else 0), progress)
        if _contained(made) and containers.unfollowed(view.folder):
            containers.remove(view.folder)  # its follower had been killed, or could not do it
        # Its supervisor has done this, unless it had been killed.
        remove_regions(made.shm_prefix)
        tokens.remove(made)
        return record.view(view.folder)

    def delete(self, service_id: str) -> None:
        """Remove the folder of a service that has ended."""
        view = self.view(service_id)
        if view.living or view.state is ServiceState.FOREIGN:
            raise Refused(f"service {view.id} is {view.state}", fix="stop it first")
        try:
            storage.discard(view.folder, MANIFEST)
        except OSError as error:
            raise storage.storage_error(error, view.folder) from error

    def _prune(self, deployment: str) -> None:
        mine = [v for v in self.views() if v.deployment == deployment and not v.living]
        for view in mine[_ENDED_KEPT - 1 :]:
            if view.state is not ServiceState.FOREIGN:
                storage.discard(view.folder, MANIFEST)

    # -- helpers ------------------------------------------------------------------------

    def _folders(self) -> Iterator[Path]:
        return (f for f in self.folder.iterdir() if (f / MANIFEST).is_file())

    def _record(self, service_id: str) -> Record:
        try:
            return record.load(self.view(service_id).folder)
        except record.Unreadable as problem:
            raise Refused(f"service {clean(service_id)} cannot be used", why=str(problem)) from None

    def _records(self, deployment: str) -> Iterator[Record]:
        for folder in self._folders():
            try:
                found = record.load(folder)
            except record.Unreadable:
                continue  # shown by `views`; its number is taken by its folder
            if found.deployment == deployment:
                yield found

    @contextmanager
    def _alone(self, file: str, held: str) -> Iterator[None]:
        """One at a time: two runs never start two servers of a deployment, nor two at one port."""
        handle = storage.lock(self.folder / file, held, patience=60)
        try:
            yield
        finally:
            os.close(handle)


def _contained(made: Record) -> bool:
    return made.spec.command is not None and bool(made.spec.command.image)


def _record(
    folder: Path, deployment: str, number: int, spec: ServiceSpec, values: Mapping[str, str]
) -> Record:
    return Record(
        id=folder.name,
        deployment=deployment,
        number=number,
        spec=spec,
        values=record.asked(spec, values) | {"token_file": values["token_file"]},
        tools=record.tools_digest(spec, values),
        created=time.time(),
        host=processes.hostname(),
    )
