"""How the monitor divides its screen, and what its two charts show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.desk.monitor import Mark, MonitorView
from console.text import human_bytes, human_seconds
from screens.monitoring import figures
from screens.monitoring.figures import nice
from screens.monitoring.ticker import Frame
from screens.phrase import Phrase, join, say
from screens.widgets.chart import Plot

_WORDS = 2
"""Lines that say what an empty list would show."""


@dataclass(frozen=True, slots=True)
class Heights:
    """Lines of each part; 0 hides it. The processes take what is left."""

    devices: int
    charts: int
    servers: int


def heights(room: int, devices: int, servers: int, processes: int) -> Heights:
    """Divide `room` lines among tables with so many rows; each table has a line of heads.

    Devices come first, then servers, then a few processes; charts take what these leave.
    """
    head = 1
    few = head + min(max(servers, _WORDS), 4)
    below = few + head + min(max(processes, 1), 3)
    top = min(head + devices, max(5, room - below))
    left = room - top - below
    charts = min(9, left) if left >= 5 else 0
    left -= charts
    more = min(left, max(0, servers - 4))
    left -= more + min(left - more, max(0, processes - 3))
    if charts:
        charts = min(24, charts + left)
    return Heights(top, charts, few + more)


def subject(view: MonitorView, key: str) -> str:
    """What the charts are about: a device, a server or a model; the first GPU when in doubt."""
    kind, _, rest = key.partition("/")
    if kind in ("host", "gpu", "server", "model"):
        return key
    if kind == "mig":
        return f"gpu/{rest.partition('/')[0]}"
    if kind == "process":
        return f"gpu/{rest.partition('/')[2].partition('.')[0]}"
    gpus = view.reading.gpus if view.reading else ()
    return f"gpu/{gpus[0].index}" if gpus else "host"


def chart_series(what: str) -> tuple[str, str]:
    """The two series of a subject."""
    kind, _, rest = what.partition("/")
    if kind == "gpu":
        return f"gpu/{rest}/memory", f"gpu/{rest}/utilisation"
    if kind == "server":
        return f"server/{rest}/requests", f"server/{rest}/latency"
    if kind == "model":
        rest = rest.rpartition("/")[0]
        return f"model/{rest}/requests", f"model/{rest}/latency"
    return "host/memory", "host/cpu"


def plot(frame: Frame, series: str, width: int) -> Plot:
    """A series of this frame as a chart of `width` cells."""
    cells = frame.curves.get((series, width), (None,) * width)
    now = figures.values(frame.view).get(series)
    largest = max((v for v in cells if v is not None), default=None)
    start, end = f"-{human_seconds(frame.wanted.span)}", "now" if frame.view.live else "here"
    kind, _, rest = series.partition("/")
    which, _, figure = rest.rpartition("/")
    name = {"gpu": f"GPU {which} ", "host": "host "}.get(kind, f"{which} ")
    marks = columns(frame, width)
    if figure == "memory":
        top = _total(frame.view, kind, which) or nice(largest, 1.0)
        said = f"{human_bytes(now)} of {human_bytes(top)}" if now is not None else "not known"
        scale = f"{top / 2**30:.0f} GiB"
        return Plot(f"{name}memory", said, cells, top, scale, "accent", marks, start, end)
    if figure in ("utilisation", "cpu"):
        said = figures.percent(now) if now is not None else "not known"
        title = f"{name}{'processors' if figure == 'cpu' else 'utilisation'}"
        return Plot(title, said, cells, 100.0, "100 %", "ok", marks, start, end)
    if figure == "requests":
        top = nice(largest, 1.0)
        said = f"{figures.rate(now)} requests/s"
        return Plot(f"{name}requests", said, cells, top, f"{top:g}/s", "accent", marks, start, end)
    top = nice(None if largest is None else largest * 1000, 1.0)
    milli = tuple(None if v is None else v * 1000 for v in cells)
    said = f"{figures.milliseconds(now)} ms a request"
    return Plot(f"{name}latency", said, milli, top, f"{top:g} ms", "ok", marks, start, end)


def _total(view: MonitorView, kind: str, which: str) -> float | None:
    if view.reading is None:
        return None
    if kind == "host":
        return view.reading.host.memory_total
    return next((g.memory_total for g in view.reading.gpus if str(g.index) == which), None)


def columns(frame: Frame, width: int) -> tuple[tuple[int, str], ...]:
    """Cells of what happened, by the same slices as the curves."""
    step = frame.wanted.span / max(1, width)
    last = int(frame.view.time // step)
    found = ((width - 1 - (last - int(m.time // step)), word(m)) for m in frame.marks)
    return tuple((cell, said) for cell, said in found if 0 <= cell < width)


def word(mark: Mark) -> str:
    """A mark in a word or two."""
    return mark.text if len(mark.text) <= 18 else f"{mark.text[:17]}…"


def title(frame: Frame, room: int, said: Sequence[Phrase]) -> Phrase:
    """The line above the tables: what is watched, and how it is shown."""
    view, reading = frame.view, frame.view.reading
    versions = ""
    if reading is not None and reading.driver:
        versions = f"driver {reading.driver}" + (f" · CUDA {reading.cuda}" if reading.cuda else "")
    line = join(
        say("Monitor", "strong"),
        *said,
        say(f"curves {human_seconds(frame.wanted.span)}", "dim"),
        say(versions, "dim"),
        say(view.note, "warn"),
    )
    return line.fit(room) if line.width > room else line
