"""The run's recorder: every second into the run's recording, and reading it back.

Runs of earlier versions have ``telemetry.jsonl`` instead, which is still read.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from console.settings import RecordSettings
from console.telemetry.recording import Recorded, Unreadable
from console.telemetry.sample import GpuSample, Sample
from console.telemetry.telemetry import Telemetry
from console.triton.recorder import ViewRecorder, limits

INTERVAL = 1.0
OLD = "telemetry.jsonl"
_GPU = ("index", "name", "memory_total", "memory_used", "utilisation")


class Recorder(threading.Thread):
    """Samples until `stop`. A disk that takes no more ends the recording, not the run."""

    def __init__(self, path: Path, run: str, settings: RecordSettings) -> None:
        super().__init__(name="telemetry", daemon=True)
        self.run_id = run
        self.enabled = settings.enabled
        self._into = ViewRecorder(path, f"run {run}", limits(settings))
        self._lock = threading.Lock()
        self._tree: int | None = None
        self._ended = threading.Event()

    @property
    def problem(self) -> str:
        return self._into.problem

    def watch(self, pid: int | None) -> None:
        """The root of the process tree whose memory is the step's."""
        self._tree = pid

    def mark(self, text: str) -> None:
        """A step began or ended now."""
        if self.enabled:
            with self._lock:
                self._into.mark("step", text, self.run_id)

    def run(self) -> None:
        if not self.enabled:
            return
        telemetry = Telemetry(INTERVAL, owners=self._owners)
        telemetry.start()
        try:
            reading = None
            while not self._ended.is_set():
                found = telemetry.wait(reading, INTERVAL)
                if found is None:
                    continue
                reading = found
                with self._lock:
                    if not self._ended.is_set():  # or it would be opened again
                        self._into.add(reading)
        finally:
            telemetry.close()

    def _owners(self) -> Mapping[int, str]:
        return {self._tree: self.run_id} if self._tree is not None else {}

    def stop(self) -> None:
        self._ended.set()
        if self.is_alive():
            self.join(timeout=5)
        with self._lock:
            problem = self._into.problem
            self._into.close()
            self._into.problem = self._into.problem or problem


def read(path: Path) -> tuple[Sample, ...]:
    """Every whole sample, oldest first; nothing where there is no recording."""
    if not path.is_file():
        return _read_old(path.with_name(OLD))
    try:
        recorded = Recorded(path)
    except Unreadable:
        return ()
    try:
        return tuple(
            _sample(flat) for span in recorded.spans() for flat in recorded.samples(span, _WANTED)
        )
    finally:
        recorded.close()


_WANTED = ("reading/time", "reading/host/", "reading/gpu", "reading/trees/0/memory")


def _sample(flat: Mapping[str, Any]) -> Sample:
    count = int(flat.get("reading/gpus/#") or 0)
    gpus = (
        {name: flat.get(f"reading/gpus/{i}/{name}") for name in _GPU}
        | {"problem": flat.get(f"reading/gpus/{i}/problems/state") or ""}
        for i in range(count)
    )
    return Sample(
        time=flat["reading/time"],
        host_used=flat.get("reading/host/memory_used") or 0,
        host_total=flat.get("reading/host/memory_total") or 0,
        cpu_percent=flat.get("reading/host/cpu_percent") or 0.0,
        gpus=tuple(GpuSample(**gpu) for gpu in gpus),
        gpu_note=flat.get("reading/gpu_note") or "",
        tree_rss=flat.get("reading/trees/0/memory"),
    )


def _read_old(path: Path) -> tuple[Sample, ...]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    return tuple(_old_samples(data))


def _old_samples(data: bytes) -> Iterator[Sample]:
    for line in data.split(b"\n"):
        try:
            raw = json.loads(line)
            gpus = tuple(GpuSample(**gpu) for gpu in raw.pop("gpus"))
            yield Sample(**raw, gpus=gpus)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # torn, or of another version
