"""NVML behind one gate: GPU facts and figures, or why there are none, in words.

`nvidia-ml-py` (module `pynvml`) is imported on first use and initialised once a process (60 ms).
Each figure is asked for on its own: a GPU that is lost, or a call that a driver lacks, costs that
figure and nothing else, and is asked again at the next sample.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Any

from console.facts import Gpu
from console.telemetry.sample import GpuSample
from console.text import clean

RETRY_SECONDS = 5.0
"""Between attempts to initialise a driver that did not answer."""

_WORDS = {
    "LIBRARY_NOT_FOUND": "no NVIDIA driver on this host",
    "DRIVER_NOT_LOADED": "the NVIDIA driver is not loaded",
    "LIB_RM_VERSION_MISMATCH": (
        "NVIDIA driver and library versions differ: the driver was updated; reload it or reboot"
    ),
    "UNINITIALIZED": "the NVIDIA driver was restarted",
    "NO_PERMISSION": "no permission to use the NVIDIA driver",
    "GPU_IS_LOST": "GPU is lost: it fell off the bus or was reset",
    "GPU_NOT_FOUND": "GPU is gone",
    "INVALID_ARGUMENT": "GPU is gone",
    "RESET_REQUIRED": "GPU needs a reset",
    "NOT_SUPPORTED": "not supported by this GPU",
    "FUNCTION_NOT_FOUND": "not supported by this driver",
    "TIMEOUT": "the NVIDIA driver does not answer",
}
_RESTART = ("UNINITIALIZED", "DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH", "LIBRARY_NOT_FOUND")
"""Errors of any call after which the library is initialised anew."""


class Nvml:
    """The gate. Safe to call from several threads; calls wait for each other."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._library: Any = None
        self._note = ""
        self._retry_at = 0.0
        self._handles: dict[int, Any] = {}
        self._names: dict[int, str] = {}

    def gpus(self) -> tuple[tuple[Gpu, ...], str]:
        """Every GPU that answers with name, UUID and memory (bytes), and what is missing, in words."""
        with self._lock:
            indices, note = self._indices()
            found, problems = [], [note] if note else []
            for index in indices:
                gpu, problem = self._gpu(index)
                if gpu is not None:
                    found.append(gpu)
                if problem:
                    problems.append(f"GPU {index}: {problem}")
            return tuple(found), "; ".join(problems)

    def versions(self) -> tuple[str, str]:
        """Driver (``580.159.04``) and the newest CUDA that it runs (``13.0``); empty when unknown."""
        with self._lock:
            if self._start():
                return "", ""
            driver, _ = self._ask(self._library.nvmlSystemGetDriverVersion)
            cuda, _ = self._ask(self._library.nvmlSystemGetCudaDriverVersion_v2)
            return clean(driver or ""), f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else ""

    def sample(self) -> tuple[tuple[GpuSample, ...], str]:
        """Memory and utilisation of every GPU now (some 20 µs each), and why there are none."""
        with self._lock:
            indices, note = self._indices()
            return tuple(self._sample(index) for index in indices), note

    # -- below: called with the lock held ------------------------------------------------

    def _start(self) -> str:
        """Initialise where needed; returns why that is not possible, empty when it is."""
        if self._library is not None:
            return ""
        if self._note and self._clock() < self._retry_at:
            return self._note
        import pynvml

        _, problem = self._ask(pynvml.nvmlInit)
        if problem:
            self._note, self._retry_at = problem, self._clock() + RETRY_SECONDS
        else:
            self._library, self._note = pynvml, ""
        return self._note

    def _ask(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[Any, str]:
        """The answer of one call, or None and the problem in words."""
        import pynvml

        try:
            answer = call(*arguments, **named)
        except pynvml.NVMLError as error:
            code = getattr(error, "value", -1)
            name = next((n for n in _WORDS if getattr(pynvml, f"NVML_ERROR_{n}", None) == code), "")
            if name in _RESTART:
                self._forget()
            return None, _WORDS.get(name) or clean(str(error))
        return answer.decode() if isinstance(answer, bytes) else answer, ""

    def _forget(self) -> None:
        self._library = None
        self._handles.clear()
        self._names.clear()

    def _indices(self) -> tuple[range, str]:
        note = self._start()
        if note:
            return range(0), note
        count, problem = self._ask(self._library.nvmlDeviceGetCount)
        if problem:
            return range(0), problem
        return range(count), "" if count else "the NVIDIA driver sees no GPU"

    def _handle(self, index: int) -> tuple[Any, str]:
        """A handle; one whose GPU failed is fetched again, so that a GPU that returns is seen."""
        if self._library is None:
            return None, "the NVIDIA driver stopped answering"
        if index not in self._handles:
            handle, problem = self._ask(self._library.nvmlDeviceGetHandleByIndex, index)
            if problem:
                return None, problem
            self._handles[index] = handle
        return self._handles[index], ""

    def _memory(self, handle: Any) -> tuple[Any, str]:
        """Version 2 figures, whose `used` is nvidia-smi's; version 1 adds the driver's reserve."""
        nvml = self._library
        memory, problem = self._ask(
            nvml.nvmlDeviceGetMemoryInfo, handle, version=nvml.nvmlMemory_v2
        )
        if problem == _WORDS["FUNCTION_NOT_FOUND"]:
            return self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        return memory, problem

    def _name(self, index: int, handle: Any) -> str:
        if index not in self._names:
            name, problem = self._ask(self._library.nvmlDeviceGetName, handle)
            if problem:
                return ""
            self._names[index] = clean(name)
        return self._names[index]

    def _sample(self, index: int) -> GpuSample:
        handle, problem = self._handle(index)
        if problem:
            return GpuSample(index, self._names.get(index, ""), None, None, None, problem)
        name = self._name(index, handle)
        memory, problem = self._memory(handle) if self._library else (None, "")
        load, second = (
            self._ask(self._library.nvmlDeviceGetUtilizationRates, handle)
            if self._library
            else (None, "")
        )
        problem = problem or second
        if problem:
            self._handles.pop(index, None)
        return GpuSample(
            index=index,
            name=name,
            memory_total=memory.total if memory else None,
            memory_used=memory.used if memory else None,
            utilisation=load.gpu if load else None,
            problem=problem,
        )

    def _gpu(self, index: int) -> tuple[Gpu | None, str]:
        handle, problem = self._handle(index)
        if problem:
            return None, problem
        memory, problem = self._memory(handle)
        if problem:
            self._handles.pop(index, None)
            return None, problem
        name = self._name(index, handle)
        uuid, _ = self._ask(self._library.nvmlDeviceGetUUID, handle)
        capability, _ = self._ask(self._library.nvmlDeviceGetCudaComputeCapability, handle)
        return Gpu(
            index=index,
            uuid=clean(uuid or ""),
            name=name,
            memory_total=memory.total,
            memory_used=memory.used,
            memory_reserved=getattr(memory, "reserved", 0),
            compute_capability=tuple(capability) if capability else None,
        ), ""


_gate = Nvml()


def gate() -> Nvml:
    """The one gate of this process."""
    return _gate
