"""How long the facts of a checkpoint take: ``python benchmarks/checkpoints.py``.

Makes sparse and small files in a temporary folder, reads each some times and prints the best and
the median in milliseconds beside its bar; then scans a tree of 100,000 files in a process of its own
and prints how much memory that took over idle. Ends with 1 when a bar is missed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "unit"))  # the makers of checkpoints live with the tests

import checkpoint_files as files  # noqa: E402

from console.checkpoints import browse  # noqa: E402
from console.checkpoints.read import read  # noqa: E402

GIB = 1 << 30
TIMES = 30
TREE_SECONDS = 2.0
TREE_MEGABYTES = 50.0
SCAN = """
import sys, time
from pathlib import Path
from console.checkpoints.scan import scan

def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1000

idle = resident("VmRSS")
before = time.perf_counter()
found = list(scan(Path(sys.argv[1])))
taken = time.perf_counter() - before
print(taken, resident("VmHWM") - idle, len(found))
"""
"""The memory that a scan takes is told by a process that does nothing else."""


def measure(what: Callable[[], object]) -> tuple[float, float]:
    """Best and median of `TIMES` calls, milliseconds."""
    taken = []
    for _ in range(TIMES):
        before = time.perf_counter()
        what()
        taken.append((time.perf_counter() - before) * 1000)
    return min(taken), statistics.median(taken)


def many_files(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.txt").touch()
    return folder


def tree(folder: Path, files_each: int = 100, folders: int = 1000) -> Path:
    """Files in folders two levels deep, and some checkpoints among them."""
    for number in range(folders):
        here = folder / f"{number % 40}" / f"{number}"
        here.mkdir(parents=True)
        for each in range(files_each):
            (here / f"{each}.txt").touch()
        if number % 50 == 0:
            files.write_nemo(here / "model.nemo")
            files.write_hugging_face(here / "llama")
    return folder


def scan_tree(folder: Path, flat: bool) -> int:
    """Print one row; 1 when a bar is missed."""
    rows = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", SCAN, str(folder)], capture_output=True, text=True, check=True
        )
        seconds, megabytes, found = done.stdout.split()
        rows.append((float(seconds), float(megabytes), int(found)))
    seconds, megabytes = (statistics.median(column) for column in list(zip(*rows, strict=True))[:2])
    missed = seconds > TREE_SECONDS or megabytes > TREE_MEGABYTES
    kind = "one folder" if flat else "1000 folders"
    print(
        f"a scan of 100,000 files in {kind}, {rows[0][2]} checkpoints: {seconds:.2f} s "
        f"(bar {TREE_SECONDS:g}), {megabytes:.1f} MB over idle (bar {TREE_MEGABYTES:g})"
        f"{'  missed' if missed else ''}"
    )
    return int(missed)


def fresh_browse(folder: Path) -> None:
    browse._cache.clear()
    browse.browse(folder)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = files.write_sparse_nemo(folder / "one.nemo", 1, 100 * GIB)
        shards = files.write_sparse_nemo(folder / "shards.nemo", 4096, 100 * GIB)
        packed = files.write_gzip_nemo(folder / "packed.nemo", bytes(range(256)) * 400_000)
        language = files.write_megatron_nemo(folder / "gpt.nemo", ["mp_rank_00", "mp_rank_01"])
        hugging_face = files.write_hugging_face(folder / "llama")
        nemo2 = files.write_nemo2(folder / "nemo2")
        engine = files.write_engine(folder / "engine")
        digits = ROOT / "examples" / "digits" / "digits.nemo"
        plain = many_files(folder / "many", 10_000)
        rows: list[tuple[str, Callable[[], object], float | None]] = [
            ("facts of a 100 GB sparse .nemo, one weight file", lambda: read(one), 20),
            ("facts of a 100 GB sparse .nemo, 4096 shards", lambda: read(shards), None),
            ("facts of a gzip .nemo (100 MB unpacked)", lambda: read(packed), 50),
            ("facts of the digits checkpoint", lambda: read(digits), 20),
            ("facts of a NeMo 1 language model, two ranks", lambda: read(language), 20),
            ("facts of a NeMo 2.0 folder", lambda: read(nemo2), 20),
            ("facts of a Hugging Face folder", lambda: read(hugging_face), 20),
            ("facts of a TensorRT-LLM engine folder", lambda: read(engine), 20),
            ("a folder with all of these, nothing cached", lambda: fresh_browse(folder), None),
            ("a folder of 10,000 other files", lambda: fresh_browse(plain), None),
        ]
        missed = 0
        print(f"{'what':<52}{'best ms':>9}{'median ms':>11}{'bar ms':>8}")
        for title, what, bar in rows:
            best, median = measure(what)
            over = bar is not None and median > bar
            missed += over
            shown = f"{bar:g}" if bar is not None else "-"
            print(f"{title:<52}{best:>9.2f}{median:>11.2f}{shown:>8}{'  missed' if over else ''}")
        missed += scan_tree(tree(folder / "tree"), flat=False)
        missed += scan_tree(many_files(folder / "flat", 100_000), flat=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
