"""What the console says about real GPUs, beside nvidia-smi's answer taken at the same time.

    python benchmarks/gpu.py

Needs an NVIDIA driver. With PyTorch installed a child process holds a known amount of memory on
GPU 0 while the two are compared.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from console.telemetry.host import host
from console.telemetry.sampler import Sampler

HOLD = """
import torch
held = torch.empty(2 << 30, dtype=torch.uint8, device="cuda:0")
torch.cuda.synchronize()
print("holding", flush=True)
input()
"""


def nvidia_smi() -> list[int]:
    """Used memory of each GPU in MiB, as nvidia-smi counts it."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    return [int(line) for line in answer.split()]


def compare(sampler: Sampler, title: str) -> bool:
    """One line a GPU: ours, nvidia-smi's, whether they agree within 1 MiB."""
    ours = [gpu.memory_used for gpu in sampler.sample().gpus]
    theirs = nvidia_smi()
    agree = True
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        mib = (mine or 0) / 1024**2
        same = abs(mib - other) <= 1
        agree &= same
        print(
            f"{title}: gpu {index}: {mib:.0f} MiB, nvidia-smi {other} MiB, {'same' if same else 'DIFFERS'}"
        )
    return agree


def main() -> int:
    started = time.perf_counter()
    facts = host()
    print(f"host() {1000 * (time.perf_counter() - started):.0f} ms, NVML's start included")
    for gpu in facts.gpus:
        print(
            f"gpu {gpu.index}: {gpu.name}, capability {gpu.compute_capability}, driver {facts.driver}"
        )
    if not facts.gpus:
        print(f"no GPU: {facts.gpu_note}")
        return 1
    sampler = Sampler()
    sampler.sample()
    costs = []
    for _ in range(200):
        started = time.perf_counter()
        sampler.sample()
        costs.append(1000 * (time.perf_counter() - started))
    costs.sort()
    print(
        f"sample(): median {statistics.median(costs):.2f} ms, p95 {costs[189]:.2f} ms, 200 samples"
    )
    agree = compare(sampler, "idle")
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None and child.stdin is not None
        if child.stdout.readline().strip() == "holding":
            agree &= compare(sampler, "2 GiB held")
            child.stdin.write("\n")
            child.stdin.close()
    agree &= compare(sampler, "freed")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
