"""What the console says about real GPUs, beside nvidia-smi's answer taken at the same time.

    python benchmarks/gpu.py --out FOLDER

Needs 1 to 16 NVIDIA GPUs and their driver (nvidia-smi, libcuda), nothing else of CUDA: memory is
held, set and copied by `cuda_child.py` through libcuda. Of Python it needs this repository and
`nvidia-ml-py psutil` with pydantic's wheels on the path:

    PYTHONPATH=.:WHEELS python3.12 benchmarks/gpu.py --out FOLDER

Where there is a `tritonserver` on PATH, or `--triton PYTHON` names the interpreter of an environment
with nvidia-pytriton, a python model of a real server holds 2 GiB on each GPU too. Takes three to four
minutes and writes FOLDER/gpu.md and FOLDER/gpu.json. Exit code 1 when a figure
that must be exact differs from nvidia-smi's. Parts: every field, idle and under load; the memory
curve of known blocks; attribution of 2 GiB on each GPU to its process; PCIe and NVLink while data
is copied; what each class of figures costs.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from triton_holder import holding, launcher

from console.telemetry import figures
from console.telemetry.gpus import FastGpus
from console.telemetry.nvml import gate
from console.telemetry.reading import GpuReading, Reading
from console.telemetry.slowgpus import PcieTurns, SlowGpus
from console.telemetry.telemetry import Telemetry

MIB = 1 << 20
GIB = 1 << 30
HELD = 2 * GIB
Table = list[list[Any]]


@dataclass(frozen=True)
class Field:
    """A figure of ours and nvidia-smi's name of it."""

    smi: str
    ours: Callable[[GpuReading], float | int | str | None]
    tolerance: float | None = None
    """Most that one may stray from the other; None for exact."""
    relative: float = 0.0


def _mib(name: str) -> Callable[[GpuReading], float | None]:
    def take(gpu: GpuReading) -> float | None:
        value = getattr(gpu, name)
        return None if value is None else value / MIB

    return take


def _plain(name: str) -> Callable[[GpuReading], float | None]:
    return lambda gpu: getattr(gpu, name)


FIELDS = (
    Field("uuid", lambda gpu: gpu.uuid),
    Field("name", lambda gpu: gpu.name),
    # nvidia-smi prints whole MiB
    Field("memory.total", _mib("memory_total"), 1),
    Field("memory.used", _mib("memory_used"), 1),
    Field("memory.free", _mib("memory_free"), 1),
    Field("memory.reserved", _mib("memory_reserved"), 1),
    Field("enforced.power.limit", _plain("power_limit"), 0.01),
    Field("ecc.errors.corrected.volatile.total", _plain("ecc_corrected")),
    Field("ecc.errors.uncorrected.volatile.total", _plain("ecc_uncorrected")),
    Field("mig.mode.current", lambda gpu: {True: "Enabled", False: "Disabled"}.get(gpu.mig_mode)),  # type: ignore[arg-type]
    Field("clocks_event_reasons.active", lambda gpu: gpu.throttle_bits),
    Field("utilization.gpu", _plain("utilisation"), 15),
    Field("utilization.memory", _plain("memory_utilisation"), 15),
    Field("clocks.sm", _plain("sm_clock"), 30, 0.1),
    Field("clocks.mem", _plain("memory_clock"), 1),
    Field("power.draw", _plain("power"), 10, 0.1),
    Field("temperature.gpu", _plain("temperature"), 3),
    Field("temperature.memory", _plain("memory_temperature"), 3),
)
EXACT = FIELDS[:10]
"""Must agree at any load; the others move between the two questions."""


class Child:
    """`cuda_child.py` and its line protocol."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("cuda_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},  # NVML's order
        )
        self.pid = self._process.pid
        self._read()

    def ask(self, line: str) -> dict[str, Any]:
        self.tell(line)
        return self._read()

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def during(
        self, line: str, seconds: float, look: Callable[[], Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Call `look` after `seconds`, while the child does what `line` says."""
        self.tell(line)
        time.sleep(seconds)
        try:
            seen = look()
        finally:
            told = self._read()
        return seen, told

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the CUDA process ended with {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return dict(answer)


def smi(kind: str, names: Iterable[str]) -> list[dict[str, str]]:
    """nvidia-smi's rows; names that this version does not know are left out."""
    names = list(names)
    while names:
        done = subprocess.run(
            ["nvidia-smi", f"--query-{kind}={','.join(names)}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=False,
        )
        text = done.stdout + done.stderr
        unknown = re.search(r'Field "([^"]+)" is not a valid field', text)
        if unknown and unknown[1] in names:
            names.remove(unknown[1])
        elif done.returncode:
            raise RuntimeError(f"nvidia-smi: {text.strip()}")
        else:
            rows = (line.split(", ") for line in done.stdout.strip().splitlines())
            return [dict(zip(names, (cell.strip() for cell in row), strict=True)) for row in rows]
    return []


def number(text: str) -> float | int | str | None:
    """A cell of nvidia-smi as a value; None where it has none."""
    if text.startswith("0x"):
        return int(text, 16)
    if text in ("", "N/A", "[N/A]", "[Not Supported]", "Not Active"):
        return None
    try:
        return float(text)
    except ValueError:
        return text


def agrees(field: Field, before: Any, theirs: Any, after: Any) -> bool:
    """Whether nvidia-smi's value lies within what we saw before and after, and the tolerance."""
    if theirs is None or before is None or after is None:
        return theirs is None and before is None
    if field.tolerance is None or isinstance(theirs, str):
        return theirs in (before, after)
    slack = max(field.tolerance, field.relative * abs(float(theirs)))
    return bool(min(before, after) - slack <= theirs <= max(before, after) + slack)


def fields(telemetry: Telemetry, state: str) -> Table:
    """Rows: state, GPU, field, ours before, nvidia-smi's, ours after, verdict."""
    first = telemetry.wait(telemetry.reading(), 15)
    theirs = smi("gpu", [field.smi for field in FIELDS])
    second = telemetry.wait(telemetry.reading(), 15)
    if first is None or second is None:
        raise RuntimeError("telemetry gave no reading")
    rows: Table = []
    for index, other in enumerate(theirs):
        for field in FIELDS:
            if field.smi not in other:
                continue
            before, after = field.ours(first.gpus[index]), field.ours(second.gpus[index])
            told = number(other[field.smi])
            verdict = "same" if agrees(field, before, told, after) else "DIFFERS"
            rows.append(
                [state, index, field.smi, rounded(before), rounded(told), rounded(after), verdict]
            )
    return rows


def rounded(value: Any) -> Any:
    return round(value, 2) if isinstance(value, float) else value


def curve(telemetry: Telemetry, child: Child, gpus: int) -> Table:
    """Rows: GPU, action, MiB the process holds, our used MiB over the start, difference in MiB."""
    rows: Table = []
    for gpu in range(gpus):
        child.ask(f"alloc {gpu} {2 * MIB}")  # the first use of a GPU loads code into it
        child.ask(f"free {gpu}")
        start = used(telemetry, gpu)
        held: list[int] = []
        for size in (256 * MIB, 1 * GIB, 4 * GIB):
            child.ask(f"alloc {gpu} {size}")
            held.append(size)
            rows.append(
                _point(gpu, f"allocated {size // MIB} MiB", sum(held), used(telemetry, gpu) - start)
            )
        while held:
            child.ask(f"free {gpu}")
            size = held.pop()
            rows.append(
                _point(gpu, f"freed {size // MIB} MiB", sum(held), used(telemetry, gpu) - start)
            )
    return rows


def _point(gpu: int, action: str, held: int, grown: int) -> list[Any]:
    return [gpu, action, held // MIB, round(grown / MIB, 2), round((grown - held) / MIB, 2)]


def used(telemetry: Telemetry, gpu: int) -> int:
    """Memory of a reading whose figures were taken after this call."""
    telemetry.wait(telemetry.reading(), 15)
    reading = telemetry.wait(telemetry.reading(), 15)
    figure = None if reading is None else reading.gpus[gpu].memory_used
    if figure is None:
        raise RuntimeError(f"no memory figure of GPU {gpu}")
    return figure


def attribution(telemetry: Telemetry, child: Child, gpus: int) -> tuple[Table, dict[str, Any]]:
    """Rows: GPU, pid, owner, user, command, our MiB, nvidia-smi's MiB, of the holding process."""
    for gpu in range(gpus):
        child.ask(f"alloc {gpu} {HELD}")
    time.sleep(2.5)  # user, command and owner are read every two seconds
    rows, reading, apps = holders(telemetry)
    trees = {tree.owner: tree.gpu_memory for tree in reading.trees}
    for gpu in range(gpus):
        child.ask(f"free {gpu}")
    return rows, {
        "holder's pid": child.pid,
        "nvidia-smi's rows": apps,
        "tree on all GPUs, MiB": _whole_mib(trees.get("holder")),
    }


def holders(telemetry: Telemetry) -> tuple[Table, Reading, int]:
    """Every process on a GPU as we and nvidia-smi see it, the reading, and nvidia-smi's count."""
    reading = telemetry.wait(telemetry.reading(), 15)
    if reading is None:
        raise RuntimeError("telemetry gave no reading")
    apps = smi("compute-apps", ("pid", "gpu_uuid", "used_memory"))
    told = {(row["pid"], row["gpu_uuid"]): row["used_memory"] for row in apps}
    rows: Table = []
    for row in reading.processes:
        theirs = told.get((str(row.pid), reading.gpus[row.gpu].uuid))
        name = Path(row.command.split(" ")[0]).name
        memory = _whole_mib(row.memory)
        rows.append([row.gpu, row.pid, row.owner, row.user, name, memory, theirs, row.problem])
    return rows, reading, len(apps)


def _whole_mib(size: int | None) -> int | None:
    return None if size is None else round(size / MIB)


def triton(command: list[str] | None) -> tuple[Table, dict[str, Any]]:
    """The same of a Triton server's python model; nothing where there is no server."""
    if command is None:
        return [], {"skipped": "no tritonserver on PATH, and no --triton"}
    with (
        tempfile.TemporaryDirectory() as folder,
        holding(command, Path(folder), HELD) as server,
    ):
        telemetry = Telemetry(0.25, owners=lambda: {server: "triton"})
        telemetry.start()
        try:
            time.sleep(3)
            rows, reading, apps = holders(telemetry)
        finally:
            telemetry.close()
    (tree,) = reading.trees
    return rows, {
        "server's pid": server,
        "its processes": len(tree.pids),
        "nvidia-smi's rows": apps,
        "resident MiB": _whole_mib(tree.memory),
        "tree on all GPUs, MiB": _whole_mib(tree.gpu_memory),
    }


def copies(telemetry: Telemetry, child: Child, verb: str, names: Sequence[str]) -> Table:
    """Rows: what, GPU, the copy's own GB/s, the figure's name, our figure in GB/s."""
    rows: Table = []
    # Two looks at NVLink's counters must fall into the copy; eight GPUs take nine seconds each.
    seen, told = child.during(f"{verb} 25", 23, telemetry.reading)
    for index, rate in enumerate(told["bytes_per_s"]):
        for name in names:
            ours = getattr(seen.gpus[index], name)
            problem = seen.gpus[index].problems.get(name, "")
            shown = problem if ours is None else round(ours / 1e9, 2)
            rows.append([verb, index, round(rate / 1e9, 2), name, shown])
    return rows


def _times(job: Callable[[], object], count: int) -> dict[str, float]:
    """Median and p95 of wall time in ms, and processor time per call in ms."""
    job()
    walls = []
    spent = time.thread_time()
    for _ in range(count):
        began = time.perf_counter()
        job()
        walls.append(1000 * (time.perf_counter() - began))
    spent = 1000 * (time.thread_time() - spent) / count
    walls.sort()
    return {
        "median ms": round(statistics.median(walls), 3),
        "p95 ms": round(walls[int(0.95 * (len(walls) - 1))], 3),
        "processor ms": round(spent, 3),
    }


def costs() -> tuple[Table, Table]:
    """Each class, and each question of the fast one on GPU 0. Nothing else may be sampling."""
    fast = FastGpus(gate())
    slow, pcie = SlowGpus(fast), PcieTurns(fast)
    rows: Table = [["fast, all GPUs", *_times(fast.read, 300).values()]]
    rows.append(["slow, all GPUs", *_times(slow.read, 10).values()])
    rows.append(["windowed, one GPU", *_times(pcie.read, 10).values()])
    ended = threading.Event()

    def turn() -> None:
        while not ended.is_set():
            pcie.read()

    thread = threading.Thread(target=turn)
    thread.start()
    rows.append(["fast, while PCIe is measured without pause", *_times(fast.read, 300).values()])
    ended.set()
    thread.join()
    handle, _ = gate().handle(0)
    questions: Table = []
    for question in (*figures.fast(), *figures.slow(), figures.nvlink(), *figures.windowed()):
        count = 10 if question in figures.windowed() else 100
        told = _times(lambda q=question: q.put(gate(), handle), count)  # type: ignore[misc]
        questions.append([", ".join(question.fields), *(round(1000 * v, 1) for v in told.values())])
    call = "nvmlDeviceGetComputeRunningProcesses"
    told = _times(lambda: gate().ask(call, handle), 100)
    questions.append(["processes", *(round(1000 * value, 1) for value in told.values())])
    return rows, questions


def running(seconds: float) -> dict[str, float]:
    """Processor seconds per second of a telemetry at 1 Hz."""
    telemetry = Telemetry(
        1.0, owners=lambda: {os.getpid(): "benchmark"}, folders=lambda: [Path.home()]
    )
    telemetry.start()
    time.sleep(3)
    spent, began = time.process_time(), time.monotonic()
    time.sleep(seconds)
    rate = (time.process_time() - spent) / (time.monotonic() - began)
    telemetry.close()
    return {"processor s/s at 1 Hz": round(rate, 5), "over seconds": seconds}


def table(head: Sequence[str], rows: Table) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [
        f"| {' | '.join('' if cell is None else str(cell) for cell in row)} |" for row in rows
    ]
    return "\n".join(lines)


def machine(reading: Reading) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%d %B %Y"),
        "gpus": [f"{gpu.name}" for gpu in reading.gpus],
        "mig mode": [gpu.mig_mode for gpu in reading.gpus],
        "driver": reading.driver,
        "cuda": reading.cuda,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "problems": {gpu.index: dict(gpu.problems) for gpu in reading.gpus if gpu.problems},
    }


FIELD_HEAD = ("state", "GPU", "field", "ours before", "nvidia-smi", "ours after", "verdict")
CURVE_HEAD = ("GPU", "action", "held MiB", "ours grew by MiB", "difference MiB")
COST_HEAD = ("class", "median ms", "p95 ms", "processor ms a look")
QUESTION_HEAD = ("question, one GPU", "median µs", "p95 µs", "processor µs")
PROCESS_HEAD = ("GPU", "pid", "owner", "user", "command", "ours MiB", "nvidia-smi MiB", "problem")
COPY_HEAD = ("copy", "GPU", "its own GB/s", "field", "ours GB/s")


def record(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    told = result["machine"]
    differ = [row for row in result["fields"] if row[-1] != "same"]
    parts = [
        f"{told['date']}, {len(told['gpus'])} × {told['gpus'][0]}, driver {told['driver']} "
        f"(CUDA {told['cuda']}), Linux {told['kernel']}, Python {told['python']}, "
        f"{told['processors']} processors. MIG mode: {told['mig mode']}.",
        f"{len(result['fields'])} comparisons with nvidia-smi, {len(differ)} differ"
        + (":" if differ else "."),
        table(FIELD_HEAD, differ) if differ else "",
        "GPU 0 in full:",
        table(FIELD_HEAD, [row for row in result["fields"] if row[1] == 0]),
        "Memory of a process that allocates and frees known blocks:",
        table(CURVE_HEAD, result["curve"]),
        f"A process that holds 2 GiB on each GPU ({result['holder']}):",
        table(PROCESS_HEAD, result["processes"]),
        f"A Triton python model that holds 2 GiB on each GPU ({result['triton']}):",
        table(PROCESS_HEAD, result["model"]),
        "While data is copied:",
        table(COPY_HEAD, result["copies"]),
        f"Cost ({result['running']}):",
        table(COST_HEAD, result["costs"]),
        table(QUESTION_HEAD, result["questions"]),
        f"Parts that failed: {result['failed']}" if result["failed"] else "",
        f"Fields without a figure: {told['problems']}" if told["problems"] else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def measure(triton_command: list[str] | None) -> dict[str, Any]:
    """Every part, one after the other; one that fails leaves its reason under `failed`."""
    failed: dict[str, str] = {}
    result: dict[str, Any] = {"failed": failed, "fields": [], "curve": [], "copies": []}

    def part(name: str, job: Callable[[], Any], missing: Any) -> Any:
        try:
            return job()
        except RuntimeError as error:  # nvidia-smi, CUDA or a server: the other parts still stand
            failed[name] = str(error)
            return missing

    result["costs"], result["questions"] = costs()
    result["running"] = running(20)
    child = Child()
    telemetry = Telemetry(0.25, owners=lambda: {child.pid: "holder"})
    telemetry.start()
    try:
        time.sleep(7)  # slow figures come round every five seconds
        gpus = int(child.ask("count")["gpus"])
        result["machine"] = machine(telemetry.reading())
        result["fields"] += part("idle", lambda: fields(telemetry, "idle"), [])
        result["curve"] = part("curve", lambda: curve(telemetry, child, gpus), [])
        result["processes"], result["holder"] = part(
            "attribution", lambda: attribution(telemetry, child, gpus), ([], {})
        )
        busy = part(
            "busy", lambda: child.during("busy 10", 3, lambda: fields(telemetry, "busy"))[0], []
        )
        result["fields"] += busy
        for verb, names in (("h2d", ("pcie_rx",)), ("p2p", ("nvlink_tx", "nvlink_rx"))):
            job = partial(copies, telemetry, child, verb, names)
            result["copies"] += part(verb, job, [])
    finally:
        telemetry.close()
        child.close()
    result["model"], result["triton"] = part("triton", lambda: triton(triton_command), ([], {}))
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare telemetry with nvidia-smi on real GPUs.")
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.md and gpu.json")
    parser.add_argument("--triton", type=Path, help="python of an environment with a Triton server")
    options = parser.parse_args()
    out = options.out
    _, note = gate().gpus()
    if note:
        print(note, file=sys.stderr)
        return 2
    result = measure(launcher(options.triton))
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "gpu.md").write_text(record(result))
    print(record(result))
    exact = {field.smi for field in EXACT}
    wrong = [row for row in result["fields"] if row[-1] != "same" and row[2] in exact]
    # The driver hands memory out in pages of 2 MiB.
    strays = [row for row in result["curve"] if abs(row[-1]) > 2]
    for row in (*wrong, *strays):
        print("wrong:", row, file=sys.stderr)
    return 1 if wrong or strays or result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
