"""What the console costs a terminal: ``python benchmarks/terminal.py``.

Makes a home in a temporary folder with real deployments of real checkpoints and one real run whose
runner writes a log, opens the console in a pseudo-terminal of 120×40 and measures it from outside
(`tuibench.py`), beside peers in the same run: a bare Textual app, nvitop on a made-up NVML, posting.
Prints a Markdown table and, for our screens, whether each bar is met; ends with 1 when one is missed.

The peers live in an environment of their own under ``--peers`` and are left out without it.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "unit"))  # the makers of checkpoints live with the tests

import checkpoint_files as files  # noqa: E402

from console import settings  # noqa: E402
from console.desk.desk import Desk  # noqa: E402
from console.planning.plan import Command, CommandStep, ExitCode, Plan  # noqa: E402
from console.runs.store import RunStore  # noqa: E402

TUIBENCH = ROOT / "benchmarks" / "tuibench.py"
PAINT_MS, QUIET_MS, KEY_BYTES, SCROLL_BYTES, MEMORY_MIB = 600, 30, 1300, 17_000, 80
BARE_MS = 435
"""First paint of the bare Textual app on the machine that `PAINT_MS` was set for."""
PEERS = ("nvitop==1.7.2", "posting==2.11.1", "tree-sitter<0.26", "textual[syntax]==6.1.0")
BARE_LABEL = "bare Textual"
BARE = """
from textual.app import App
from textual.widgets import Footer, Header, OptionList

class Bare(App):
    BINDINGS = [("q", "quit", "Quit")]
    def compose(self):
        yield Header()
        yield OptionList(*(f"entry {number:03d}  ready  onnx" for number in range(200)))
        yield Footer()

Bare().run()
"""
LOG = """
import sys
for number in range(20000):
    print(f"[NeMo I 2026-09-21 14:{number // 60 % 60:02d}:{number % 60:02d} export:{number}] layer {number}")
"""


@dataclass(frozen=True)
class Case:
    """One program on one screen; `keys` are measured after `setup` was typed."""

    label: str
    command: Sequence[str]
    setup: str = ""
    keys: str = "down,down,down,up"
    still: bool = False
    """Nothing on it is live: it must send nothing while idle."""
    scrolls: bool = False
    ours: bool = True
    environ: tuple[str, ...] = ()
    leave: str = "ctrl+q"


def make_home(base: Path) -> tuple[Path, Path]:
    """A home with deployments and a run, and a folder of checkpoints."""
    home, models = base / "home", base / "models"
    models.mkdir()
    for number in range(60):
        files.write_nemo(models / f"speech-{number:02d}.nemo")
    shutil.copy(ROOT / "examples" / "digits" / "digits.nemo", models / "digits.nemo")
    desk = Desk(settings.load({"TRITONDECK_HOME": str(home)}))
    for number in range(30):
        draft = desk.draft(models / "digits.nemo", "onnx", f"digits-{number:02d}")
        desk.save(draft)
    script = base / "export.py"
    script.write_text(LOG)
    command = Command(argv=(sys.executable, str(script)))
    step = CommandStep(id="export", title="Export", command=command, success=(ExitCode(),))
    runs = RunStore(desk.settings)
    name = "digits-29"
    run = runs.create(Plan(deployment=name, backend="onnx", steps=(step,)), "")
    runs.start(run)
    while runs.view(run).active:
        time.sleep(0.1)
    return home, models


def cases(home: Path, peers: Path | None) -> Iterator[Case]:
    """Ours first, then the peers that are there."""
    deck = (str(Path(sys.executable).with_name("tritondeck")),)
    at = (f"TRITONDECK_HOME={home}",)
    yield Case("Home", deck, environ=at)
    yield Case("Checkpoint", deck, "n", still=True, environ=at)
    yield Case("Checkpoint, pages", deck, "n", "pgdn,pgup", still=True, scrolls=True, environ=at)
    yield Case("Options", deck, "o", still=True, environ=at)
    yield Case("Check", deck, "enter", still=True, environ=at)
    yield Case("Log", deck, "enter,5,tab", "pgup,pgdn", scrolls=True, environ=at)
    yield Case(BARE_LABEL, (sys.executable, "-c", BARE), ours=False, leave="q")
    if peers is None:
        return
    library = peers / "nvml"
    library.mkdir(parents=True, exist_ok=True)
    source, target = ROOT / "tests" / "assets" / "fakenvml.c", library / "libnvidia-ml.so.1"
    soname = "-Wl,-soname,libnvidia-ml.so.1"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", soname, "-o", target, source], check=True)
    python = peers / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", peers / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
    fake = (f"LD_LIBRARY_PATH={library}", "FAKENVML_GPUS=8")
    yield Case("nvitop", (str(python.with_name("nvitop")),), ours=False, environ=fake, leave="q")
    yield Case("posting", (str(python.with_name("posting")),), ours=False)


def measure(case: Case, folder: Path, samples: int, starts: int) -> dict[str, Any]:
    """One run of `tuibench.py`; its JSON."""
    result = folder / "result.json"
    argv = [sys.executable, str(TUIBENCH), "run", "--json", str(result), "--burst", "0"]
    argv += ["--label", case.label, "--samples", str(samples), "--repeat", str(starts)]
    argv += ["--setup-keys", case.setup, "--setup-wait", "3" if case.setup else "1"]
    argv += ["--keys", case.keys, "--quit-keys", case.leave, "--idle", "5"]
    argv += ["--dump", str(folder / f"{case.label}.txt"), "--cwd", str(folder / "models")]
    for pair in case.environ:
        argv += ["--env", pair]
    subprocess.run([*argv, "--", *case.command], check=True, env=os.environ)
    return dict(json.loads(result.read_text()))


def missed(case: Case, result: dict[str, Any]) -> list[str]:
    """The bars that a screen of ours does not meet, in words."""
    keys, idle = result["keys"], result["idle"]
    quiet, size = keys["quiet_ms"].get("p95"), keys["bytes"].get("p50")
    bound = SCROLL_BYTES if case.scrolls else KEY_BYTES
    checks = [
        (quiet is not None and quiet <= QUIET_MS, f"key to quiet p95 {quiet} ms"),
        (size is not None and size <= bound, f"{size} bytes a key"),
        (not case.still or idle["bytes_per_s"] == 0, f"{idle['bytes_per_s']} B/s idle"),
        (result["memory"]["peak_rss_mib"] <= MEMORY_MIB, f"{result['memory']['peak_rss_mib']} MiB"),
        (result["quit"].get("terminal_restored") is True, "the terminal was not restored"),
    ]
    return [words for met, words in checks if not met]


def late(ours: Sequence[float], bare: float | None) -> list[str]:
    """Whether Home, which every start paints, comes late: judged as a ratio, for machines differ."""
    paint = statistics.median(ours)
    bound = PAINT_MS if bare is None else PAINT_MS / BARE_MS * bare
    return [] if paint <= bound else [f"every start: first paint {paint:.0f} ms of {bound:.0f}"]


def row(result: dict[str, Any]) -> str:
    """A line of the table."""
    keys, start = result["keys"], result["start"]
    quiet, size = keys["quiet_ms"], keys["bytes"]
    cells = [
        result["label"],
        f"{start['first_paint_ms']:.0f}",
        f"{start['settled_cpu_s']:.2f}",
        f"{start['settled_bytes'] / 1000:.1f}",
        f"{quiet.get('p50', '–')} / {quiet.get('p95', '–')}",
        f"{size.get('p50', '–')}",
        f"{result['idle']['bytes_per_s']:.0f}",
        f"{result['memory']['peak_rss_mib']:.0f}",
        f"{result['quit'].get('exit_ms') or 0:.0f}",
        "yes" if result["quit"].get("terminal_restored") else "no",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=Path, help="folder for the peers' environment")
    parser.add_argument("--samples", type=int, default=30, help="keys a screen")
    parser.add_argument("--starts", type=int, default=3, help="starts a screen; the median counts")
    parser.add_argument("--only", default="", help="words of the labels to measure")
    parser.add_argument("--keep", type=Path, help="folder for the screens as text")
    options = parser.parse_args()
    words = ("", "first paint ms", "start CPU s", "start kB", "key to quiet ms, p50 / p95")
    words += ("bytes a key, p50", "idle B/s", "RSS MiB", "quit ms", "restored")
    print("| " + " | ".join(words) + " |\n|" + "---|" * len(words), flush=True)
    for package in ("backends", "console", "screens", "themes"):
        # As pip does for the peers; a checkout may hold no bytecode, or that of an older text.
        compileall.compile_dir(ROOT / package, quiet=2)
    failures, paints, bare = [], [], None
    with tempfile.TemporaryDirectory(prefix="tritondeck-bench-") as name:
        folder = options.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        home, _ = make_home(folder)
        for case in cases(home, options.peers):
            if options.only and options.only.lower() not in case.label.lower():
                continue
            result = measure(case, folder, options.samples, options.starts)
            print(row(result), flush=True)
            if case.ours:
                paints.append(result["start"]["first_paint_ms"])
            elif case.label == BARE_LABEL:
                bare = result["start"]["first_paint_ms"]
            if case.ours and (bad := missed(case, result)):
                failures.append(f"{case.label}: {', '.join(bad)}")
    failures += late(paints, bare) if paints else []
    print("\n".join(failures) or "every bar met", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
