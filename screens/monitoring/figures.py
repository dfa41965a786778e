"""Figures as the monitor says them: coarse enough not to flicker, never jumping in width."""

from __future__ import annotations

import math

from console.desk.monitor import MonitorView
from console.telemetry.reading import GpuReading
from console.triton.reading import ServerReading
from screens.monitoring.trace import Cells

_EIGHTHS = "▁▂▃▄▅▆▇█"


def value(view: MonitorView, series: str) -> float | None:
    """The figure of a series at one moment."""
    kind, _, rest = series.partition("/")
    which, _, figure = rest.rpartition("/")
    if kind == "host":
        return _host(view, figure)
    if kind == "gpu" and view.reading is not None:
        gpu = next((g for g in view.reading.gpus if str(g.index) == which), None)
        return _number(getattr(gpu, _GPU[figure], None)) if gpu and figure in _GPU else None
    if kind == "server":
        server = next((s for s in view.servers if s.name == which), None)
        return value_of_server(server, figure) if server else None
    if kind == "model":
        name, _, wanted = which.partition("/")
        server = next((s for s in view.servers if s.name == name), None)
        model = next((m for m in server.models if m.name == wanted), None) if server else None
        return _number(getattr(model, figure, None)) if model else None
    return None


_GPU = {
    "memory": "memory_used",
    "utilisation": "utilisation",
    "power": "power",
    "temperature": "temperature",
}


def _host(view: MonitorView, figure: str) -> float | None:
    if view.reading is None:
        return None
    host = view.reading.host
    return _number({"cpu": host.cpu_percent, "memory": host.memory_used}.get(figure))


def value_of_server(server: ServerReading, figure: str) -> float | None:
    """A figure of a server: what it tells itself, or the mean of its models by their requests."""
    if figure in ("requests", "failures", "pending"):
        return _number(getattr(server, figure))
    told = [(getattr(m, figure, None), m.requests or 0.0) for m in server.models]
    known = [(v, weight) for v, weight in told if v is not None]
    weights = sum(weight for _, weight in known)
    return sum(v * weight for v, weight in known) / weights if weights else None


def _number(found: float | None) -> float | None:
    return None if found is None else float(found)


def nice(largest: float | None, least: float) -> float:
    """A round upper edge of a scale: 1, 2 or 5 times a power of ten, so that it seldom changes."""
    wanted = max(least, largest or 0.0)
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted)


# ---------------------------------------------------------------------------- words


def sparkline(cells: Cells, top: float | None) -> str:
    """One character a cell; blank where nothing is known. Without a `top` a round one is found."""
    top = top or nice(max((v for v in cells if v is not None), default=0.0), 1.0)
    return "".join(
        " " if v is None else _EIGHTHS[min(7, max(0, int(v / top * 7.99)))] for v in cells
    )


def gib(count: float | None, digits: int = 1) -> str:
    return "–" if count is None else f"{count / 2**30:.{digits if count < 100 * 2**30 else 0}f}"


def memory(used: int | None, total: int | None) -> str:
    """``61.2/141 GiB``."""
    return f"{gib(used)}/{gib(total, 0)} GiB" if total else "–"


def percent(found: float | None) -> str:
    return "–" if found is None else f"{found:.0f} %"


def watts(gpu: GpuReading) -> str:
    """``410/700``: power in steps of ten watts; it never stands still below that."""
    if gpu.power is None:
        return "–"
    limit = f"/{gpu.power_limit:.0f}" if gpu.power_limit else ""
    return f"{round(gpu.power / 10) * 10:.0f}{limit}"


def rate(found: float | None) -> str:
    """Per second: ``41``, ``4.1``, ``0.41``."""
    if found is None:
        return "–"
    if not found:
        return "0"
    return f"{found:.0f}" if found >= 9.95 else f"{found:.1f}" if found >= 0.995 else f"{found:.2f}"


def milliseconds(seconds: float | None) -> str:
    """``212``, ``21.2``, ``0.8``."""
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f}" if seconds >= 0.0995 else f"{seconds * 1000:.1f}"


def part(hits: float | None, misses: float | None) -> str:
    """Hits of a cache in percent."""
    if hits is None or misses is None or hits + misses <= 0:
        return "–"
    return f"{100 * hits / (hits + misses):.0f} %"


def bytes_a_second(count: float | None) -> str:
    """Two significant digits: ``1.2G``, ``340M``."""
    if count is None:
        return "–"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.1f}{unit}" if count < 10 * size else f"{count / size:.0f}{unit}"
    return f"{count:.0f}"


def grouped(count: int) -> str:
    return f"{count:,}".replace(",", " ")
