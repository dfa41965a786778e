"""Looks whether a server that seems well still answers; runs beside it, in its supervisor.

Triton's own state hides two deaths: a model whose process was killed stays READY, and its ready
endpoint says 200. A look at the processes finds such a one within seconds; the request that verified
the model, sent again from time to time, finds everything else. What was found stands in
``health.json``. A thread, because the supervisor reaps every child: nothing is started from here.
"""

from __future__ import annotations

import threading
import time
import urllib.error
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from console import processes, storage
from console.facts import DeckError, InferenceRequest, TensorValue
from console.planning.plan import Inference, TextAnswered
from console.services import record
from console.text import clean
from console.triton.health import model_ready

REPORT, PROBES = "health.json", "probes.json"
VERSION = 1
LOOK_SECONDS = 3.0
_READY = 10.0
"""Seconds for whether a model is loaded: what is found wrong is told until the next request."""
_STUB = "triton_python_backend_stub"
_STUB_COMM = _STUB[:15]
"""As the kernel shortens it; a zombie has no other name."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the last look found. Times are seconds of the wall clock."""

    looked: float = 0.0
    answered: float | None = None
    """When a real request was last answered rightly."""
    latency: float | None = None
    problems: tuple[str, ...] = ()
    """Why it does not serve as it should, in words; empty when it does."""
    oom_kills: int = 0
    """Processes that the kernel ended for want of memory since the server started."""


def read(folder: Path) -> Report:
    """What was last found about the server of `folder`."""
    raw = storage.read_json(folder / REPORT)
    if raw is None or raw.pop("version", None) != VERSION:
        return Report()
    return Report(**{**raw, "problems": tuple(raw.get("problems", ()))})


def write(folder: Path, report: Report) -> None:
    data = storage.json_bytes({"version": VERSION, **asdict(report)})
    storage.write_private(folder / REPORT, data, durable=False)


def save_probes(
    folder: Path, deployment: str, probes: tuple[Inference | TextAnswered, ...]
) -> None:
    """Keep the requests that verified a deployment; the server has just answered them."""
    value = _saved(folder)
    value[deployment] = [probe.model_dump(mode="json") for probe in probes]
    storage.write_json(folder / PROBES, {"version": VERSION, "deployments": value})
    now = time.time()
    write(folder, Report(looked=now, answered=now))


def ask(folder: Path) -> float | None:
    """Send the saved requests; seconds of the slowest, None when there was nothing to ask.

    Models that are not loaded are not asked: that somebody unloaded one is no fault. Raises
    `DeckError` with what is wrong. Also for a server without a supervisor of ours (an attached
    one), which nothing else watches.
    """
    made = record.load(folder)
    slowest: float | None = None
    for probe in _probes(folder):
        if isinstance(probe, Inference) and not model_ready(
            made.endpoint, probe.model, timeout=_READY
        ):
            continue
        started = time.monotonic()
        problem = (
            _infer(made, probe) if isinstance(probe, Inference) else _text_problem(made, probe)
        )
        if problem:
            raise DeckError(f"{probe.title}: {clean(problem)[:300]}")
        slowest = max(slowest or 0.0, time.monotonic() - started)
    return slowest


def refresh(folder: Path) -> None:
    """Ask again when the last answer is older than the probe interval; what came of it is written."""
    interval = record.load(folder).spec.probe_seconds
    before, now = read(folder), time.time()
    if not interval or now - before.looked < interval:
        return
    try:
        took = ask(folder)
    except DeckError as error:
        write(folder, replace(before, looked=now, problems=(str(error),)))
        return
    answered = before.answered if took is None else now
    write(folder, Report(now, answered, took, oom_kills=before.oom_kills))


def _saved(folder: Path) -> dict[str, Any]:
    raw = storage.read_json(folder / PROBES)
    if raw is None or raw.get("version") != VERSION:
        return {}
    return dict(raw["deployments"])


def _probes(folder: Path) -> tuple[Inference | TextAnswered, ...]:
    kinds: dict[str, type[Inference] | type[TextAnswered]] = {
        "inference": Inference,
        "text": TextAnswered,
    }
    saved = _saved(folder).values()
    return tuple(kinds[one["kind"]].model_validate(one) for mine in saved for one in mine)


def _infer(made: record.Record, probe: Inference) -> str | None:
    return _infer_ours(made, probe) if made.endpoint.ours else _infer_theirs(made, probe)


def _infer_ours(made: record.Record, probe: Inference) -> str | None:
    """By the script's own helper: standard library alone, for the supervisor stays small."""
    from console.planning import script_helper

    spec, files = probe.indexed()
    try:
        outputs = script_helper.infer(made.endpoint.url, spec, files)
        # Also in here: the files with what is expected may have been removed since.
        return script_helper.answer_problem(outputs, spec["expect"], files)
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code} {error.read(2000).decode(errors='replace')}"
    except (OSError, ValueError) as error:
        return str(error)


def _infer_theirs(made: record.Record, probe: Inference) -> str | None:
    """With the token and the certificates that an attached server wants."""
    from console.triton.inference import infer
    from console.triton.verify import judge

    tensors = tuple(
        TensorValue(t.name, t.dtype, t.shape, t.values, Path(t.file) if t.file else None)
        for t in probe.inputs
    )
    try:
        answer = infer(made.endpoint, InferenceRequest(probe.model, tensors), probe.timeout)
    except DeckError as error:
        return str(error)
    return judge(answer, probe.expect)


def _text_problem(made: record.Record, probe: TextAnswered) -> str | None:
    """Why there is no answer, or it is an error in words. Which text it is does not count: the requests
    that a server takes together move the last bits of its figures."""
    from console.planning.script_helper import no_answer, text_of
    from console.triton.plain_http import request

    try:
        answer = request(
            made.endpoint, probe.path, method="POST", payload=probe.body, timeout=probe.timeout
        )
        if not answer.ok:
            return f"HTTP {answer.status} {answer.words}"
        return no_answer(text_of(answer.json(), probe.answer), probe.model_dump())
    except DeckError as error:
        return str(error)


# ---------------------------------------------------------------------------- processes


@dataclass
class Stubs:
    """The model processes of a server: who they were, and which of them have died."""

    known: dict[int, str] = field(default_factory=dict)
    """Process id to the model's name, of stubs that were seen alive."""

    def dead(self, server: int) -> tuple[str, ...]:
        """Models that have lost a process: Triton does not reap it, so it stays as a zombie. An empty
        name where it died before it was ever seen alive."""
        gone = []
        below = processes.descendants(server, processes.children_of_all(zombies=True))
        for pid in below:
            if name := _model_of(pid):
                self.known[pid] = name
            elif _is_dead_stub(pid):
                gone.append(self.known.get(pid, ""))
        self.known = {pid: name for pid, name in self.known.items() if pid in below}
        return tuple(sorted(set(gone)))


def _model_of(pid: int) -> str:
    """The model that a living stub runs, by its first argument ``…/MODEL/VERSION/model.py``."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    if len(words) < 2 or Path(words[0].decode(errors="replace")).name != _STUB:
        return ""
    parts = Path(words[1].decode(errors="replace")).parts
    return clean(parts[-3]) if len(parts) >= 3 else "unknown"


def _is_dead_stub(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    name = text[text.find("(") + 1 : text.rfind(")")]
    return name == _STUB_COMM and text[text.rfind(")") + 2] in "ZX"


def oom_kills() -> int:
    """How many processes the kernel has ended for want of memory since it booted."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass  # hidden in some containers; a death is then told without this cause
    return 0


# ---------------------------------------------------------------------------- the thread


class Watcher(threading.Thread):
    """Looks at the server of `folder` until `end` is called.

    `first` is done before: what a restart needs. `pid` tells the process whose descendants to look at
    (0: none can be seen from here), `ooms` how many processes the kernel has ended for want of memory.
    """

    def __init__(
        self,
        folder: Path,
        pid: Callable[[], int],
        ooms: Callable[[], int],
        first: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self.folder = folder
        self.pid = pid
        self.first = first
        self.over = threading.Event()
        self.stubs = Stubs()
        self.ooms = ooms
        self.asked = time.monotonic()

    def end(self) -> None:
        """No look and no request after this, but for one that is under way."""
        self.over.set()

    def run(self) -> None:
        try:
            self.first()
            made = record.load(self.folder)
            while not self.over.wait(LOOK_SECONDS):
                if (self.folder / "ready").exists():
                    self.look(made.spec.probe_seconds)
                elif pid := self.pid():
                    self.stubs.dead(pid)  # who they are: a zombie has no name
        except (DeckError, OSError, record.Unreadable) as error:
            # The server goes on: only what is told about it is missing, and that is told.
            write(self.folder, Report(time.time(), problems=(clean(str(error)),)))

    def look(self, interval: float) -> None:
        """One look; asks the models when it is time, or when the processes give reason to."""
        before = read(self.folder)
        ooms, pid = self.ooms(), self.pid()
        why = ", for want of memory (OOM)" if ooms > before.oom_kills or before.oom_kills else ""
        problems = [
            f"the process of {f'model {name}' if name else 'a model'} has died{why}: unload and "
            "load it, or restart"
            for name in (self.stubs.dead(pid) if pid else ())
        ]
        due = interval > 0 and time.monotonic() - self.asked >= interval
        answered, latency, looked = before.answered, before.latency, before.looked
        if due and not self.over.is_set():
            self.asked = time.monotonic()
            looked = time.time()
            try:
                took = ask(self.folder)
                if took is not None:
                    latency, answered = took, time.time()
            except DeckError as error:
                problems.append(str(error))
        elif not due:
            # What the last request found holds until the next one.
            dead = "the process of "
            problems += [p for p in before.problems if not p.startswith(dead)]
        found = Report(looked, answered, latency, tuple(dict.fromkeys(problems)), ooms)
        if found != before:
            write(self.folder, found)
