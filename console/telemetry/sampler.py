"""`Sampler`: one cheap look after the other, for strips and curves."""

from __future__ import annotations

import time

import psutil

from console.telemetry.memory import memory
from console.telemetry.nvml import Nvml, gate
from console.telemetry.sample import Sample


class Sampler:
    """Host memory, processor load, GPU memory and utilisation; nothing slower (see `nvml`).

    One object a curve: processor load is counted since the previous `sample` of this object.
    """

    def __init__(self, nvml: Nvml | None = None) -> None:
        self._nvml = nvml or gate()
        self._times = psutil.cpu_times()

    def sample(self, tree: int | None = None) -> Sample:
        """One look (about a millisecond; with `tree`, a pid, also its and its children's memory)."""
        have = memory()
        gpus, note = self._nvml.sample()
        return Sample(
            time=time.time(),
            host_used=have.total - have.available,
            host_total=have.total,
            cpu_percent=self._load(),
            gpus=gpus,
            gpu_note=note,
            tree_rss=tree_rss(tree) if tree is not None else None,
        )

    def _load(self) -> float:
        """Percent of all processors that worked since the last look."""
        now, before = psutil.cpu_times(), self._times
        self._times = now
        # guest time is part of user time in the kernel's figures
        names = [n for n in now._fields if not n.startswith("guest")]
        spent = {n: max(0.0, getattr(now, n) - getattr(before, n)) for n in names}
        total = sum(spent.values())
        idle = spent.get("idle", 0.0) + spent.get("iowait", 0.0)
        return round(100 * (total - idle) / total, 1) if total > 0 else 0.0


def tree_rss(pid: int) -> int | None:
    """Resident bytes of a process and its descendants; None when it is gone."""
    try:
        root = psutil.Process(pid)
        total: int = root.memory_info().rss
        children = root.children(recursive=True)
    except psutil.Error:  # ended, or not ours to ask
        return None
    for child in children:
        try:
            total += child.memory_info().rss
        except psutil.Error:
            continue  # ended between the two questions
    return total
