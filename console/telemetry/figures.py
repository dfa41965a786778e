"""What is asked of a GPU, by cost, and what of the answers is a figure.

Measured costs (eight H200, driver 580): a *fast* question 1 to 9 µs, process lists 26 to 170 µs; a
*slow* one 0.4 to 3.5 ms; a *windowed* one, PCIe throughput, 21 ms. Drivers answer with marks for
"not available" (all bits set) where a call succeeds without a figure: these are told from figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from console.telemetry.nvml import INVALID, Fault, Nvml, fault_of

Answer = int | float | tuple[str, ...] | Fault | None


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One call that fills one or more fields of a reading."""

    fields: tuple[str, ...]
    calls: tuple[tuple[str, tuple[Any, ...]], ...]
    """Name and arguments after the handle: the first that this driver has is used."""
    take: Callable[[Any], tuple[Answer, ...]]
    """One figure a field, or a fault in its place."""

    def put(self, nvml: Nvml, handle: Any) -> tuple[Answer, ...]:
        """Ask; every field is a figure, a fault or None (the driver has no such figure)."""
        fault: Fault | None = None
        for call, arguments in self.calls:
            answer, fault = nvml.ask(call, handle, *arguments)
            if fault is None:
                return self.take(answer)
            if fault.code != "FUNCTION_NOT_FOUND":
                break
        return (fault,) * len(self.fields)


MEMORY = ("memory_total", "memory_used", "memory_free", "memory_reserved")


@cache
def memory_question() -> Question:
    import pynvml as n

    call = "nvmlDeviceGetMemoryInfo"
    return Question(MEMORY, ((call, (n.nvmlMemory_v2,)), (call, ())), _memory)


@cache
def fast() -> tuple[Question, ...]:
    """Some 30 µs a GPU together."""
    import pynvml as n

    kind = n.NVML_TEMPERATURE_GPU
    return (
        memory_question(),
        Question(
            ("utilisation", "memory_utilisation"),
            (("nvmlDeviceGetUtilizationRates", ()),),
            lambda rates: (_upto(rates.gpu, 100), _upto(rates.memory, 100)),
        ),
        Question(("sm_clock",), (("nvmlDeviceGetClockInfo", (n.NVML_CLOCK_SM,)),), _megahertz),
        Question(("memory_clock",), (("nvmlDeviceGetClockInfo", (n.NVML_CLOCK_MEM,)),), _megahertz),
        Question(("power",), (("nvmlDeviceGetPowerUsage", ()),), _watts),
        Question(
            ("temperature",),
            (("nvmlDeviceGetTemperatureV", (kind,)), ("nvmlDeviceGetTemperature", (kind,))),
            _celsius,
        ),
        Question(
            ("memory_temperature",),
            (("nvmlDeviceGetFieldValues", ([n.NVML_FI_DEV_MEMORY_TEMP],)),),
            lambda values: _celsius(field_value(values[0])),
        ),
        Question(
            ("throttle", "throttle_bits"),
            (
                ("nvmlDeviceGetCurrentClocksEventReasons", ()),
                ("nvmlDeviceGetCurrentClocksThrottleReasons", ()),
            ),
            _throttle,
        ),
    )


@cache
def slow() -> tuple[Question, ...]:
    """What changes rarely; the counters of NVLink and the use by process are asked beside it."""
    import pynvml as n

    def ecc(kind: int) -> tuple[tuple[str, tuple[Any, ...]], ...]:
        return (("nvmlDeviceGetTotalEccErrors", (kind, n.NVML_VOLATILE_ECC)),)

    return (
        Question(("power_limit",), (("nvmlDeviceGetEnforcedPowerLimit", ()),), _watts),
        Question(("ecc_corrected",), ecc(n.NVML_MEMORY_ERROR_TYPE_CORRECTED), _count),
        Question(("ecc_uncorrected",), ecc(n.NVML_MEMORY_ERROR_TYPE_UNCORRECTED), _count),
        Question(("mig_mode",), (("nvmlDeviceGetMigMode", ()),), lambda modes: (bool(modes[0]),)),
    )


@cache
def nvlink() -> Question:
    """Counters of all links together, in bytes."""
    import pynvml as n

    every = 0xFFFFFFFF
    wanted = [
        (n.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, every),
        (n.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, every),
    ]
    return Question(
        ("nvlink_tx", "nvlink_rx"),
        (("nvmlDeviceGetFieldValues", (wanted,)),),
        lambda values: tuple(_times(field_value(value), 1024) for value in values),
    )


@cache
def windowed() -> tuple[Question, ...]:
    import pynvml as n

    call = "nvmlDeviceGetPcieThroughput"
    return (
        Question(("pcie_tx",), ((call, (n.NVML_PCIE_UTIL_TX_BYTES,)),), _rate),
        Question(("pcie_rx",), ((call, (n.NVML_PCIE_UTIL_RX_BYTES,)),), _rate),
    )


def field_value(value: Any) -> int | Fault:
    """The number in one of NVML's field values, which carry a result code and a type each."""
    if value.nvmlReturn:
        return fault_of(value.nvmlReturn)
    members = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
    kind = value.valueType
    return int(getattr(value.value, members[kind])) if kind < len(members) else INVALID


_REASONS = (
    (0x2, "application clocks"),
    (0x4, "software power cap"),
    (0x8, "hardware slowdown"),
    (0x10, "sync boost"),
    (0x20, "software thermal slowdown"),
    (0x40, "hardware thermal slowdown"),
    (0x80, "power brake"),
    (0x100, "display clocks"),
    (0x200, "board limit"),
    (0x400, "reliability"),
)
"""nvmlClocksEventReasons. Bit 1, idle, holds nothing back."""


def _throttle(bits: int) -> tuple[Answer, ...]:
    if not 0 <= bits < 1 << 32:
        return INVALID, INVALID
    return tuple(words for bit, words in _REASONS if bits & bit), bits


def _memory(memory: Any) -> tuple[Answer, ...]:
    total, used, free = memory.total, memory.used, memory.free
    if not 0 < total < 1 << 50 or used > total or free > total:
        return (INVALID,) * 4
    return total, used, free, getattr(memory, "reserved", None)


def _upto(value: int, most: int) -> Answer:
    return value if 0 <= value <= most else INVALID


def _megahertz(value: int) -> tuple[Answer, ...]:
    return (_upto(value, 100_000),)


def _watts(milliwatts: int) -> tuple[Answer, ...]:
    return (milliwatts / 1000 if 0 <= milliwatts <= 10_000_000 else INVALID,)


def _celsius(value: int | Fault) -> tuple[Answer, ...]:
    if isinstance(value, Fault):
        return (value,)
    return (value if -60 < value < 250 else INVALID,)


def _count(value: int) -> tuple[Answer, ...]:
    return (_upto(value, 1 << 62),)


def _rate(kibibytes: int) -> tuple[Answer, ...]:
    return (_times(_upto(kibibytes, 1 << 31), 1024),)


def _times(value: Answer, factor: int) -> Answer:
    return value * factor if isinstance(value, int) else value
