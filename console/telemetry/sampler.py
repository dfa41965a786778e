"""`Sampler`: the few figures of a run's strip and curve, one cheap look after the other."""

from __future__ import annotations

import time

import psutil

from console.telemetry.gpus import FastGpus, Figures
from console.telemetry.hostload import HostLoad
from console.telemetry.memory import memory
from console.telemetry.nvml import Nvml, gate
from console.telemetry.sample import GpuSample, Sample


class Sampler:
    """Host memory, processor load, GPU memory and utilisation, without threads.

    One object a curve: processor load is counted since the previous `sample` of this object.
    """

    def __init__(self, nvml: Nvml | None = None) -> None:
        self._gpus = FastGpus(nvml or gate())
        self._host = HostLoad()

    def sample(self, tree: int | None = None) -> Sample:
        """One look (about a millisecond; with `tree`, a pid, also its and its children's memory)."""
        have = memory()
        # No slower thread asks here what took long before: it is asked again, or never.
        self._gpus.costly.clear()
        self._gpus.shunned.clear()
        look = self._gpus.read()
        return Sample(
            time=time.time(),
            host_used=have.total - have.available,
            host_total=have.total,
            cpu_percent=self._host.cpu_percent(),
            gpus=tuple(self._gpu(index, figures) for index, figures in look.figures.items()),
            gpu_note=look.note,
            tree_rss=tree_rss(tree) if tree is not None else None,
        )

    def _gpu(self, index: int, figures: Figures) -> GpuSample:
        told = figures.values
        wanted = ("state", "memory_used", "utilisation")
        return GpuSample(
            index=index,
            name=self._gpus.known.get(index, (0, "", ""))[2],
            memory_total=told.get("memory_total"),
            memory_used=told.get("memory_used"),
            utilisation=told.get("utilisation"),
            problem=next((figures.problems[n] for n in wanted if n in figures.problems), ""),
        )


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
