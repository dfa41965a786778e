"""NVML behind one gate: the library's life, and every call guarded on its own, in words.

`nvidia-ml-py` (module `pynvml`) is imported on first use and initialised once a process (60 ms).
A call is made without a lock, as NVML allows, so that one that blocks (PCIe throughput: 20 ms)
delays no other thread's. A driver that was restarted, a library that was replaced and a GPU that
was lost are met by initialising anew, with growing pauses.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, RLock
from typing import Any, NamedTuple

from console.facts import Gpu
from console.text import clean

RETRY_SECONDS = 5.0
"""First pause before a driver that did not answer is initialised again; it doubles …"""
RETRY_LIMIT = 60.0
"""… up to this."""


class Fault(NamedTuple):
    """Why a call gave no figure: NVML's name of the error without its prefix, and words."""

    code: str
    words: str


_WORDS = {
    "LIBRARY_NOT_FOUND": "no NVIDIA driver on this host",
    "DRIVER_NOT_LOADED": "the NVIDIA driver is not loaded",
    "LIB_RM_VERSION_MISMATCH": (
        "NVIDIA driver and library versions differ: the driver was updated; reload it or reboot"
    ),
    "UNINITIALIZED": "the NVIDIA driver was restarted",
    "NO_PERMISSION": "no permission to ask the NVIDIA driver",
    "GPU_IS_LOST": "GPU is lost: it fell off the bus or was reset",
    "GPU_NOT_FOUND": "GPU is gone",
    "INVALID_ARGUMENT": "the NVIDIA driver does not know the question",
    "RESET_REQUIRED": "GPU needs a reset",
    "NOT_SUPPORTED": "not supported by this GPU",
    "FUNCTION_NOT_FOUND": "not supported by this driver",
    "TIMEOUT": "the NVIDIA driver does not answer",
}
_RESTART = ("UNINITIALIZED", "DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH", "LIBRARY_NOT_FOUND")
"""Errors of any call after which the library is initialised anew."""
LOST = ("GPU_IS_LOST", "GPU_NOT_FOUND", "RESET_REQUIRED")
"""Errors that tell of the GPU, not of the question."""
INVALID = Fault("INVALID", "the driver gave no valid figure")
_STOPPED = Fault("UNINITIALIZED", "the NVIDIA driver stopped answering")
_names: dict[int, str] = {}


def fault_of(code: int, text: str = "") -> Fault:
    """The fault of one of NVML's error numbers; `text` is what NVML itself says of it."""
    if not _names:
        import pynvml

        prefix = "NVML_ERROR_"
        _names.update(
            {
                getattr(pynvml, n): n.removeprefix(prefix)
                for n in dir(pynvml)
                if n.startswith(prefix)
            }
        )
    name = _names.get(code, f"ERROR_{code}")
    return Fault(name, _WORDS.get(name) or clean(text, cap=120) or f"NVML error {code}")


class Nvml:
    """The gate. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = RLock()
        """Around the library's life, never around a figure's call."""
        self._turn = Condition()
        self._users = 0
        self._renewing = False
        self._library: Any = None
        self._note = ""
        self._retry_at = 0.0
        self._pause = RETRY_SECONDS
        self._handles: dict[int, Any] = {}
        self.generation = 0
        """Counts initialisations: what was learned once (names, handles) holds for one of them."""

    # -- facts ---------------------------------------------------------------------------

    def gpus(self) -> tuple[tuple[Gpu, ...], str]:
        """Every GPU that answers with name, UUID and memory (bytes), and what is missing, in words."""
        with self.using():
            count, note = self.count()
            found, problems = [], [note] if note else []
            for index in range(count):
                gpu, fault = self._gpu(index)
                if gpu is not None:
                    found.append(gpu)
                if fault:
                    problems.append(f"GPU {index}: {fault.words}")
            return tuple(found), "; ".join(problems)

    def versions(self) -> tuple[str, str]:
        """Driver (``580.159.04``) and the newest CUDA that it runs (``13.0``); empty when unknown."""
        with self.using():
            if self.start():
                return "", ""
            driver, _ = self.ask("nvmlSystemGetDriverVersion")
            cuda, _ = self.ask("nvmlSystemGetCudaDriverVersion_v2")
            return clean(driver or ""), f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else ""

    def _gpu(self, index: int) -> tuple[Gpu | None, Fault | None]:
        handle, fault = self.handle(index)
        if fault:
            return None, fault
        memory, fault = self.memory(handle)
        if fault:
            self.drop(index)
            return None, fault
        name, _ = self.ask("nvmlDeviceGetName", handle)
        uuid, _ = self.ask("nvmlDeviceGetUUID", handle)
        capability, _ = self.ask("nvmlDeviceGetCudaComputeCapability", handle)
        return Gpu(
            index=index,
            uuid=clean(uuid or ""),
            name=clean(name or ""),
            memory_total=memory.total,
            memory_used=memory.used,
            memory_reserved=getattr(memory, "reserved", 0),
            compute_capability=tuple(capability) if capability else None,
        ), None

    # -- calls ---------------------------------------------------------------------------

    def ask(self, call: str, *arguments: Any) -> tuple[Any, Fault | None]:
        """The answer of one call, or None and the fault. Call it inside `using`."""
        library = self._library
        if library is None:
            return None, _STOPPED
        function = getattr(library, call, None)
        if function is None:  # an older nvidia-ml-py
            return None, fault_of(library.NVML_ERROR_FUNCTION_NOT_FOUND)
        try:
            return function(*arguments), None
        except library.NVMLError as error:
            fault = fault_of(getattr(error, "value", -1), str(error))
        except UnicodeDecodeError:  # a name of random bytes
            return None, INVALID
        if fault.code in _RESTART:
            self._forget()
        return None, fault

    def memory(self, handle: Any) -> tuple[Any, Fault | None]:
        """Version 2 figures, whose `used` is nvidia-smi's; version 1 adds the driver's reserve."""
        memory, fault = self.ask("nvmlDeviceGetMemoryInfo", handle, _memory_version(self._library))
        if fault and fault.code == "FUNCTION_NOT_FOUND":
            return self.ask("nvmlDeviceGetMemoryInfo", handle)
        return memory, fault

    def count(self) -> tuple[int, str]:
        """How many GPUs the driver has, and why there is none. Initialises where needed."""
        note = self.start()
        if note:
            return 0, note
        count, fault = self.ask("nvmlDeviceGetCount")
        if fault:
            return 0, fault.words
        return count, "" if count else "the NVIDIA driver sees no GPU"

    def handle(self, index: int) -> tuple[Any, Fault | None]:
        """A handle, kept until `drop` or the next initialisation."""
        kept = self._handles.get(index)
        if kept is not None:
            return kept, None
        generation = self.generation
        handle, fault = self.ask("nvmlDeviceGetHandleByIndex", index)
        if fault is None and generation == self.generation:
            self._handles[index] = handle
        return handle, fault

    def drop(self, index: int) -> None:
        """Forget a handle: a GPU that returns may have another."""
        self._handles.pop(index, None)

    # -- the library's life --------------------------------------------------------------

    @contextmanager
    def using(self) -> Iterator[None]:
        """Keep the library from being renewed while its handles are in use."""
        with self._turn:
            self._turn.wait_for(lambda: not self._renewing)
            self._users += 1
        try:
            yield
        finally:
            with self._turn:
                self._users -= 1
                self._turn.notify_all()

    def renew(self, patience: float = 0.1) -> bool:
        """Shut the library down and start it again: it sees a GPU that came back only then.

        False when calls of other threads did not end within `patience` seconds.
        """
        with self._turn:
            if self._renewing or not self._turn.wait_for(lambda: not self._users, patience):
                return False
            self._renewing = True
        try:
            self.ask("nvmlShutdown")
            self._forget()
            self.start()
        finally:
            with self._turn:
                self._renewing = False
                self._turn.notify_all()
        return True

    def start(self) -> str:
        """Initialise where needed; returns why that is not possible, empty when it is."""
        if self._library is not None:
            return ""
        with self._lock:
            if self._library is not None or (self._note and self._clock() < self._retry_at):
                return self._note
            import pynvml

            fault = _initialise(pynvml)
            if fault and fault.code == "LIB_RM_VERSION_MISMATCH" and _load_replaced(pynvml):
                fault = _initialise(pynvml)
            if fault:
                self._note, self._retry_at = fault.words, self._clock() + self._pause
                self._pause = min(2 * self._pause, RETRY_LIMIT)
            else:
                self._library, self._note, self._pause = pynvml, "", RETRY_SECONDS
                self.generation += 1
            return self._note

    def _forget(self) -> None:
        with self._lock:
            self._library = None
            self._handles.clear()


def _memory_version(library: Any) -> Any:
    return getattr(library, "nvmlMemory_v2", None)


def _initialise(library: Any) -> Fault | None:
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        return fault_of(getattr(error, "value", -1), str(error))
    return None


def _load_replaced(library: Any, maps: Path = Path("/proc/self/maps")) -> bool:
    """Load the file that stands now where the loaded library came from; False if it is that one.

    The loader answers a name that it knows with the copy in memory, also when a driver update has
    replaced the file. It knows names, not files: each copy is loaded by another spelling of the
    path. Older copies stay mapped, a thread may be inside. nvidia-ml-py has no call for this,
    hence its two module variables.
    """
    lines = [line.split(None, 5) for line in maps.read_text().splitlines()]
    mapped = {words[4]: words[5] for words in lines if len(words) == 6 and _FILE in words[5]}
    if not mapped:
        return False
    folder = next(iter(mapped.values())).partition(_FILE)[0]
    try:
        if str(os.stat(f"{folder}{_FILE}.1").st_ino) in mapped:  # noqa: PTH116 - the spelling counts
            return False
        loaded = ctypes.CDLL(f"{folder}{'./' * len(mapped)}{_FILE}.1")
    except OSError:  # half replaced: the next attempt finds it whole
        return False
    library._nvmlGetFunctionPointer_cache.clear()
    library.nvmlLib = loaded
    return True


_FILE = "libnvidia-ml.so"


_gate = Nvml()


def gate() -> Nvml:
    """The one gate of this process."""
    return _gate
