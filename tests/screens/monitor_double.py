"""A monitor source with made-up figures, for what no test machine can show: sixteen GPUs, a recording.

Figures are functions of time, so that live and replayed moments agree and pictures stand still.
"""

from __future__ import annotations

import math
from dataclasses import replace

from console.desk.monitor import Curve, Mark, MonitorView
from console.telemetry.reading import (
    GpuProcess,
    GpuReading,
    HostReading,
    MigReading,
    ProcessTree,
    Reading,
)
from console.triton.reading import GenerationReading, ModelReading, ServerReading
from console.triton.series import values
from tests.screens.desk_double import NOW

GIB = 2**30
LENGTH = 3600.0


def wave(time: float, period: float, phase: float = 0.0) -> float:
    """0 to 1."""
    return 0.5 + 0.5 * math.sin(2 * math.pi * (time / period + phase))


class MonitorDouble:
    """`MonitorSource` with `gpus` GPUs; `poison` stands in every string that is not ours."""

    def __init__(self, gpus: int = 8, *, live: bool = True, poison: str = "") -> None:
        self._gpus = gpus
        self._live = live
        self._poison = poison
        self.now = NOW
        self.time = NOW if live else NOW - LENGTH
        self.closed = False
        self.lost: set[int] = set()
        self.servers = True
        self._past: dict[float, dict[str, float | None]] = {}

    @property
    def live(self) -> bool:
        return self._live

    @property
    def interval(self) -> float:
        return 1.0

    def snapshot(self) -> MonitorView:
        return self.at(self.time)

    def seek(self, time: float | None) -> MonitorView:
        if not self._live:
            self.time = min(NOW, max(NOW - LENGTH, NOW if time is None else time))
        return self.snapshot()

    def close(self) -> None:
        self.closed = True

    def series(self) -> tuple[str, ...]:
        return ("host/cpu", "host/memory", *(f"gpu/{n}/memory" for n in range(self._gpus)))

    def history(self, series: str, span: float, points: int = 0) -> Curve:
        count = points or int(span)
        start, step = self.time - span, span / count
        moments = [start + (n + 1) * step for n in range(count)]
        found = tuple(self._was(m).get(series) if m > NOW - LENGTH else None for m in moments)
        return Curve(series, start, self.time, found)

    def marks(self, span: float) -> tuple[Mark, ...]:
        said = [
            Mark(NOW - 3000, "step", "export", "llama31-8b"),
            Mark(NOW - 1500, "step", "build engine", "llama31-8b"),
            Mark(NOW - 420, "model", "llama READY" + self._poison, "llama31-8b"),
            Mark(NOW - 180, "action", "load digits", "digits"),
        ]
        return tuple(mark for mark in said if self.time - span <= mark.time <= self.time)

    def _was(self, time: float) -> dict[str, float | None]:
        if time not in self._past:
            view = self.at(time)
            assert view.reading is not None
            self._past[time] = values(view.reading, view.servers)
        return self._past[time]

    # -- one moment

    def at(self, time: float) -> MonitorView:
        reading = Reading(
            time,
            time,
            tuple(self._gpu(n, time) for n in range(self._gpus)),
            "" if self._gpus else "no NVIDIA driver (libnvidia-ml.so.1 was not found)",
            "580.159.03" if self._gpus else "",
            "13.0" if self._gpus else "",
            self._host(time),
            tuple(self._processes()) if self._gpus else (),
            self._trees(),
        )
        return MonitorView(
            time,
            reading,
            self._servers(time) if self.servers else (),
            NOW - LENGTH,
            NOW,
            self._live,
            "" if self._live else "llama31-8b run 3 on gpu-07" + self._poison,
        )

    def _gpu(self, n: int, time: float) -> GpuReading:
        if n in self.lost:
            problems = {"state": "GPU is lost: reset it or restart the machine"}
            return GpuReading(n, name="NVIDIA H200", state="lost", problems=problems)
        loaded = n < max(1, self._gpus // 2)
        since = max(0.0, time - (NOW - 1500)) / 1500
        level = (
            0.1 + 0.65 * min(1.0, since * 1.6) + 0.04 * wave(time, 240, n / 7) if loaded else 0.004
        )
        used = int(141 * GIB * level)
        utilisation = round(30 + 65 * wave(time, 97, n / 5)) if loaded and since else 0
        hot = n == 1 and self._gpus > 1
        mig: tuple[MigReading, ...] = ()
        if n == 7:
            mig = tuple(
                MigReading(i, i + 7, 0, f"MIG-{i}", "3g.71gb", 71 * GIB, (3 + 20 * i) * GIB)
                for i in range(2)
            )
        return GpuReading(
            n,
            f"GPU-{n}",
            "NVIDIA H200" + self._poison,
            memory_total=141 * GIB,
            memory_used=used,
            memory_free=141 * GIB - used,
            utilisation=utilisation,
            sm_clock=1980 if loaded else 345,
            power=120 + 5.6 * utilisation,
            power_limit=700,
            temperature=34 + utilisation // 2 + (6 if hot else 0),
            throttle=("power cap",) if hot else (),
            pcie_tx=1_200_000_000 if loaded else 0,
            pcie_rx=340_000_000 if loaded else 0,
            mig_mode=n == 7,
            mig=mig,
        )

    def _host(self, time: float) -> HostReading:
        return HostReading(
            cpu_percent=round(18 + 30 * wave(time, 310)),
            cores=(20.0,) * 64,
            load=(12.4, 11.0, 9.1),
            memory_total=512 * GIB,
            memory_used=int((180 + 40 * wave(time, 900)) * GIB),
            network_rx=12_400_000,
            network_tx=3_100_000,
        )

    def _processes(self) -> list[GpuProcess]:
        p = self._poison
        found = [
            GpuProcess(
                40_210 + n,
                n,
                int((98.2 - 3 * n) * GIB),
                88 - n,
                "compute",
                "triton" + p,
                f"tritonserver --model-repository=/srv/llama{p} rank {n}",
                "llama31-8b",
                NOW - 400,
            )
            for n in range(max(1, self._gpus // 2))
        ]
        found.append(
            GpuProcess(
                7211, self._gpus - 1, 3 * GIB, 2, "compute", "ana", "python train.py --lr 3e-4"
            )
        )
        found.append(GpuProcess(9911, 0, 512 * 2**20, None, problem="of another container"))
        return found

    def _trees(self) -> tuple[ProcessTree, ...]:
        on_gpu = ProcessTree("llama31-8b", 40_210, (40_210, 40_215), 31 * GIB, 240.0, 98 * GIB)
        digits = ProcessTree("digits", 3310, (3310, 3322, 3340), int(0.41 * GIB), 3.0)
        return (on_gpu, digits) if self._gpus else (digits,)

    def _servers(self, time: float) -> tuple[ServerReading, ...]:
        p = self._poison
        busy = round(35 + 12 * wave(time, 130), 1)
        digits = ModelReading("digits" + p, "1", "READY", requests=4.2, failures=0.0, batch=1.6,
                              latency=0.019, queue=0.0004, compute=0.0183, pending=0,
                              cache_hits=3.0, cache_misses=1.0, total_requests=18_204)  # fmt: skip
        llama = ModelReading("llama", "2", "READY", requests=busy, failures=0.0, batch=5.9,
                             latency=0.213, queue=0.0008, compute=0.212, pending=3,
                             total_requests=1_204_881)  # fmt: skip
        pre = replace(
            llama, name="preprocessing", version="1", compute=0.0019, batch=1.0, pending=0
        )
        draft = ModelReading("draft", "", "LOADING")
        failed = ModelReading("clip", "1", "UNAVAILABLE", "onnxruntime: no such file")
        told = GenerationReading(
            6, 2, 812.0, 431.0, 0.038, 0.016, 0.42, 2.4, 1.9, 0.012, 8821, 912_400
        )
        return (
            ServerReading("llama31-8b", "http://127.0.0.1:8010", ours=True, time=time, live=True,
                          ready=False, since=NOW - 400, models=(llama, pre, draft)),
            ServerReading("digits", "http://127.0.0.1:8000", ours=True, time=time, live=True,
                          ready=True, since=NOW - 9000, models=(digits, failed)),
            ServerReading("vllm-a", "http://10.0.0.7:8020", "openai", time=time, live=True,
                          ready=True, since=NOW - 9000, generation=told),
            ServerReading("old", "http://10.0.0.9:8000", time=time, since=NOW - 700,
                          problem="connection refused"),
        )  # fmt: skip
