"""Members of a tar archive by their headers alone.

Why not `tarfile`: on a hostile archive it follows negative sizes backwards for ever (CVE-2025-8194,
open in the Pythons that we support) and reads long-name blocks of any size into memory; on an honest
one of thousands of shards it takes some three times as long. What it understands it understands
exactly as `tarfile` does (NeMo loads with that), which a property test compares; what `tarfile`
would pass over in silence (a damaged header in the middle) is an error here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from console.checkpoints.source import Source

BLOCK = 512
MAX_MEMBERS = 100_000
MAX_NAME_BLOCK = 64 * 1024
"""Bytes of one GNU long name or PAX header that are read."""

_REGULAR = b"0\x007S"
_KNOWN = b"0\x001234567LKSxgX"
_ZEROS = bytes(BLOCK)


class TarDamage(Exception):
    """The archive is truncated, damaged or hostile; the text says where."""


class Member(NamedTuple):
    """One member: its name as written, the type letter and where its data lie."""

    name: str
    kind: str
    """``file``, ``folder``, ``link`` or ``device``"""
    offset: int
    size: int


def members(source: Source) -> Iterator[Member]:
    """Yield the members in archive order. Raises `TarDamage`."""
    offset = 0
    long_name: str | None = None
    pax: dict[str, str] = {}
    for _ in range(MAX_MEMBERS):
        header = source.read(offset, BLOCK)
        if not header or header == _ZEROS:
            if offset == 0 or pax or long_name is not None:
                raise TarDamage("it ends before its first member" if not offset else _cut(offset))
            return
        name, letter, size = _parse(header, offset)
        data = offset + BLOCK
        if letter in b"LKxgX":
            text = _extended(source, data, size, offset)
            offset = data + _padded(size)
            if letter in b"LxX" and (pax or long_name is not None):
                raise TarDamage(f"the member before byte {offset} is named twice")
            if letter == b"L":
                long_name = _text(text.split(b"\0", 1)[0])
            elif letter in b"xX":
                pax = _records(text, offset)
            elif letter == b"g" and not _records(text, offset).keys().isdisjoint(("path", "size")):
                raise TarDamage("it names all its members alike, which no archiver does")
            continue
        name = pax.get("path", name if long_name is None else long_name)
        size = _pax_size(pax, size, offset)
        has_data = letter in _REGULAR or letter not in _KNOWN
        if letter == b"\0" and name.endswith("/"):
            letter, has_data = b"5", False
        end = data + (_padded(size) if has_data else 0)
        if source.size is not None and end > source.size:
            raise TarDamage(
                f"it is cut off: member {name!r} needs {end} bytes, the file has {source.size}"
            )
        yield Member(name.rstrip("/"), _kind(letter), data, size if has_data else 0)
        offset = end
        long_name, pax = None, {}
    raise TarDamage(f"it has more than {MAX_MEMBERS} members")


def _parse(header: bytes, offset: int) -> tuple[str, bytes, int]:
    if len(header) < BLOCK:
        raise TarDamage(_cut(offset))
    stored = _number(header[148:156], offset)
    # The checksum counts its own field as spaces; old writers summed signed characters.
    total = 256 + _sum(header[:148]) + _sum(header[156:256]) + _sum(header[256:])
    if stored != total:
        high = sum(1 for b in header[:148] + header[156:] if b > 127)
        if stored != total - 256 * high:
            raise TarDamage(f"its header at byte {offset} is damaged")
    letter = header[156:157]
    if letter == b"S":
        raise TarDamage(f"member at byte {offset} is a GNU sparse member, which NeMo never writes")
    name = _text(header[:100].split(b"\0", 1)[0])
    prefix = _text(header[345:500].split(b"\0", 1)[0])
    if prefix and letter not in b"LKS":
        name = f"{prefix}/{name}"
    size = _number(header[124:136], offset)
    if size < 0:
        raise TarDamage(f"member at byte {offset} has a negative size")
    return name, letter, size


def _sum(part: bytes) -> int:
    """The sum of at most 256 bytes: Adler's low half is one more, and cannot wrap before that.
    Python's own `sum` is most of the time that a walk takes."""
    return (zlib.adler32(part) & 0xFFFF) - 1


def _number(digits: bytes, offset: int) -> int:
    if digits[0] == 0o200:
        return int.from_bytes(digits[1:], "big")
    if digits[0] == 0o377:
        return int.from_bytes(digits, "big", signed=True)
    try:
        return int(digits.split(b"\0", 1)[0].strip() or b"0", 8)
    except ValueError as error:
        raise TarDamage(f"its header at byte {offset} is damaged") from error


def _extended(source: Source, data: int, size: int, offset: int) -> bytes:
    if size > MAX_NAME_BLOCK:
        raise TarDamage(f"the name block at byte {offset} is {size} bytes long")
    text = source.read(data, size)
    if len(text) < size:
        raise TarDamage(_cut(offset))
    return text


def _records(text: bytes, offset: int) -> dict[str, str]:
    """``<length> <key>=<value>\\n`` records of a PAX header."""
    found: dict[str, str] = {}
    position = 0
    while position < len(text) and text[position : position + 1] != b"\0":
        digits, space, _ = text[position : position + 20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = text[position + len(digits) + 1 : position + length]
        key, equals, value = record.partition(b"=")
        if not space or not equals or not record.endswith(b"\n"):
            raise TarDamage(f"the PAX header before byte {offset} is damaged")
        if key.startswith(b"GNU.sparse"):
            raise TarDamage("it holds a sparse member, which NeMo never writes")
        found[_text(key)] = _text(value[:-1])
        position += length
    return found


def _pax_size(pax: dict[str, str], size: int, offset: int) -> int:
    if "size" not in pax:
        return size
    if not (pax["size"].isascii() and pax["size"].isdigit() and len(pax["size"]) < 20):
        raise TarDamage(f"the PAX header before byte {offset} is damaged")
    return int(pax["size"])


def _kind(letter: bytes) -> str:
    if letter == b"5":
        return "folder"
    if letter in b"12":
        return "link"
    if letter in b"346":
        return "device"
    return "file"


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _cut(offset: int) -> str:
    return f"it is cut off at byte {offset}"
