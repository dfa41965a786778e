"""What telemetry costs, with the pretend driver of the tests: eight GPUs, or as many as are said.

    python benchmarks/telemetry.py [--gpus 8] [--seconds 20]

Needs a C compiler. The pretend driver answers at once, so these are our own costs, those of
nvidia-ml-py and of /proc; `gpu.py` measures with a real driver. Bars: a fast look at eight GPUs
3 ms, also while a windowed call waits in the driver; 0.005 processor seconds a second at 1 Hz.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from tests import nvml  # noqa: E402 - the checkout is on the path from here on

FAST_BAR_MS = 3.0
RUNNING_BAR = 0.005


def measured(folder: Path, gpus: int, seconds: float, **environ: str) -> dict[str, object]:
    """`inside` in a process that finds the pretend driver."""
    done = subprocess.run(
        [sys.executable, __file__, "--inside", "--seconds", str(seconds)],
        env=nvml.environ(folder, FAKENVML_GPUS=str(gpus), **environ),
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def inside(seconds: float) -> dict[str, object]:
    """Costs of each class, and of a telemetry at 1 Hz."""
    from gpu import costs, running

    classes, _ = costs()
    return {"classes": classes, "running": running(seconds)["processor s/s at 1 Hz"]}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what telemetry costs.")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(inside(options.seconds)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = nvml.build(Path(name))
        control = folder / "control"
        # PCIe throughput waits 21 ms in a real driver.
        control.write_text("nvmlDeviceGetPcieThroughput * delay 21000\n")
        processes = ",".join(f"{os.getpid()}:{gpu}:2048" for gpu in range(options.gpus))
        told = measured(
            folder,
            options.gpus,
            options.seconds,
            FAKENVML_CONTROL=str(control),
            FAKENVML_PROCS=processes,
        )
    classes = told["classes"]
    assert isinstance(classes, list)
    print(f"{options.gpus} GPUs, one process on each")
    print(f"{'class':<44}{'median ms':>11}{'p95 ms':>9}{'processor ms':>14}")
    for name, median, p95, spent in classes:
        print(f"{name:<44}{median:>11}{p95:>9}{spent:>14}")
    print(f"at 1 Hz: {told['running']} processor s/s (bar {RUNNING_BAR})")
    fast, beside = classes[0][1], classes[3][1]
    print(f"fast look: {fast / FAST_BAR_MS:.2f} of its bar, {beside / FAST_BAR_MS:.2f} beside PCIe")
    return 0


if __name__ == "__main__":
    sys.exit(main())
