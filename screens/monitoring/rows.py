"""Rows of the monitor's three tables, made from a view; nothing here knows Textual."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from console.desk.monitor import MonitorView
from console.telemetry.reading import GpuProcess, GpuReading, HostReading, ProcessTree, Reading
from console.text import human_seconds
from console.triton.health import ModelState
from console.triton.reading import ModelReading, ServerReading
from screens import states
from screens.monitoring import figures
from screens.phrase import Phrase, Role, say
from screens.widgets.table import Column, Row

_BARS = 5
Sparkline = Callable[[str, float | None], str]
"""Draws a series up to a largest value in the flexible column."""

DEVICES = (
    Column("DEVICE", 6),
    Column("NAME", 12, least=120),
    Column("UTILISATION", 12),
    Column("MEMORY", 20),
    Column("MEMORY OVER TIME"),
    Column("POWER W", 8, right=True, least=84),
    Column("°C", 3, right=True),
    Column("MHz", 5, right=True, least=135),
    Column("PCIe ↓ ↑ B/s", 12, right=True, least=150),
    Column("NOTE", 18, least=135),
)
SERVERS = (
    Column("SERVER, MODEL"),
    Column("STATE", 13),
    Column("REQ/S", 6, right=True),
    Column("FAIL/S", 6, right=True),
    Column("QUEUE ms", 8, right=True, least=70),
    Column("COMPUTE ms", 10, right=True, least=70),
    Column("BATCH", 5, right=True, least=95),
    Column("PENDING", 7, right=True, least=95),
    Column("CACHE", 5, right=True, least=110),
    Column("REQUESTS", 12, right=True, least=120),
    Column("REQUESTS/S OVER TIME", 20, least=125, wide=32),
)
PROCESSES = (
    Column("PID", 8, right=True),
    Column("USER", 9, least=90),
    Column("GPU", 4, right=True),
    Column("SM", 5, right=True),
    Column("GPU MEMORY", 11, right=True),
    Column("HOST MEMORY", 11, right=True, least=100),
    Column("CPU", 6, right=True, least=100),
    Column("OURS", 18, least=75, wide=30),
    Column("COMMAND"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A row and what it may be sorted by: the same names for every line of a table."""

    row: Row
    keys: tuple[tuple[str, float | str], ...] = ()

    def by(self, name: str) -> float | str:
        return dict(self.keys).get(name, 0.0)


def ordered(groups: Sequence[Sequence[Line]], by: str, backwards: bool) -> list[Row]:
    """Rows by a key of the first line of each group; a group stays together. "" keeps the order."""
    if by:
        words = any(isinstance(group[0].by(by), str) for group in groups)
        groups = sorted(groups, key=lambda group: _sortable(group[0].by(by), words))
        if backwards != (not words):
            groups = groups[::-1]
    return [line.row for group in groups for line in group]


def _sortable(found: float | str, words: bool) -> tuple[float, str]:
    return (0.0, str(found)) if words else (float(found), "")


# ---------------------------------------------------------------------------- devices


def devices(reading: Reading, spark: Sparkline) -> list[list[Line]]:
    """The host, then every GPU with its MIG instances below."""
    found = [[_host(reading.host, spark, reading.gpu_note if not reading.gpus else "")]]
    found += [list(_gpu(gpu, spark)) for gpu in reading.gpus]
    return found


def _gauge(fraction: float | None, figure: str, role: Role, width: int) -> Phrase:
    shown = say(states.bar(fraction, _BARS) if fraction is not None else " " * _BARS, role)
    return shown + say(figure).fit(width - _BARS, right=True)


def _heat(fraction: float | None, warm: float, hot: float) -> Role:
    if fraction is None:
        return "dim"
    return "bad" if fraction >= hot else "warn" if fraction >= warm else "ok"


def _over(used: float | None, total: float | None) -> float | None:
    return used / total if used is not None and total else None


def _host(host: HostReading, spark: Sparkline, note: str) -> Line:
    cpu, memory = _over(host.cpu_percent, 100), _over(host.memory_used, host.memory_total)
    load = f"{host.load[0]:.0f}" if host.load else "–"
    net = "↓{} ↑{}".format(*map(figures.bytes_a_second, (host.network_rx, host.network_tx)))
    row = Row(
        "host",
        (
            say("host", "strong"),
            say(f"{len(host.cores)} cores" if host.cores else "", "dim"),
            _gauge(cpu, figures.percent(host.cpu_percent), _heat(cpu, 0.8, 0.95), 12),
            _gauge(memory, figures.memory(host.memory_used, host.memory_total),
                   _heat(memory, 0.8, 0.95), 20),
            say(spark("host/memory", host.memory_total), "accent"),
            say(f"load {load}", "dim"),
            say(""),
            say(""),
            say(""),
            say(f"no GPU: {note}" if note else f"net {net}", "dim"),
        ),
    )  # fmt: skip
    return Line(
        row, (("memory", 9e99), ("utilisation", 9e99), ("temperature", 9e99), ("power", 9e99))
    )


def _gpu(gpu: GpuReading, spark: Sparkline) -> Iterator[Line]:
    util, memory = _over(gpu.utilisation, 100), _over(gpu.memory_used, gpu.memory_total)
    well = gpu.state == "ok"
    curve = say(spark(f"gpu/{gpu.index}/memory", gpu.memory_total), "accent")
    if not well:
        curve = say(f"✕ {gpu.state}: {gpu.problem}", "bad")
    hot = gpu.temperature is not None and gpu.temperature >= 85
    throttled = ", ".join(gpu.throttle or ())
    pcie = "{} {}".format(*map(figures.bytes_a_second, (gpu.pcie_rx, gpu.pcie_tx)))
    yield Line(
        Row(
            f"gpu/{gpu.index}",
            (
                say(f"GPU {gpu.index}", "strong" if well else "bad"),
                say(gpu.name.removeprefix("NVIDIA ")),
                _gauge(util, figures.percent(gpu.utilisation), _heat(util, 2, 2), 12),
                _gauge(memory, figures.memory(gpu.memory_used, gpu.memory_total),
                       _heat(memory, 0.8, 0.95), 20),
                curve,
                say(figures.watts(gpu)),
                say("–" if gpu.temperature is None else gpu.temperature, "bad" if hot else ""),
                say("–" if gpu.sm_clock is None else round(gpu.sm_clock / 15) * 15),
                say(pcie if gpu.pcie_rx is not None else "–", "dim"),
                say(_note(gpu, throttled), "warn" if throttled or gpu.ecc_uncorrected else "dim"),
            ),
        ),
        (
            ("memory", float(gpu.memory_used or 0)),
            ("utilisation", float(gpu.utilisation or 0)),
            ("temperature", float(gpu.temperature or 0)),
            ("power", float(gpu.power or 0)),
        ),
    )  # fmt: skip
    for one in gpu.mig:
        part = _over(one.memory_used, one.memory_total)
        gauge = _gauge(
            part, figures.memory(one.memory_used, one.memory_total),
            _heat(part, 0.8, 0.95), 20,
        )  # fmt: skip
        cells = (say(f"  {gpu.index}.{one.index}"), say(one.profile, "dim"), say("", "dim"), gauge)
        yield Line(Row(f"mig/{gpu.index}/{one.index}", cells + (say(""),) * 6))


def _note(gpu: GpuReading, throttled: str) -> str:
    if gpu.ecc_uncorrected:
        return f"▲ ECC {gpu.ecc_uncorrected} uncorrected"
    return f"▲ {throttled}" if throttled else "MIG" if gpu.mig_mode else ""


# ---------------------------------------------------------------------------- servers


def servers(view: MonitorView, spark: Sparkline) -> list[list[Line]]:
    """Every server with its models below."""
    return [
        [_server(one, view.time, spark), *(_model(one, m, spark) for m in one.models)]
        for one in view.servers
    ]


def server_state(server: ServerReading, now: float) -> Phrase:
    """Live, ready and away are three different facts."""
    if not server.asked:
        return say("? not asked", "dim")
    if not server.live:
        away = now - server.since if server.since else 0.0
        return say(f"✕ away {human_seconds(away // 60 * 60) if away >= 60 else ''}".rstrip(), "bad")
    return say("● ready", "ok") if server.ready else say("◐ not ready", "warn")


def _server(server: ServerReading, now: float, spark: Sparkline) -> Line:
    told = server.generation
    where = say(f"{server.name} ", "strong") + say(
        server.url.partition("//")[2] or server.url, "dim"
    )
    if server.problem:
        where += say(f"  {server.problem}", "warn")
    tokens = f"{figures.rate(told.tokens)} tok/s" if told is not None else ""
    figure = figures.value_of_server
    row = Row(
        f"server/{server.name}",
        (
            where,
            server_state(server, now),
            say(figures.rate(server.requests)),
            say(figures.rate(server.failures), "bad" if server.failures else ""),
            say(figures.milliseconds(told.queue if told else figure(server, "queue"))),
            say(figures.milliseconds(told.latency if told else figure(server, "compute"))),
            say(""),
            say("–" if server.pending is None else server.pending),
            say(figures.percent(100 * told.kv_cache) if told and told.kv_cache is not None else ""),
            say(tokens or figures.grouped(sum(m.total_requests for m in server.models))),
            say(spark(f"server/{server.name}/requests", None), "accent"),
        ),
    )
    keys = (("name", server.name), ("requests", server.requests or 0.0),
            ("failures", server.failures or 0.0), ("pending", float(server.pending or 0)))  # fmt: skip
    return Line(row, keys)


def _model(server: ServerReading, model: ModelReading, spark: Sparkline) -> Line:
    version = f" {model.version}" if model.version else ""
    state = states.model(
        ModelState(model.name, model.version, model.state, model.reason, model.ready)
    )
    away = not server.live
    row = Row(
        f"model/{server.name}/{model.name}/{model.version}",
        (
            say(f"  {model.name}") + say(version, "dim"),
            say("? unknown", "dim") if away or not model.state else state,
            say(figures.rate(model.requests)),
            say(figures.rate(model.failures), "bad" if model.failures else ""),
            say(figures.milliseconds(model.queue)),
            say(figures.milliseconds(model.compute)),
            say("–" if model.batch is None else f"{model.batch:.1f}"),
            say("–" if model.pending is None else model.pending),
            say(figures.part(model.cache_hits, model.cache_misses)),
            say(figures.grouped(model.total_requests)),
            say(spark(f"model/{server.name}/{model.name}/requests", None), "accent"),
        ),
    )
    return Line(row)


# ---------------------------------------------------------------------------- processes


def processes(reading: Reading) -> list[list[Line]]:
    """What is on the GPUs, and the roots of our runs and servers that are not."""
    trees = {pid: tree for tree in reading.trees for pid in tree.pids or (tree.pid,)}
    found = [[_process(one, trees.get(one.pid))] for one in reading.processes]
    there = {one.pid for one in reading.processes}
    found += [[_tree(tree)] for tree in reading.trees if not there & {tree.pid, *tree.pids}]
    return found


def _process(one: GpuProcess, tree: ProcessTree | None) -> Line:
    where = f"{one.gpu}" if one.gpu_instance is None else f"{one.gpu}.{one.gpu_instance}"
    cells = (
        say(one.pid),
        say(one.user or "–"),
        say(where),
        say(figures.percent(one.sm)),
        say("–" if one.memory is None else f"{figures.gib(one.memory)} GiB"),
        say(f"{figures.gib(tree.memory)} GiB" if tree and tree.memory else "–"),
        say(figures.percent(tree.cpu_percent) if tree else "–"),
        say(one.owner or "–", "accent" if one.owner else "dim"),
        say(one.command) if one.command else say(f"? {one.problem}", "dim"),
    )
    keys = (("memory", float(one.memory or 0)), ("sm", float(one.sm or 0)),
            ("pid", float(one.pid)), ("user", one.user))  # fmt: skip
    return Line(Row(f"process/{one.pid}/{where}", cells), keys)


def _tree(tree: ProcessTree) -> Line:
    cells = (
        say(tree.pid),
        say(""),
        say("–"),
        say("–"),
        say("–"),
        say("–" if tree.memory is None else f"{figures.gib(tree.memory)} GiB"),
        say(figures.percent(tree.cpu_percent)),
        say(tree.owner, "accent"),
        say(tree.problem or f"{len(tree.pids)} processes", "dim"),
    )
    return Line(
        Row(f"tree/{tree.pid}", cells),
        (("memory", float(tree.gpu_memory or 0)), ("pid", float(tree.pid))),
    )
