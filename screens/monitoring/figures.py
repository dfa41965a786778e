"""Figures as the monitor says them: coarse enough not to flicker, never jumping in width."""

from __future__ import annotations

import math

from console.desk.monitor import MonitorView
from console.telemetry.reading import GpuReading
from console.triton import series
from console.triton.reading import ServerReading
from screens.monitoring.trace import Cells

_EIGHTHS = "▁▂▃▄▅▆▇█"


def values(view: MonitorView) -> dict[str, float | None]:
    """Every figure of one moment that has a history, by the name of its series."""
    return {} if view.reading is None else series.values(view.reading, view.servers)


def value_of_server(server: ServerReading, figure: str) -> float | None:
    """The mean of a figure of a server's models, by their requests."""
    told = [(getattr(m, figure, None), m.requests or 0.0) for m in server.models]
    known = [(v, weight) for v, weight in told if v is not None]
    weights = sum(weight for _, weight in known)
    return sum(v * weight for v, weight in known) / weights if weights else None


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
