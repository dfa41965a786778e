"""The telemetry recorder: one sample a second into the run's folder, and reading them back."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict
from pathlib import Path

from console import storage
from console.telemetry.sample import GpuSample, Sample
from console.telemetry.sampler import Sampler

INTERVAL = 1.0


class Recorder(threading.Thread):
    """Samples until `stop`. A disk that takes no more ends the recording, not the run."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="telemetry", daemon=True)
        self.path = path
        self.tree: int | None = None
        """Root of the process tree whose memory is the step's."""
        self.problem = ""
        self._ended = threading.Event()

    def watch(self, pid: int | None) -> None:
        self.tree = pid

    def run(self) -> None:
        sampler = Sampler()
        try:
            handle = storage.open_log(self.path)
            try:
                while True:
                    line = json.dumps(asdict(sampler.sample(self.tree)), separators=(",", ":"))
                    os.write(handle, line.encode() + b"\n")
                    if self._ended.wait(INTERVAL):
                        return
            finally:
                os.close(handle)
        except OSError as error:
            self.problem = f"telemetry ended: {error.strerror}"

    def stop(self) -> None:
        self._ended.set()
        self.join(timeout=5)


def read(path: Path) -> tuple[Sample, ...]:
    """Every whole sample, oldest first; nothing where there is no file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    found = []
    for line in data.split(b"\n"):
        try:
            raw = json.loads(line)
            gpus = tuple(GpuSample(**gpu) for gpu in raw.pop("gpus"))
            found.append(Sample(**raw, gpus=gpus))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # torn, or of another version
    return tuple(found)
