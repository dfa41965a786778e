"""The protobuf wire format, walked by offset: a message's fields without its payload.

`onnx.load` takes the whole file into memory, weights and all, and `import onnx` alone 0.3 s. A
graph's signature lies in a few small fields between large ones, which are stepped over here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from console.checkpoints.source import Source


class WireError(Exception):
    """Not a protobuf message, or a truncated one; the text says where."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its number, a varint's value, or where a length-delimited one lies."""

    number: int
    value: int
    start: int
    end: int
    delimited: bool


def fields(source: Source, start: int, end: int) -> Iterator[Field]:
    """The fields of the message between two offsets. Raises `WireError`."""
    position = start
    while position < end:
        key, position = _varint(source, position, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise WireError(f"field number 0 at byte {position}")
        value, after, delimited = 0, position, False
        if wire == 0:
            value, after = _varint(source, position, end)
        elif wire == 1:
            after = position + 8
        elif wire == 5:
            after = position + 4
        elif wire == 2:
            length, position = _varint(source, position, end)
            after, delimited = position + length, True
        else:
            raise WireError(f"unknown wire type {wire} at byte {position}")
        if after > end:
            raise WireError(
                f"a field at byte {position} needs {after - end} bytes more than there are"
            )
        yield Field(number, value, position, after, delimited)
        position = after


def signed(value: int) -> int:
    """An int64 as protobuf writes it: two's complement in a varint."""
    return value - 2**64 if value >= 2**63 else value


def text(source: Source, field: Field, cap: int = 4096) -> str:
    """A string field; longer than `cap` bytes it is cut."""
    count = min(field.end - field.start, cap) if field.delimited else 0
    return source.read(field.start, count).decode("utf-8", "replace")


def _varint(source: Source, position: int, end: int) -> tuple[int, int]:
    piece = source.read(position, min(10, end - position))
    value = 0
    for index, byte in enumerate(piece):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & (2**64 - 1), position + index + 1
    raise WireError(f"no number at byte {position}")
