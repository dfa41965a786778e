"""The cheap figures of every GPU; lost GPUs and questions that became slow are told apart here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from console.telemetry import figures
from console.telemetry.figures import Answer, Question
from console.telemetry.nvml import LOST, Fault, Nvml
from console.telemetry.reading import GpuProcess, MigReading
from console.text import clean

COSTLY_SECONDS = 0.05
"""A fast question that took longer twice is asked by the slow thread until it is quick again."""
NO_INSTANCE = 0xFFFFFFFF


@dataclass(slots=True)
class Figures:
    """Fields and problems of one GPU (or MIG instance) from one look."""

    at: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def put(self, fields: Iterable[str], answers: Iterable[Answer]) -> None:
        for name, answer in zip(fields, answers, strict=True):
            if isinstance(answer, Fault):
                self.values.pop(name, None)
                self.problems[name] = answer.words
            else:
                self.values[name] = answer
                self.problems.pop(name, None)

    def merged(self, others: Iterable[Figures]) -> tuple[dict[str, Any], dict[str, str]]:
        values, problems = dict(self.values), dict(self.problems)
        for other in others:
            values |= other.values
            problems |= other.problems
        return values, problems


@dataclass(frozen=True, slots=True)
class Instance:
    """A MIG instance as the slow look found it."""

    reading: MigReading
    handle: Any


@dataclass(frozen=True, slots=True)
class GpuLook:
    """One fast look at all GPUs."""

    at: float
    """Monotonic seconds."""
    note: str = ""
    figures: Mapping[int, Figures] = field(default_factory=dict)
    processes: tuple[GpuProcess, ...] = ()


class FastGpus:
    """`read` runs on one thread at a time; slower threads look at the other members."""

    def __init__(self, nvml: Nvml, clock: Callable[[], float] = time.monotonic) -> None:
        self.nvml = nvml
        self.clock = clock
        self.known: dict[int, tuple[int, str, str]] = {}
        """Index to generation, UUID and name."""
        self.costly: set[tuple[int, Question]] = set()
        self.lost_since: dict[int, float] = {}
        self.shunned: set[int] = set()
        """Lost GPUs that take long to say so: only the slow thread asks them."""
        self._slow: set[tuple[int, Question | None]] = set()
        """What took long the time before."""
        self.instances: dict[int, tuple[Instance, ...]] = {}
        """MIG instances as the slow thread found them."""
        self.look = GpuLook(clock(), "the NVIDIA driver has not answered yet")

    def read(self) -> GpuLook:
        """Memory, load, clocks, power, temperature, throttling and processes of every GPU."""
        with self.nvml.using():
            count, note = self.nvml.count()
            for index in [known for known in tuple(self.lost_since) if known >= count]:
                del self.lost_since[index]  # not even counted any more
            found: dict[int, Figures] = {}
            processes: list[GpuProcess] = []
            for index in range(count):
                found[index] = self._figures(index)
                if "state" not in found[index].problems:
                    self._read_processes(index, found[index], processes)
        self.look = GpuLook(self.clock(), note, found, tuple(processes))
        return self.look

    def _figures(self, index: int) -> Figures:
        result = Figures(self.clock())
        if index in self.shunned:
            result.problems["state"] = self.look.figures[index].problems["state"]
            return result
        handle, fault = self.nvml.handle(index)
        if fault is None:
            self._read_identity(index, handle)
            for question in figures.fast():
                if (index, question) in self.costly:
                    continue
                fault = self._ask(index, handle, question, result)
                if fault:
                    break
        if fault:
            self._lose(index, fault, result)
            return result
        self.lost_since.pop(index, None)
        result.values["mig"] = self._mig_memory(index)
        return result

    def _ask(self, index: int, handle: Any, question: Question, result: Figures) -> Fault | None:
        """Fill the question's fields; the fault that ends the look at this GPU."""
        began = self.clock()
        answers = question.put(self.nvml, handle)
        if self._again(index, question, self.clock() - began):
            self.costly.add((index, question))
        result.put(question.fields, answers)
        first = answers[0]
        if not isinstance(first, Fault):
            return None
        if first.code == "INVALID_ARGUMENT":  # of a question it means the question, not the GPU
            return first if question is figures.memory_question() else None
        return first if first.code in (*LOST, "UNINITIALIZED") else None

    def _again(self, index: int, question: Question | None, seconds: float) -> bool:
        """Whether it took long now and the time before: once may be a thread that got no turn."""
        slow, known = seconds > COSTLY_SECONDS, (index, question) in self._slow
        if slow and not known:
            self._slow.add((index, question))
        elif known:
            self._slow.discard((index, question))
        return slow and known

    def _lose(self, index: int, fault: Fault, result: Figures) -> None:
        """All figures of a lost GPU are gone; it is asked again at the next look."""
        self.nvml.drop(index)
        self.lost_since.setdefault(index, self.clock())
        if self._again(index, None, self.clock() - result.at):
            self.shunned.add(index)
        result.values.clear()
        result.problems.clear()
        gone = fault.code == "INVALID_ARGUMENT"
        result.problems["state"] = "GPU is gone" if gone else fault.words

    def _read_identity(self, index: int, handle: Any) -> None:
        known = self.known.get(index)
        if known and known[0] == self.nvml.generation and known[1]:
            return
        uuid, _ = self.nvml.ask("nvmlDeviceGetUUID", handle)
        name, _ = self.nvml.ask("nvmlDeviceGetName", handle)
        if uuid or name:
            self.known[index] = (self.nvml.generation, clean(uuid or ""), clean(name or ""))

    def _read_processes(self, index: int, result: Figures, found: list[GpuProcess]) -> None:
        handle, _ = self.nvml.handle(index)
        total = result.values.get("memory_total") or 0
        kinds: tuple[tuple[Literal["compute", "graphics"], str], ...] = (
            ("compute", "nvmlDeviceGetComputeRunningProcesses"),
            ("graphics", "nvmlDeviceGetGraphicsRunningProcesses"),
        )
        for kind, call in kinds:
            rows, fault = self.nvml.ask(call, handle)
            if fault and kind == "compute":
                result.problems["processes"] = fault.words
            for row in rows or ():
                memory = row.usedGpuMemory
                found.append(
                    GpuProcess(
                        pid=row.pid,
                        gpu=index,
                        memory=memory if memory is not None and memory <= total else None,
                        kind=kind,
                        gpu_instance=_instance(row.gpuInstanceId),
                        compute_instance=_instance(row.computeInstanceId),
                    )
                )

    def _mig_memory(self, index: int) -> tuple[MigReading, ...]:
        found = []
        question = figures.memory_question()
        for instance in self.instances.get(index, ()):
            result = Figures()
            result.put(question.fields, question.put(self.nvml, instance.handle))
            result.values.pop("memory_reserved", None)
            told = instance.reading
            found.append(
                MigReading(
                    index=told.index,
                    gpu_instance=told.gpu_instance,
                    compute_instance=told.compute_instance,
                    uuid=told.uuid,
                    profile=told.profile,
                    **result.values,
                    problems=result.problems,
                )
            )
        return tuple(found)


def _instance(number: int) -> int | None:
    return None if number == NO_INSTANCE else number
