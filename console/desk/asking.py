"""Answers that cost something, kept for those who ask the same again, from any thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar

Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Told(Generic[Answer]):
    asking: Lock = field(default_factory=Lock)
    at: float = 0.0
    """`time.monotonic` of the answer."""
    answer: Answer | None = None


class Answers(Generic[Question, Answer]):
    """What was told, by question. One thread asks; those that want the same meanwhile wait for its
    answer, and those that want another do not. An error is the asking thread's own, and kept for
    nobody."""

    def __init__(self, fresh: float = math.inf) -> None:
        """`fresh`: seconds that an answer holds."""
        self._fresh = fresh
        self._lock = Lock()
        self._told: dict[Question, _Told[Answer]] = {}

    def get(self, question: Question, ask: Callable[[], Answer]) -> Answer:
        told = self._entry(question)
        with told.asking:
            if told.answer is None or not self._holds(told):
                told.answer = ask()
                told.at = time.monotonic()
            return told.answer

    def _holds(self, told: _Told[Answer]) -> bool:
        return time.monotonic() - told.at < self._fresh

    def _entry(self, question: Question) -> _Told[Answer]:
        """The place of its answer. Others that are no longer fresh are let go."""
        with self._lock:
            for other, told in list(self._told.items()):
                if other != question and told.answer is not None and not self._holds(told):
                    del self._told[other]
            return self._told.setdefault(question, _Told())
