"""Members of a tar archive by their headers alone.

Why not `tarfile`: on a hostile archive it follows negative sizes backwards for ever (CVE-2025-8194,
open in the Pythons that we support) and reads long-name blocks of any size into memory; on an honest
one of thousands of shards it takes some three times as long. What it understands it understands
exactly as `tarfile` does (NeMo loads with that), which a property test compares; what `tarfile`
would pass over in silence (a damaged header in the middle) is an error here.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from console.checkpoints.source import Source

BLOCK = 512
MAX_MEMBERS = 100_000
MAX_NAME_BLOCK = 64 * 1024
"""Bytes of one GNU long name or PAX header that are read."""

_EXTENSIONS = frozenset({b"L", b"K", b"x", b"g", b"X"})
_KINDS = {
    b"1": "link",
    b"2": "link",
    b"3": "device",
    b"4": "device",
    b"5": "folder",
    b"6": "device",
}
"""Types without data of their own; every other one is a file, unknown letters too."""
_ZEROS = bytes(BLOCK)
_HEADER = struct.Struct("100s24x12s12x8sc188x155s12x")
"""Name, size, checksum, type letter and prefix of a POSIX header."""
_OTHERS = ((100, 108), (108, 116), (116, 124), (136, 148), (329, 337), (337, 345))
"""Mode, owner, group, time and device numbers: not used here, but `tarfile` refuses a header where
one of them is no number."""
_USUAL = re.compile(
    rb"(?:[0-7]{7}[ \0]|[0-7]{6}[ \0]{2}){3}[0-7]{11}[ \0](?:[0-7]{7}[ \0]|[0-7]{6}[ \0]{2}|\0{8}){2}"
)
"""Those fields one after the other as archivers write them: one look in place of six."""


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
        if letter in _EXTENSIONS:
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
        if long_name is not None:
            name = long_name
        if pax:
            name, size = pax.get("path", name), _pax_size(pax, size, offset)
        kind = _KINDS.get(letter, "file")
        if letter == b"\0" and name.endswith("/"):
            kind = "folder"
        if kind != "file":
            size = 0  # written by some archivers, and followed by no data
        end = data + _padded(size)
        if source.size is not None and end > source.size:
            raise TarDamage(
                f"it is cut off: member {name!r} needs {end} bytes, the file has {source.size}"
            )
        yield Member(name.rstrip("/"), kind, data, size)
        offset = end
        long_name, pax = None, {}
    raise TarDamage(f"it has more than {MAX_MEMBERS} members")


def _parse(header: bytes, offset: int) -> tuple[str, bytes, int]:
    if len(header) < BLOCK:
        raise TarDamage(_cut(offset))
    raw_name, raw_size, raw_sum, letter, raw_prefix = _HEADER.unpack(header)
    stored = _number(raw_sum, offset)
    # The checksum counts its own field as spaces; old writers summed signed characters.
    if header.isascii():  # at most 512 × 127, which does not wrap either
        total = 256 + _sum(header) - _sum(raw_sum)
    else:
        total = 256 + _sum(header[:148]) + _sum(header[156:256]) + _sum(header[256:])
    if stored != total:
        high = sum(1 for b in header[:148] + header[156:] if b > 127)
        if stored != total - 256 * high:
            raise TarDamage(f"its header at byte {offset} is damaged")
    if letter == b"S":
        raise TarDamage(f"member at byte {offset} is a GNU sparse member, which NeMo never writes")
    if not _USUAL.fullmatch(header[100:124] + header[136:148] + header[329:345]):
        for start, end in _OTHERS:
            _exact(header[start:end], offset)
    name = _text(raw_name.split(b"\0", 1)[0])
    if raw_prefix[0] and letter not in b"LKS":
        name = f"{_text(raw_prefix.split(bytes(1), 1)[0])}/{name}"
    size = _number(raw_size, offset)
    if size < 0:
        raise TarDamage(f"member at byte {offset} has a negative size")
    return name, letter, size


def _sum(part: bytes) -> int:
    """The sum of at most 65,520: Adler's low half is one more, and wraps above that.
    Python's own `sum` is most of the time that a walk takes."""
    return (zlib.adler32(part) & 0xFFFF) - 1


def _number(digits: bytes, offset: int) -> int:
    try:  # the usual form, at half the price of the exact one below
        return int(digits.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        return _exact(digits, offset)


def _exact(digits: bytes, offset: int) -> int:
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


def _padded(size: int) -> int:
    return (size + BLOCK - 1) & -BLOCK


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _cut(offset: int) -> str:
    return f"it is cut off at byte {offset}"
