"""What a large log costs: ``python benchmarks/logs.py [--size 2e9] [--peers FOLDER]``.

Writes a log of a build and a server (some 90 bytes a line), then measures from a cold start of the
view, in a terminal of 120×40 that nobody sees: first paint at the tail, the jump to the top before
and after all lines are counted, searches in their own process, memory, and what following a fast log
sends over the line. With ``--peers`` toolong is measured by `tuibench.py` on the same file. Prints a
Markdown table with the bars; ends with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from textual.app import App, ComposeResult

from console.logs.child import Scan
from screens.widgets.logpane import LogPane
from screens.widgets.logview import LogView

TUIBENCH = Path(__file__).with_name("tuibench.py")
SEARCHES = {
    "literal, small letters": ("no such words here", 1000),
    "literal with capitals": ("No Such Words", 1000),
    "regex with a text in it": (r"layer \d+ took \d{5} ms", 150),
    "regex of alternatives": (r"(?:segfault|core dumped) at 0x[0-9a-f]+", 150),
    "regex without any text": (r"[0-9]{12}", 0),
}
"""What is searched for, and the bar in MB/s (0: told, no bar)."""


def write_log(path: Path, size: int) -> None:
    """Lines as builds and Triton write them; one in 20 000 is a warning, one in 40 000 an error."""
    lines = []
    for n in range(40_000):
        if n % 3:
            place, text = f"model_lifecycle.cc:{n % 900}", f"loading: digits:{n % 7} step {n}"
            lines.append(f'I1121 00:{n // 600 % 60:02d}:56.{n:06d} 30405 {place}] "{text}"')
        else:
            lines.append(
                f"[NeMo I 2026-09-21 14:00:{n % 60:02d} export:{n}] layer {n % 99} of the graph"
            )
    lines[777] = 'E1121 00:02:56.545741 30405 main.cc:245] "failed to load"'
    lines[999] = lines[20_999] = "[NeMo W 2026-09-21 14:00:11 patch:1] deprecated"
    piece = ("\n".join(lines) + "\n").encode()
    with path.open("wb") as out:
        while out.tell() < size:
            out.write(piece)


class LogApp(App[None]):
    """A log pane alone."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def compose(self) -> ComposeResult:
        yield LogPane()

    def show(self) -> LogView:
        pane = self.query_one(LogPane)
        pane.open("build", self.file)
        pane.view.focus()
        return pane.view


async def state(told: Callable[[], object]) -> float:
    """Seconds until something is so."""
    start = time.perf_counter()
    while not told():
        if time.perf_counter() - start > 60:
            raise TimeoutError("the view did not come to the state that is measured")
        await asyncio.sleep(0.0005)
    return time.perf_counter() - start


def top(view: LogView) -> str:
    return view.render_line(0).text if view._drawn else ""


async def view_figures(path: Path) -> dict[str, float]:
    """Seconds of the view's own moments, and MiB at the end (the scanning process included)."""
    app = LogApp(path)
    found: dict[str, float] = {}
    async with app.run_test(size=(120, 40)) as pilot:
        process = psutil.Process()
        before = process.memory_info().rss
        start = time.perf_counter()
        view = app.show()
        await state(lambda: view._drawn and view.scroll_offset.y > 0)
        found["first paint at the tail"] = time.perf_counter() - start
        view.action_scroll_home()
        found["jump to the top, lines not counted yet"] = await state(
            lambda: "digits:1 step 1" in view.render_line(1).text
        )
        found["all lines counted after"] = await state(lambda: view.state.settled) + (
            time.perf_counter() - start
        )
        await pilot.press("G")
        await state(lambda: view.following)
        middle = path.stat().st_size // 2
        view.show_offset(middle)
        found["jump to the middle"] = await state(
            lambda: 0 < view._drawn[-1][0].offset - middle < 100_000
        )
        view.action_jump(-1)
        found["jump to the problem before"] = await state(
            lambda: any(row.offset == view._hit for row, _ in view._drawn)
        )
        children = sum(c.memory_info().rss for c in process.children(recursive=True))
        found["memory"] = (process.memory_info().rss - before + children) / 2**20
        found["memory, whole process"] = (process.memory_info().rss + children) / 2**20
    return found


def search(path: Path, pattern: str) -> float:
    """MB/s of one search through the whole file, the start of its process included."""
    ended = threading.Event()

    def answer(said: Mapping[str, Any]) -> None:
        if said.get("end") or "failed" in said:
            ended.set()

    start = time.perf_counter()
    Scan({"path": str(path), "pattern": pattern, "start": 0}, answer)
    ended.wait()
    return path.stat().st_size / (time.perf_counter() - start) / 1e6


FOLLOWER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from benchmarks.logs import LogApp
from console.driver import CellDriver
class Follower(LogApp):
    def __init__(self, file):
        super().__init__(file)
        self.driver_class = CellDriver
    def on_mount(self):
        self.show()
Follower(Path(sys.argv[1])).run()
"""


def tuibench(argv: list[str], idle: float, folder: Path, keys: str) -> dict[str, Any]:
    result = folder / "result.json"
    command = [sys.executable, str(TUIBENCH), "run", "--json", str(result), "--burst", "0"]
    command += ["--samples", "10", "--repeat", "2", "--keys", keys, "--idle", str(idle)]
    command += ["--setup-wait", "2", "--quit-keys", "ctrl+q", "--cwd", str(folder), "--", *argv]
    subprocess.run(command, check=True, env=os.environ, stdout=subprocess.DEVNULL)
    return dict(json.loads(result.read_text()))


def following(folder: Path) -> dict[str, float]:
    """Bytes a second over the line, CPU, and how soon a key shows, while a log grows by 20 000 lines
    a second. The key turns the lines' times on and off, so that every line changes with it."""
    log = folder / "fast.log"
    log.write_text("started\n")
    stop = threading.Event()

    def write() -> None:
        n = 0
        with log.open("ab") as out:
            while not stop.wait(0.05):
                # Nothing of a line is like the one above it: the worst for a driver of changed cells.
                lines = (f'I1121 00:02:56.{n + k:09d} 30405 x.cc:7] "{os.urandom(30).hex()}"\n'
                         for k in range(1000))  # fmt: skip
                out.write("".join(lines).encode())
                out.flush()
                n += 1000

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    root = str(Path(__file__).parents[1])
    result = tuibench([sys.executable, "-c", FOLLOWER, str(log), root], 8, folder, "T")
    stop.set()
    writer.join()
    idle, keys = result["idle"], result["keys"]["first_ms"]
    return {
        "bytes": idle["bytes_per_s"],
        "cpu": idle["cpu_s_per_s"],
        "p50": keys["p50"],
        "p95": keys["p95"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=float, default=2e9, help="bytes of the log")
    parser.add_argument("--peers", type=Path, help="folder with an environment of toolong")
    parser.add_argument("--folder", type=Path, help="where the log is written")
    options = parser.parse_args()
    missed = []
    print("| what | measured | bar |\n|---|---|---|")

    def row(what: str, figure: str, bar: str, met: bool) -> None:
        print(f"| {what} | {figure} | {bar} |", flush=True)
        if not met:
            missed.append(what)

    with tempfile.TemporaryDirectory(prefix="tritondeck-logs-", dir=options.folder) as name:
        folder = Path(name)
        path = folder / "big.log"
        write_log(path, int(options.size))
        bars = {"first paint at the tail": 0.3, "jump to the top, lines not counted yet": 0.1,
                "jump to the middle": 0.1, "jump to the problem before": 0.1}  # fmt: skip
        for what, figure in asyncio.run(view_figures(path)).items():
            if "memory" in what:
                bar = 100.0 if "whole" in what else 0.0
                row(
                    what,
                    f"{figure:.0f} MiB",
                    f"{bar:.0f} MB" if bar else "",
                    not bar or figure <= bar,
                )
            else:
                limit = bars.get(what, 0.0)
                bar_words = f"{limit * 1000:.0f} ms" if limit else ""
                row(what, f"{figure * 1000:.0f} ms", bar_words, not limit or figure <= limit)
        for what, (pattern, least) in SEARCHES.items():
            speed = search(path, pattern)
            row(
                f"search: {what}",
                f"{speed:.0f} MB/s",
                f"{least} MB/s" if least else "",
                speed >= least,
            )
        found = following(folder)
        row("following 20 000 lines/s", f"{found['bytes'] / 1000:.1f} kB/s, {found['cpu']:.3f} CPU",
            "60 kB/s", found["bytes"] <= 60_000)  # fmt: skip
        row("key to first paint meanwhile, p50 / p95", f"{found['p50']:.0f} / {found['p95']:.0f} ms",
            "– / 50 ms", found["p95"] <= 50)  # fmt: skip
        if options.peers is not None:
            tl = options.peers / "toolong" / "bin" / "tl"
            result = tuibench([str(tl), str(path)], 8, folder, "pgup,pgdn")
            paint, memory = result["start"]["first_paint_ms"], result["memory"]["peak_rss_mib"]
            row("toolong 1.5: first paint, memory", f"{paint:.0f} ms, {memory:.0f} MiB", "", True)
    print("\n".join(f"missed: {what}" for what in missed) or "every bar met", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
