"""`monitor`: the screen, or its figures as text, JSON, CSV or Prometheus metrics."""

from __future__ import annotations

import argparse
import contextlib
import csv
import queue
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from console.facts import UsageError
from console.text import clean, human_bytes, human_seconds
from console.triton import series
from console.verbs import common, output

if TYPE_CHECKING:
    from console.desk.desk import Desk
    from console.desk.monitor import MonitorView

SETTLE = 15.0
"""Seconds after which one look is printed although some server has not answered twice; one that hangs is
known for that long before."""
FAST = 0.5


def monitor(args: argparse.Namespace) -> int:
    on = common.desk(args)
    if args.replay and (args.record or args.prometheus is not None):
        raise UsageError("--replay shows the past: --record and --prometheus are for now")
    plain = args.once or args.json or args.csv
    if not plain and args.prometheus is None and not (args.record and not sys.stdout.isatty()):
        return _screen(args, on)
    if args.replay:
        with contextlib.closing(on.replay(Path(args.replay))) as past:
            return _print(args, past.views())
    with contextlib.ExitStack() as stack:
        return _print(args, _now(args, on, stack))


def _screen(args: argparse.Namespace, on: Desk) -> int:
    from console.verbs.screen import show

    if args.replay:
        with contextlib.closing(on.replay(Path(args.replay))) as past:
            return show(on, past)
    with contextlib.ExitStack() as stack:
        each = _recorder(args, stack)
        return show(on, stack.enter_context(contextlib.closing(on.monitor(args.interval, each))))


def _recorder(
    args: argparse.Namespace, stack: contextlib.ExitStack
) -> Callable[[MonitorView], None] | None:
    if not args.record:
        return None
    from console.triton.recorder import ViewRecorder

    file = Path(args.record).absolute()
    if not file.parent.is_dir():
        raise UsageError(f"there is no folder {clean(str(file.parent))} to record in")
    recorder = ViewRecorder(file, "this machine and its servers")

    def end() -> None:
        problem = recorder.problem
        recorder.close()
        if problem := problem or recorder.problem:
            output.note(problem)

    stack.callback(end)
    return lambda view: recorder.add(view.reading, view.servers)


def _now(args: argparse.Namespace, on: Desk, stack: contextlib.ExitStack) -> Iterator[MonitorView]:
    """Views as they come; with `--once` the first whole one alone."""
    views: queue.SimpleQueue[MonitorView] = queue.SimpleQueue()
    recorded = _recorder(args, stack)

    def each(view: MonitorView) -> None:
        if recorded is not None:
            recorded(view)
        views.put(view)

    interval = args.interval or (FAST if args.once else 0.0)
    source = stack.enter_context(contextlib.closing(on.monitor(interval, each)))
    if args.prometheus is not None:
        from console.verbs.exposition import serve

        port = stack.enter_context(serve(source, args.prometheus))
        output.note(f"metrics at http://127.0.0.1:{port}/metrics")
    begun, seen = time.monotonic(), 0
    while True:
        view = views.get()
        seen += 1
        if not args.once:
            yield view
        elif seen > 2 and (_whole(view, source.looked) or time.monotonic() - begun > SETTLE):
            yield view
            return


def _whole(view: MonitorView, looked: float) -> bool:
    """Whether every server that there is has answered twice, or is known not to."""
    if view.reading is None or view.reading.monotonic < looked:
        return False  # no server, because none was looked for yet
    return all(server.asked and (server.problem or not server.gap) for server in view.servers)


def _print(args: argparse.Namespace, views: Iterator[MonitorView]) -> int:
    if args.once:
        # Of a recording the last moment: that is where it ended.
        last = deque(views, maxlen=1)
        if last:
            _one(args, last[0])
        return 0
    show = _table_of(args)
    for number, view in enumerate(views, 1):
        show(view)
        if args.count and number >= args.count:
            break
    return 0


def _one(args: argparse.Namespace, view: MonitorView) -> None:
    if args.csv:
        _Csv().row(view)
    elif args.json:
        output.emit("monitor", view)
    else:
        _text(view)


def _table_of(args: argparse.Namespace) -> Callable[[MonitorView], None]:
    if args.csv:
        return _Csv().row
    if args.json:
        return lambda view: output.emit_line({"monitor": view})
    return lambda view: None


class _Csv:
    """One line a figure would be long; one line a sample, with the columns of the first sample."""

    def __init__(self) -> None:
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        self._names: tuple[str, ...] = ()

    def row(self, view: MonitorView) -> None:
        if view.reading is None:
            return
        values = series.values(view.reading, view.servers)
        if not self._names:
            self._names = tuple(values)
            self._writer.writerow(("time", *self._names))
        when = datetime.fromtimestamp(view.time, UTC).isoformat(timespec="milliseconds")
        cells = [values.get(name) for name in self._names]
        self._writer.writerow((when, *("" if cell is None else cell for cell in cells)))
        sys.stdout.flush()


def _text(view: MonitorView) -> None:
    reading = view.reading
    if reading is None:
        return
    host = reading.host
    memory = f"{_bytes(host.memory_used)} of {_bytes(host.memory_total)}"
    output.say(f"host: processors {_number(host.cpu_percent)} %, memory {memory}")
    if reading.gpu_note:
        output.say(reading.gpu_note)
    if reading.gpus:
        output.table(
            ("GPU", "NAME", "MEMORY", "OF", "USE", "POWER", "TEMPERATURE"),
            [
                (
                    str(gpu.index),
                    gpu.name,
                    _bytes(gpu.memory_used),
                    _bytes(gpu.memory_total),
                    f"{_number(gpu.utilisation)} %",
                    f"{_number(gpu.power)} W",
                    gpu.problem or f"{_number(gpu.temperature)} °C",
                )
                for gpu in reading.gpus
            ],
        )
    for server in view.servers:
        state = "ready" if server.ready else "live, not ready" if server.live else "does not answer"
        output.say(f"{server.name}: {state}, {server.url} {server.problem}".rstrip())
    rows = [
        (
            server.name,
            f"{model.name} {model.version}".rstrip(),
            model.state or "-",
            _number(model.requests),
            _number(model.failures),
            human_seconds(model.latency) if model.latency is not None else "-",
            str(model.total_requests),
        )
        for server in view.servers
        for model in server.models
    ]
    if rows:
        output.table(
            ("SERVER", "MODEL", "STATE", "REQUESTS/S", "FAILED/S", "LATENCY", "REQUESTS"), rows
        )


def _bytes(value: int | None) -> str:
    return "-" if value is None else human_bytes(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
