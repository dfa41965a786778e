"""What the monitor costs a terminal: ``python benchmarks/monitor.py --peers FOLDER``.

Eight pretend GPUs (`tests/assets/fakenvml.c`: every figure moves every second) and three pretend
Triton servers under load, in a pseudo-terminal of 120×40 at one look a second, measured from outside by
`tuibench.py` with nvitop in the same run. Prints a Markdown table with the bars; ends with 1 when one
is missed. An hour of monitoring is simulated apart, through the buffers and the screen.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
TUIBENCH = ROOT / "benchmarks" / "tuibench.py"
PAINTS = 600 / 130
"""Of nvitop's first paint: 600 ms on the machine of the bar, where nvitop took 130."""
KINDS = ("request_success", "count", "exec_count", "request_duration_us", "queue_duration_us",
         "compute_input_duration_us", "compute_infer_duration_us", "compute_output_duration_us")  # fmt: skip
STATS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output",
         "cache_hit", "cache_miss")  # fmt: skip


class Triton(BaseHTTPRequestHandler):
    """Answers health, index, statistics and metrics of a server under load."""

    begun = time.time()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._say([{"name": m, "version": "1", "state": "READY"} for m in ("a", "b")])

    def do_GET(self) -> None:
        done = int((time.time() - self.begun) * 40)
        if self.path.startswith("/metrics"):
            lines = [f'nv_inference_{k}{{model="{m}",version="1"}} {done * (n + 1)}'
                     for n, k in enumerate(KINDS) for m in ("a", "b")]  # fmt: skip
            self._say("\n".join(lines) + "\n")
        elif self.path.endswith("/stats"):
            part = {name: {"count": done, "ns": done * 2_000_000} for name in STATS}
            part["fail"] = {"count": 0, "ns": 0}
            self._say({"model_stats": [{"name": m, "version": "1", "last_inference": 1,
                                        "inference_count": done, "execution_count": done // 2,
                                        "inference_stats": part, "batch_stats": []}
                                       for m in ("a", "b")]})  # fmt: skip
        elif self.path == "/v2":
            self._say({"name": "triton", "version": "2.51.0", "extensions": ["statistics"]})
        else:
            self._say("")

    def _say(self, body: object) -> None:
        told = body if isinstance(body, str) else json.dumps(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(told.encode())))
        self.end_headers()
        self.wfile.write(told.encode())


@contextmanager
def triton() -> Iterator[str]:
    """The URL of a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Triton) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def library(folder: Path) -> Path:
    """The pretend driver."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "libnvidia-ml.so.1"
    source = ROOT / "tests" / "assets" / "fakenvml.c"
    flags = ["-O2", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run(["cc", *flags, "-o", str(target), str(source), "-lpthread"], check=True)
    return folder


def measure(label: str, argv: list[str], environ: dict[str, str], **more: str) -> dict[str, Any]:
    """One run of `tuibench.py`; its JSON."""
    with tempfile.TemporaryDirectory() as name:
        result = Path(name) / "result.json"
        command = [sys.executable, str(TUIBENCH), "run", "--json", str(result), "--burst", "0"]
        command += ["--label", label, "--samples", "20", "--repeat", "3", "--setup-wait", "4"]
        command += ["--keys", "down,up", "--idle", "20", "--cwd", name]
        for key, value in more.items():
            command += [f"--{key.replace('_', '-')}", value]
        for key, value in environ.items():
            command += ["--env", f"{key}={value}"]
        subprocess.run(
            [*command, "--", *argv], check=True, stdout=subprocess.DEVNULL, env=os.environ
        )
        return dict(json.loads(result.read_text()))


async def an_hour() -> tuple[float, float]:
    """MiB after a minute and after an hour of looks, a look a frame."""
    sys.path.insert(0, str(ROOT))
    from console import settings
    from screens.monitor import MonitorScreen
    from tests.screens.conftest import make_app
    from tests.screens.desk_double import NOW, DeskDouble
    from tests.screens.monitor_double import MonitorDouble

    with tempfile.TemporaryDirectory() as name:
        source = MonitorDouble(8)
        app = make_app(DeskDouble(settings.load({"TRITONDECK_HOME": name})), monitor=source)
        early = 0.0
        async with app.run_test(size=(120, 40)) as pilot:
            screen = app.screen
            assert isinstance(screen, MonitorScreen)
            while screen._ticker is None or screen._frame is None:
                await pilot.pause(0.05)
            screen._ticker.close()
            for second in range(3600):
                source.time = NOW + second
                frame = screen._ticker._frame(source.snapshot(), screen.wanted())
                screen._frame = frame
                screen.draw()
                if second % 20 == 0:
                    await pilot.pause()
                if second == 60:
                    early = psutil.Process().memory_info().rss / 2**20
        return early, psutil.Process().memory_info().rss / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=Path, help="folder with an environment of nvitop (venv/)")
    options = parser.parse_args()
    missed = []
    deck = str(Path(sys.executable).with_name("tritondeck"))
    print("| what | measured | bar |\n|---|---|---|")

    def row(what: str, figure: str, bar: str, met: bool) -> None:
        print(f"| {what} | {figure} | {bar} |", flush=True)
        if not met:
            missed.append(what)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tritondeck-bench-")))
        fake = {"LD_LIBRARY_PATH": str(library(folder / "nvml")), "FAKENVML_GPUS": "8"}
        peer, quick = 0.0, 0.0
        if options.peers is not None:
            nvitop = str(options.peers / "venv" / "bin" / "nvitop")
            told = measure("nvitop", [nvitop], fake, quit_keys="q")
            peer, quick = told["idle"]["bytes_per_s"], told["start"]["first_paint_ms"]
            row("nvitop: bytes/s, CPU, first paint", f"{peer:.0f}, {told['idle']['cpu_s_per_s']:.3f}, "
                f"{told['start']['first_paint_ms']:.0f} ms", "", True)  # fmt: skip
        for servers in (0, 3):
            home = {"TRITONDECK_HOME": str(folder / f"home-{servers}")}
            for number in range(servers):
                url = stack.enter_context(triton())
                subprocess.run([deck, "attach", url, "--name", f"server-{number}"], check=True,
                               env={**os.environ, **home}, stdout=subprocess.DEVNULL)  # fmt: skip
            told = measure("monitor", [deck, "monitor"], fake | home, quit_keys="ctrl+q")
            idle, keys = told["idle"], told["keys"]["first_ms"]
            what = f"8 GPUs, {servers} servers"
            paint = told["start"]["first_paint_ms"]
            most = quick * PAINTS or 600.0
            row(f"{what}: first paint", f"{paint:.0f} ms", f"{most:.0f} ms", paint <= most)
            row(
                f"{what}: CPU",
                f"{idle['cpu_s_per_s']:.4f} s/s",
                "0.02 s/s",
                idle["cpu_s_per_s"] <= 0.02,
            )
            size = idle["bytes_per_s"]
            row(f"{what}: bytes, curves included", f"{size:.0f} B/s", "2000 B/s", size <= 2000)
            row(f"{what}: key to first paint, p50 / p95", f"{keys['p50']:.0f} / {keys['p95']:.0f} ms",
                "– / 15 ms", keys["p95"] <= 15)  # fmt: skip
            rss = told["memory"]["peak_rss_mib"]
            row(f"{what}: memory", f"{rss:.0f} MiB", "90 MB", rss * 1.048576 <= 90)
        told = measure("alone", [deck, "monitor"], fake | home, quit_keys="ctrl+q", setup_keys="z")
        size, most = told["idle"]["bytes_per_s"], peer or 1195.0
        row("8 GPUs, their table alone: bytes", f"{size:.0f} B/s", f"{most:.0f} B/s", size <= most)
        early, late = asyncio.run(an_hour())
        row("an hour of looks: memory after a minute, an hour", f"{early:.0f}, {late:.0f} MiB",
            "flat", late - early < 5)  # fmt: skip
    print("\n".join(f"missed: {what}" for what in missed) or "every bar met", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
