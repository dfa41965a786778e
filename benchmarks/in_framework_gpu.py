"""The in-framework route on a real GPU: the small model's answers, and the memory that it takes.

    python benchmarks/in_framework_gpu.py --environment FOLDER --out FOLDER

FOLDER of ``--environment`` is a Python environment with nemo-export-deploy, nvidia-pytriton and a
PyTorch with CUDA. Goes from ``tritondeck check`` over ``deploy`` (chat and completions are verified)
and ``query`` to ``stop``. Writes in_framework.json; ends with 1 when an answer is wrong, when no GPU
memory was taken, or when some is left.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pynvml
from vllm_gpu import LITTLE, ROOT, Bench, left, used

NAME = "facts"
ASKED = {
    "What is the capital of France?": "Paris",
    "Count from one to ten.": "one two three four five six seven eight nine ten",
}
FILE = """version = 1
name = "{name}"
backend = "in-framework"
[checkpoints]
model = "{model}"
[options]
device = "cuda"
[server]
http_port = 0
grpc_port = 0
metrics_port = 0
probe_seconds = 0
[environments.inframework]
use = "{environment}"
[[verify]]
text = "What is the color of a banana?"
expect = "yellow"
fields = {{ style = "chat" }}
[[verify]]
text = "What is the color of a banana?"
expect = "yellow"
fields = {{ style = "completion" }}
"""


def run(home: Path, environment: Path, handles: list[Any]) -> dict[str, Any]:
    bench = Bench(home, environment)
    file = home / f"{NAME}.toml"
    model = ROOT / "examples" / NAME
    file.write_text(FILE.format(name=NAME, model=model, environment=environment))
    before = used(handles)
    row: dict[str, Any] = {"check": bench.deck("check", str(file))[0]}
    started = time.monotonic()
    code, told = bench.deck("deploy", str(file))
    row |= {"deploy": code, "start_s": round(time.monotonic() - started, 1)}
    try:
        row["told"] = told.splitlines()[-40:]
        row["answers"] = {text: bench.deck("query", NAME, "--text", text)[1] for text in ASKED}
        grown = [a - b for a, b in zip(used(handles), before, strict=True)]
        row["taken_mib"] = [round(bytes_ / (1 << 20), 1) for bytes_ in grown]
        row["holders"] = [
            p.pid for h in handles for p in pynvml.nvmlDeviceGetComputeRunningProcesses(h)
        ]
    finally:
        stopped = time.monotonic()
        row["stop"] = bench.deck("stop", NAME)[0]
        row["stop_s"] = round(time.monotonic() - stopped, 1)
    over = left(handles, before)
    row["left_mib"] = round(over / (1 << 20), 1)
    row["log"] = [
        line
        for log in sorted(home.rglob("server.log"))
        for line in log.read_text(errors="replace").splitlines()[-60:]
    ]
    right = all(answer.strip() == ASKED[text] for text, answer in row["answers"].items())
    row["ok"] = code == 0 and right and max(row["taken_mib"]) > 100 and over < LITTLE
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    pynvml.nvmlInit()
    count = pynvml.nvmlDeviceGetCount()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(count)]
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        row = run(Path(home), args.environment, handles)
    document = {
        "date": datetime.date.today().isoformat(),
        "gpu": pynvml.nvmlDeviceGetName(handles[0]),
        "driver": pynvml.nvmlSystemGetDriverVersion(),
        "row": row,
    }
    (args.out / "in_framework.json").write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))
    return 0 if row["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
