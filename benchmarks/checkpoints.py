"""How long the facts of a checkpoint take: ``python benchmarks/checkpoints.py``.

Makes sparse and small files in a temporary folder, reads each some times and prints the best and
the median in milliseconds beside its bar. Ends with 1 when a median is over its bar.
"""

from __future__ import annotations

import statistics
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


def fresh_browse(folder: Path) -> None:
    browse._cache.clear()
    browse.browse(folder)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = files.write_sparse_nemo(folder / "one.nemo", 1, 100 * GIB)
        shards = files.write_sparse_nemo(folder / "shards.nemo", 4096, 100 * GIB)
        packed = files.write_gzip_nemo(folder / "packed.nemo", bytes(range(256)) * 400_000)
        digits = ROOT / "examples" / "digits" / "digits.nemo"
        plain = many_files(folder / "many", 10_000)
        rows: list[tuple[str, Callable[[], object], float | None]] = [
            ("facts of a 100 GB sparse .nemo, one weight file", lambda: read(one), 20),
            ("facts of a 100 GB sparse .nemo, 4096 shards", lambda: read(shards), None),
            ("facts of a gzip .nemo (100 MB unpacked)", lambda: read(packed), 50),
            ("facts of the digits checkpoint", lambda: read(digits), 20),
            ("a folder with these three, nothing cached", lambda: fresh_browse(folder), None),
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
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
