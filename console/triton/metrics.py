"""Prometheus text as servers send it, read as it comes in and within bounds.

A metrics address is foreign: it may send garbage, never end, or send ten million lines. Bytes, lines
and kept values are capped, only asked-for families are kept, and what is wrong is said in words.
Format: the Prometheus text exposition format 0.0.4 (OpenMetrics' additions are passed over).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from console.facts import DeckError
from console.text import clean, human_bytes

MAX_BYTES = 8 << 20
MAX_LINES = 100_000
MAX_VALUES = 20_000
MAX_LINE = 16 << 10

_LINE = re.compile(
    rb"([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*(?:\{(.*)\})?[ \t]+([^ \t]+)(?:[ \t]+-?\d+)?[ \t]*(?:#.*)?$"
)
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r'\\([\\"n])')
_GARBAGE_LINES = 50
"""Lines without a single value after which a body is not read further."""


class NotMetrics(DeckError):
    """The body is no metrics text, or more of it than is read."""


Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Values by family name, in the order of the text. Label values are cleaned."""

    values: Mapping[str, tuple[tuple[Labels, float], ...]]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def total(self, name: str, **labels: str) -> float | None:
        """The sum over every label set that has `labels`; None when there is none."""
        found = [
            value
            for have, value in self.values.get(name, ())
            if all(have.get(key) == wanted for key, wanted in labels.items())
        ]
        return math.fsum(found) if found else None

    def by(self, name: str, *keys: str) -> dict[tuple[str, ...], float]:
        """Sums by the values of some labels. (Triton counts a GPU model twice: once with
        ``gpu_uuid``, once without, where it stays 0; the sum is right.)"""
        sums: dict[tuple[str, ...], float] = {}
        for labels, value in self.values.get(name, ()):
            key = tuple(labels.get(k, "") for k in keys)
            sums[key] = sums.get(key, 0.0) + value
        return sums


class Parser:
    """Takes a body piece by piece. `wanted`: family names, or beginnings that end in ``*``."""

    def __init__(self, wanted: Iterable[str] = ("*",), max_lines: int = MAX_LINES) -> None:
        names = [name.encode() for name in wanted]
        self._exact = frozenset(name for name in names if not name.endswith(b"*"))
        self._starts = tuple(name[:-1] for name in names if name.endswith(b"*"))
        self._max_lines = max_lines
        self._rest = b""
        self._bytes = self._lines = self._good = self._kept = 0
        self._values: dict[str, list[tuple[Labels, float]]] = {}

    def feed(self, data: bytes) -> None:
        """Read one piece; raises `NotMetrics` as soon as the body cannot be what it should."""
        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            raise _too_much(f"more than {human_bytes(MAX_BYTES)}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise NotMetrics(
                "the metrics cannot be read", why=f"a line is longer than {human_bytes(MAX_LINE)}"
            )
        self._lines += len(lines)
        if self._lines > self._max_lines:
            raise _too_much(f"more than {self._max_lines} lines")
        for line in lines:
            self._line(line)
        if not self._good and self._lines > _GARBAGE_LINES:
            self._refuse_garbage()

    def finish(self) -> Metrics:
        """What was read; raises `NotMetrics` when there were lines and no value among them."""
        self._lines += 1
        self._line(self._rest)
        if not self._good:
            self._refuse_garbage()
        return Metrics({name: tuple(values) for name, values in self._values.items()})

    def _line(self, line: bytes) -> None:
        if not line or line[0] == 35:  # a comment, HELP or TYPE
            return
        cut = line.find(b"{")
        name = line[:cut] if cut > 0 else line[: line.find(b" ")]
        if name not in self._exact and not name.startswith(self._starts):
            # Looked at only far enough to know that it is a metric of somebody.
            self._good += name[:1].isalpha()
            return
        match = _LINE.match(line.rstrip(b"\r"))
        if match is None:
            return
        try:
            value = float(match[3])
        except ValueError:
            return
        self._good += 1
        self._kept += 1
        if self._kept > MAX_VALUES:
            raise _too_much(f"more than {MAX_VALUES} values")
        labels = _labels(match[2]) if match[2] else {}
        self._values.setdefault(match[1].decode("ascii"), []).append((labels, value))

    def _refuse_garbage(self) -> None:
        if self._bytes:
            raise NotMetrics(
                "the metrics address sent no metrics",
                why="none of its lines is Prometheus text",
                fix="give the address of the metrics (Triton: port 8002 as a rule)",
            )


def _labels(text: bytes) -> Labels:
    words = text.decode("utf-8", errors="replace")
    return {key: clean(_unescaped(value)) for key, value in _LABEL.findall(words)}


def _unescaped(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], value)


def _too_much(what: str) -> NotMetrics:
    return NotMetrics(
        f"the metrics address sent {what}",
        why="it was not read further",
        fix="check that it is a metrics address; a server with that many series needs a proxy "
        "that filters them",
    )


def parse(body: bytes | Iterator[bytes], wanted: Iterable[str] = ("*",)) -> Metrics:
    """A whole body, or its pieces."""
    parser = Parser(wanted)
    for piece in [body] if isinstance(body, bytes) else body:
        parser.feed(piece)
    return parser.finish()
