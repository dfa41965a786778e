"""The costly figures of every GPU, and all classes put together without waiting for one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from console.telemetry import figures
from console.telemetry.gpus import COSTLY_SECONDS, FastGpus, Figures, Instance
from console.telemetry.nvml import RETRY_SECONDS, Fault
from console.telemetry.rates import Rate
from console.telemetry.reading import GpuReading, MigReading
from console.text import clean

RENEW_LIMIT = 300.0
"""Longest pause between two initialisations for a GPU that stays lost."""
USE_SECONDS = 6.0
"""How far back samples of processor use by process count."""


class SlowGpus:
    """Limits, ECC, MIG, NVLink, use by process, and what is slow only now; brings lost GPUs back."""

    def __init__(self, fast: FastGpus, wall: Callable[[], float] = time.time) -> None:
        self._fast = fast
        self._wall = wall
        self._nvml = fast.nvml
        self._clock = fast.clock
        self._renew_at = 0.0
        self._renew_pause = RETRY_SECONDS
        self._rates: dict[tuple[int, str], Rate] = {}
        self.figures: Mapping[int, Figures] = {}
        self.use: Mapping[tuple[int, int], int] = {}
        """GPU and pid to percent of the multiprocessors."""
        self.versions = ("", "")
        self._told = 0
        """Generation of the library that told the versions."""

    def read(self) -> None:
        if self._fast.look.figures and self._told != self._nvml.generation:
            self.versions, self._told = self._nvml.versions(), self._nvml.generation
        found: dict[int, Figures] = {}
        use: dict[tuple[int, int], int] = {}
        for index in sorted(self._fast.look.figures):
            with self._nvml.using():
                if index in self._fast.shunned:
                    self._revive(index)
                elif index not in self._fast.lost_since:
                    found[index] = self._slowly(index)
                    use |= self._use(index, found[index])
        self.figures, self.use = found, use
        self._renew_for_lost()

    def _slowly(self, index: int) -> Figures:
        result = Figures(self._clock())
        handle, fault = self._nvml.handle(index)
        if fault:
            return result
        for question in figures.slow():
            result.put(question.fields, question.put(self._nvml, handle))
        counters = figures.nvlink()
        answers = counters.put(self._nvml, handle)
        now = self._clock()
        for name, answer in zip(counters.fields, answers, strict=True):
            rate = self._rates.setdefault((index, name), Rate())
            known = answer if isinstance(answer, int) else None
            per_second = rate.whole(known, now)
            result.put((name,), (answer if isinstance(answer, Fault) else per_second,))
        self._fast.instances[index] = self._mig(handle) if result.values.get("mig_mode") else ()
        for at, question in [pair for pair in tuple(self._fast.costly) if pair[0] == index]:
            began = self._clock()
            answers = question.put(self._nvml, handle)
            result.put(question.fields, answers)
            if self._clock() - began < COSTLY_SECONDS / 2:
                self._fast.costly.discard((at, question))
        result.at = self._clock()
        return result

    def _use(self, index: int, result: Figures) -> dict[tuple[int, int], int]:
        here = {process.pid for process in self._fast.look.processes if process.gpu == index}
        if not here:  # the driver takes 3 ms to say that nothing runs
            return {}
        handle, fault = self._nvml.handle(index)
        now = self._wall()
        since = max(0, int((now - USE_SECONDS) * 1e6))
        samples: Any = ()
        if fault is None:
            samples, fault = self._nvml.ask("nvmlDeviceGetProcessUtilization", handle, since)
        if fault and fault.code != "NOT_FOUND":
            result.problems["sm"] = fault.words
            return {}
        # A process without a sample did not use the processors; one sample a process, the newest.
        use = {(index, pid): 0 for pid in here}
        for sample in sorted(samples or (), key=lambda s: int(s.timeStamp)):
            if sample.pid and sample.smUtil <= 100 and sample.timeStamp <= (now + 5) * 1e6:
                use[index, sample.pid] = int(sample.smUtil)
        return use

    def _mig(self, handle: Any) -> tuple[Instance, ...]:
        most, fault = self._nvml.ask("nvmlDeviceGetMaxMigDeviceCount", handle)
        found = []
        for slot in range(most if fault is None else 0):
            device, fault = self._nvml.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, slot)
            if fault:  # an empty slot
                continue
            gpu, _ = self._nvml.ask("nvmlDeviceGetGpuInstanceId", device)
            compute, _ = self._nvml.ask("nvmlDeviceGetComputeInstanceId", device)
            uuid, _ = self._nvml.ask("nvmlDeviceGetUUID", device)
            name, _ = self._nvml.ask("nvmlDeviceGetName", device)
            profile = clean(name or "").rpartition("MIG ")[2]
            found.append(
                Instance(MigReading(slot, gpu, compute, clean(uuid or ""), profile), device)
            )
        return tuple(found)

    def _revive(self, index: int) -> None:
        """Let the fast look ask a lost GPU again once it answers quickly."""
        began = self._clock()
        handle, fault = self._nvml.handle(index)
        if fault is None:
            _, fault = self._nvml.memory(handle)
        if fault:
            self._nvml.drop(index)
        if self._clock() - began < COSTLY_SECONDS:
            self._fast.shunned.discard(index)

    def _renew_for_lost(self) -> None:
        """NVML sees a GPU that was reset only after it was initialised anew."""
        now, lost = self._clock(), tuple(self._fast.lost_since.values())
        if not lost:
            self._renew_at, self._renew_pause = 0.0, RETRY_SECONDS
        elif now - min(lost) > RETRY_SECONDS and now >= self._renew_at and self._nvml.renew():
            self._renew_at = now + self._renew_pause
            self._renew_pause = min(2 * self._renew_pause, RENEW_LIMIT)


class PcieTurns:
    """PCIe throughput, which the driver measures over 20 ms: one GPU a turn."""

    def __init__(self, fast: FastGpus) -> None:
        self._fast = fast
        self._nvml = fast.nvml
        self._turn = 0
        self.figures: dict[int, Figures] = {}
        self.whole = False
        """Whether every GPU had its turn."""

    def read(self) -> None:
        """The next GPU: 42 ms of waiting in the driver."""
        indices = sorted(set(self._fast.look.figures) - set(self._fast.lost_since))
        if not indices:
            self.whole = True
            return
        index = indices[self._turn % len(indices)]
        self._turn += 1
        result = Figures()
        for question in figures.windowed():
            with self._nvml.using():
                handle, fault = self._nvml.handle(index)
                if fault is None:
                    result.put(question.fields, question.put(self._nvml, handle))
        result.at = self._fast.clock()
        self.figures[index] = result
        self.whole = self.figures.keys() >= set(indices)


def readings(
    fast: FastGpus, slow: SlowGpus, pcie: PcieTurns, since: float
) -> tuple[GpuReading, ...]:
    """The newest of every class; slow and windowed figures from before `since` are left out."""
    found = []
    for index, look in fast.look.figures.items():
        _, uuid, name = fast.known.get(index, (0, "", ""))
        if "state" in look.problems:
            found.append(GpuReading(index, uuid, name, "lost", problems=look.problems))
            continue
        others = (slow.figures.get(index), pcie.figures.get(index))
        values, problems = look.merged(one for one in others if one and one.at >= since)
        found.append(GpuReading(index, uuid, name, **values, problems=problems))
    return tuple(found)
