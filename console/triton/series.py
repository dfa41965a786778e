"""The figures of a moment that have a history, by name: ``KIND/WHICH/FIGURE``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from console.telemetry.reading import Reading
from console.triton.reading import ServerReading

HOST = {
    "cpu": "cpu_percent",
    "memory": "memory_used",
    "swap": "swap_used",
    "shm": "shm_used",
    "receive": "network_rx",
    "send": "network_tx",
}
GPU = {
    "memory": "memory_used",
    "utilisation": "utilisation",
    "power": "power",
    "temperature": "temperature",
    "clock": "sm_clock",
    "pcie_receive": "pcie_rx",
    "pcie_send": "pcie_tx",
}
MODEL = ("requests", "failures", "latency", "queue", "compute", "batch", "pending")
GENERATION = ("tokens", "running", "first_token", "kv_cache")


def values(reading: Reading, servers: Sequence[ServerReading]) -> dict[str, float | None]:
    """Every series of one moment. A server that is away has its series, with None."""
    return dict(_values(reading, servers))


def _values(
    reading: Reading, servers: Sequence[ServerReading]
) -> Iterator[tuple[str, float | None]]:
    for name, attribute in HOST.items():
        yield f"host/{name}", getattr(reading.host, attribute)
    for gpu in reading.gpus:
        for name, attribute in GPU.items():
            yield f"gpu/{gpu.index}/{name}", getattr(gpu, attribute)
    for tree in reading.trees:
        yield f"tree/{tree.owner}/memory", tree.memory
        yield f"tree/{tree.owner}/gpu_memory", tree.gpu_memory
    for server in servers:
        yield from _server(server)


def _server(server: ServerReading) -> Iterator[tuple[str, float | None]]:
    yield f"server/{server.name}/requests", server.requests
    yield f"server/{server.name}/failures", server.failures
    yield f"server/{server.name}/pending", server.pending
    yield f"server/{server.name}/latency", server.latency
    if server.generation is not None:
        for name in GENERATION:
            yield f"server/{server.name}/{name}", getattr(server.generation, name)
    for model in server.models:
        for name in MODEL:
            yield f"model/{server.name}/{model.name}/{name}", getattr(model, name)
