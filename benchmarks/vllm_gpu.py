"""What the vLLM route predicts, beside what vLLM and NVML say on real GPUs.

    python benchmarks/vllm_gpu.py --environment FOLDER --out FOLDER [--cases facts,8b,70b-tp2,…]

FOLDER of ``--environment`` is a Python environment with vLLM. Each case goes from ``tritondeck check``
over ``deploy`` and ``query`` to ``stop``. The facts model must give right answers over chat and
completions; the shapes of large models run with random weights from a folder with their config.json
alone. Writes vllm.md and vllm.json; ends with 1 when a prediction is further off than asked: weights
2 %, cached tokens 5 %, memory of each GPU 10 %, or when what does not fit is not refused.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pynvml

ROOT = Path(__file__).parents[1]
GIB = 1 << 30
LITTLE = 64 << 20
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
LLAMA_8B = LLAMA | {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
LLAMA_70B = LLAMA | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
}
MIXTRAL = LLAMA_8B | {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "vocab_size": 32000,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
LOADED = re.compile(r"Model loading took ([\d.]+) GiB")
CACHE = re.compile(r"GPU KV cache size: ([\d,]+) tokens")
AVAILABLE = re.compile(r"Available KV cache memory: ([\d.]+) GiB")
GRAPHS = re.compile(r"Graph capturing finished in .* took ([\d.-]+) GiB")


@dataclass(frozen=True)
class Case:
    """One model on some GPUs."""

    name: str
    config: dict[str, Any] | None = None
    tensor: int = 1
    fraction: float = 0.9
    length: int = 8192
    options: dict[str, Any] = field(default_factory=dict)
    fits: bool = True


CASES = (
    Case("facts", tensor=1, fraction=0.05, length=256, options={"enforce_eager": True}),
    Case("8b", LLAMA_8B, fraction=0.35),
    Case("70b-tp1", LLAMA_70B, fits=False),
    Case("70b-tp2", LLAMA_70B, tensor=2, options={"enforce_eager": True}),
    Case("70b-tp4", LLAMA_70B, tensor=4, fraction=0.5, options={"enforce_eager": True}),
    Case(
        "mixtral-tp2",
        MIXTRAL,
        tensor=2,
        fraction=0.6,
        options={"enforce_eager": True, "moe_backend": "triton"},
    ),
)


class Bench:
    """One home, one environment, the console's command line in it."""

    def __init__(self, home: Path, environment: Path) -> None:
        self.home = home
        self.environment = environment
        self.env = {
            **os.environ,
            "TRITONDECK_HOME": str(home),
            "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        }

    def deck(self, *words: str, timeout: float = 560) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "console.cli", *words],
            env=self.env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        return done.returncode, done.stdout

    def write(self, case: Case) -> Path:
        """The deployment file of a case, and the folder of a shape."""
        if case.config is None:
            model = ROOT / "examples" / "facts"
        else:
            model = self.home / "models" / case.name
            model.mkdir(parents=True, exist_ok=True)
            (model / "config.json").write_text(json.dumps(case.config))
        options = {
            "tensor_parallel_size": case.tensor,
            "gpu_memory_utilization": case.fraction,
            "max_model_len": case.length,
            **({"load_format": "dummy"} if case.config else {}),
            **case.options,
        }
        lines = [
            "version = 1",
            f'name = "{case.name}"',
            'backend = "vllm"',
            "[checkpoints]",
            f'model = "{model}"',
            "[options]",
            *(f"{name} = {json.dumps(value)}" for name, value in options.items()),
            "[server]",
            "http_port = 0",
            "probe_seconds = 0",
            "[environments.vllm]",
            f'use = "{self.environment}"',
        ]
        if case.config is None:
            for style in ("chat", "completion"):
                lines += [
                    "[[verify]]",
                    'text = "What is the color of a banana?"',
                    'expect = "yellow"',
                    f'fields = {{ style = "{style}" }}',
                ]
        file = self.home / f"{case.name}.toml"
        file.write_text("\n".join(lines) + "\n")
        return file


def predicted(case: Case, file: Path, total: int) -> dict[str, float]:
    """Weights, cached tokens and memory of one GPU, as the route computes them."""
    sys.path.insert(0, str(ROOT))
    from backends.language.vllm_plan import need_of
    from backends.vllm import VllmBackend
    from console.checkpoints.read import read
    from console.planning import deployment

    made = deployment.load(file)
    need = need_of(VllmBackend().bind(made.options), read(Path(made.checkpoints["model"])))
    assert need is not None, "the shapes tell their geometry"
    budget = int(total * case.fraction)
    return {
        "weights_gib": need.weights / GIB,
        "tokens": need.tokens(budget),
        "gpu_gib": budget / GIB,
    }


def used(handles: list[Any]) -> list[int]:
    """Bytes in use on each GPU, without the driver's reserve."""
    return [pynvml.nvmlDeviceGetMemoryInfo(h, version=pynvml.nvmlMemory_v2).used for h in handles]


def left(handles: list[Any], before: list[int]) -> int:
    """Bytes on the fullest GPU over `before`, once they are few or after five seconds."""
    for _ in range(50):
        over = max(a - b for a, b in zip(used(handles), before, strict=True))
        if over < LITTLE:
            break
        time.sleep(0.1)
    return over


def seen(log: str, before: list[int], after: list[int], tensor: int) -> dict[str, Any]:
    """What vLLM's log and NVML say; of several ranks the largest weights and the smallest cache."""
    loaded = [float(v) for v in LOADED.findall(log)]
    tokens = [int(v.replace(",", "")) for v in CACHE.findall(log)]
    grown = [(a - b) / GIB for a, b in zip(after, before, strict=True)]
    return {
        "weights_gib": max(loaded, default=0.0),
        "tokens": min(tokens, default=0),
        "available_gib": [float(v) for v in AVAILABLE.findall(log)][:1],
        "graphs_gib": [float(v) for v in GRAPHS.findall(log)][:1],
        "gpu_gib": sorted(grown, reverse=True)[:tensor],
    }


def off(said: float, real: float) -> float:
    return abs(said - real) / real if real else 1.0


def run(bench: Bench, case: Case, handles: list[Any]) -> dict[str, Any]:
    file = bench.write(case)
    before = used(handles)
    total = pynvml.nvmlDeviceGetMemoryInfo(handles[0]).total
    code, checked = bench.deck("check", str(file))
    row: dict[str, Any] = {"case": case.name, "check": code}
    fits = [line for line in checked.splitlines() if "gpu-memory" in line]
    row["said"] = " / ".join(line.strip() for line in fits)
    if not case.fits:
        row["ok"] = code != 0 and any("does not fit" in line for line in fits)
        return row
    started = time.monotonic()
    code, told = bench.deck("deploy", str(file))
    row["start_s"] = round(time.monotonic() - started, 1)
    row["deploy"] = code
    try:
        logs = sorted((bench.home / "services").rglob("server.log")) or sorted(
            bench.home.rglob(f"{case.name}-s*/server.log")
        )
        log = logs[-1].read_text(errors="replace") if logs else ""
        for found in logs:
            if case.name in str(found):
                log = found.read_text(errors="replace")
        row["seen"] = seen(log, before, used(handles), case.tensor)
        row["predicted"] = predicted(case, file, total)
        row["log_tail"] = [] if code == 0 else (told.splitlines()[-25:] + log.splitlines()[-40:])
        if case.config is None:
            row["answers"] = [
                bench.deck("query", case.name, "--text", text)[1].strip()
                for text in ("What is the capital of France?", "Count from one to ten.")
            ]
    finally:
        stopped = time.monotonic()
        bench.deck("stop", case.name)
        row["stop_s"] = round(time.monotonic() - stopped, 1)
    row["left_mib"] = round(left(handles, before) / (1 << 20), 1)
    row["ok"] = code == 0 and judged(case, row)
    return row


def judged(case: Case, row: dict[str, Any]) -> bool:
    if case.config is None:
        return row["answers"] == ["Paris", "one two three four five six seven eight nine ten"]
    said, real = row["predicted"], row["seen"]
    row["off"] = {
        "weights": round(off(said["weights_gib"], real["weights_gib"]), 4),
        "tokens": round(off(said["tokens"], real["tokens"]), 4),
        "gpu": round(max(off(said["gpu_gib"], gpu) for gpu in real["gpu_gib"]), 4),
    }
    o = row["off"]
    return bool(o["weights"] <= 0.02 and o["tokens"] <= 0.05 and o["gpu"] <= 0.10)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| case | weights GiB, said / vLLM | cached tokens, said / vLLM | GPU GiB, said / NVML each "
        "| start s | stop s | left MiB | ok |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        said, real = row.get("predicted"), row.get("seen")
        if not said or not real:
            lines.append(f"| {row['case']} | {row['said']} | | | | | | {row['ok']} |")
            continue
        each = ", ".join(f"{gpu:.1f}" for gpu in real["gpu_gib"])
        lines.append(
            f"| {row['case']} | {said['weights_gib']:.2f} / {real['weights_gib']:.2f} "
            f"| {said['tokens']:,.0f} / {real['tokens']:,} | {said['gpu_gib']:.1f} / {each} "
            f"| {row['start_s']} | {row['stop_s']} | {row['left_mib']} | {row['ok']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", default="")
    args = parser.parse_args()
    wanted = [name for name in args.cases.split(",") if name]
    pynvml.nvmlInit()
    count = pynvml.nvmlDeviceGetCount()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(count)]
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(Path(home), args.environment)
        for case in CASES:
            if (wanted and case.name not in wanted) or case.tensor > count:
                continue
            rows.append(run(bench, case, handles))
            print(json.dumps(rows[-1]), flush=True)
            document = {
                "date": datetime.date.today().isoformat(),
                "gpu": pynvml.nvmlDeviceGetName(handles[0]),
                "count": count,
                "driver": pynvml.nvmlSystemGetDriverVersion(),
                "rows": rows,
            }
            (args.out / "vllm.json").write_text(json.dumps(document, indent=1) + "\n")
            (args.out / "vllm.md").write_text(table(rows))
    print(table(rows))
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
