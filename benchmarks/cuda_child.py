"""A process that uses GPUs by known amounts, told what to do line by line on its standard input.

    alloc GPU BYTES    one more block          free GPU          the last block of that GPU
    busy SECONDS       memory sets on all      h2d SECONDS       pinned host memory to all
    p2p SECONDS        each to the next GPU    count             how many GPUs

Each answer is one line of JSON. Speaks to the driver through libcuda alone, so that it runs where
no CUDA toolkit and no framework is installed.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

BLOCK = 512 << 20


class CudaError(RuntimeError):
    """A call of the driver failed."""


class Cuda:
    """The calls that are needed, on each GPU's primary context."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")
        self("cuInit", 0)
        count = ctypes.c_int()
        self("cuDeviceGetCount", ctypes.byref(count))
        self.contexts = [self._context(index) for index in range(count.value)]

    def __call__(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise CudaError(f"{name} returned {code}")

    def _context(self, index: int) -> ctypes.c_void_p:
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self("cuDeviceGet", ctypes.byref(device), index)
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        return context

    def use(self, index: int) -> None:
        """Make a GPU's context the calling thread's."""
        self("cuCtxSetCurrent", self.contexts[index])

    def alloc(self, size: int) -> ctypes.c_uint64:
        block = ctypes.c_uint64()
        self("cuMemAlloc_v2", ctypes.byref(block), ctypes.c_size_t(size))
        return block

    def free(self, block: ctypes.c_uint64) -> None:
        self("cuMemFree_v2", block)

    def sync(self) -> None:
        self("cuCtxSynchronize")


class Child:
    """What the lines mean."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._held: dict[int, list[ctypes.c_uint64]] = {}

    def count(self) -> dict[str, object]:
        return {"gpus": len(self._cuda.contexts)}

    def alloc(self, gpu: str, size: str) -> dict[str, object]:
        self._cuda.use(int(gpu))
        block = self._cuda.alloc(int(size))
        # Touched, so that nothing is left to a later moment.
        self._cuda("cuMemsetD8_v2", block, ctypes.c_ubyte(1), ctypes.c_size_t(int(size)))
        self._cuda.sync()
        self._held.setdefault(int(gpu), []).append(block)
        return {"blocks": len(self._held[int(gpu)])}

    def free(self, gpu: str) -> dict[str, object]:
        self._cuda.use(int(gpu))
        self._cuda.free(self._held[int(gpu)].pop())
        return {"blocks": len(self._held[int(gpu)])}

    def busy(self, seconds: str) -> dict[str, object]:
        return self._on_all(float(seconds), self._set)

    def h2d(self, seconds: str) -> dict[str, object]:
        return self._on_all(float(seconds), self._from_host)

    def p2p(self, seconds: str) -> dict[str, object]:
        if len(self._cuda.contexts) < 2:
            return {"bytes_per_s": []}
        return self._on_all(float(seconds), self._to_next)

    def _on_all(self, seconds: float, work: Callable[[int, float], float]) -> dict[str, object]:
        gpus = range(len(self._cuda.contexts))
        with ThreadPoolExecutor(len(self._cuda.contexts)) as pool:
            return {"bytes_per_s": list(pool.map(lambda gpu: work(gpu, seconds), gpus))}

    def _repeat(self, seconds: float, once: Callable[[], None]) -> float:
        """Bytes per second of an operation on one block."""
        began, done = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            for _ in range(8):
                once()
            self._cuda.sync()
            done += 8 * BLOCK
        return done / (time.monotonic() - began)

    def _set(self, gpu: int, seconds: float) -> float:
        self._cuda.use(gpu)
        block, size = self._cuda.alloc(BLOCK), ctypes.c_size_t(BLOCK)
        value = ctypes.c_ubyte(7)
        rate = self._repeat(seconds, lambda: self._cuda("cuMemsetD8_v2", block, value, size))
        self._cuda.free(block)
        return rate

    def _from_host(self, gpu: int, seconds: float) -> float:
        self._cuda.use(gpu)
        block, size, host = self._cuda.alloc(BLOCK), ctypes.c_size_t(BLOCK), ctypes.c_void_p()
        self._cuda("cuMemHostAlloc", ctypes.byref(host), size, 0)
        rate = self._repeat(seconds, lambda: self._cuda("cuMemcpyHtoD_v2", block, host, size))
        self._cuda("cuMemFreeHost", host)
        self._cuda.free(block)
        return rate

    def _to_next(self, gpu: int, seconds: float) -> float:
        there = (gpu + 1) % len(self._cuda.contexts)
        mine, other = self._cuda.contexts[gpu], self._cuda.contexts[there]
        self._cuda.use(there)
        target = self._cuda.alloc(BLOCK)
        self._cuda.use(gpu)
        source, size = self._cuda.alloc(BLOCK), ctypes.c_size_t(BLOCK)
        try:
            self._cuda("cuCtxEnablePeerAccess", other, 0)
        except CudaError as error:  # said, and the copy goes through host memory
            print(error, file=sys.stderr)
        rate = self._repeat(
            seconds, lambda: self._cuda("cuMemcpyPeer", target, other, source, mine, size)
        )
        self._cuda.free(source)
        self._cuda.use(there)
        self._cuda.free(target)
        return rate


def main() -> int:
    child = Child(Cuda())
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        verb, *arguments = line.split()
        try:
            answer = getattr(child, verb)(*arguments)
        except CudaError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
