"""What a media file is, from its first bytes: names lie, and decoders that guess open more than asked."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from console.facts import UsageError
from console.text import clean

HEAD = 32
TENSOR_CAP = 256 << 20
"""Bytes of one tensor that is made from a file at most."""
EXTRA = "pip install 'tritondeck[media]'"


class Kind(StrEnum):
    """Containers that are told apart; the value is what a person calls it."""

    JPEG = "JPEG"
    PNG = "PNG"
    GIF = "GIF"
    WEBP = "WebP"
    BMP = "BMP"
    MP4 = "MP4"
    MATROSKA = "Matroska or WebM"
    AVI = "AVI"
    WAV = "WAV"
    FLAC = "FLAC"
    OGG = "Ogg"
    MP3 = "MP3"
    TEXT = "text"
    EMPTY = "empty"
    UNKNOWN = "of an unknown kind"


PICTURES = frozenset({Kind.JPEG, Kind.PNG, Kind.GIF, Kind.WEBP, Kind.BMP})
FORMATS = {
    Kind.MP4: "mp4",
    Kind.MATROSKA: "matroska",
    Kind.AVI: "avi",
    Kind.WAV: "wav",
    Kind.FLAC: "flac",
    Kind.OGG: "ogg",
    Kind.MP3: "mp3",
}
"""FFmpeg's name of a container. It is always told which: left to guess, it takes a text for a playlist
and opens what that names."""
_STARTS = (
    (b"\xff\xd8\xff", Kind.JPEG),
    (b"\x89PNG\r\n\x1a\n", Kind.PNG),
    (b"GIF8", Kind.GIF),
    (b"BM", Kind.BMP),
    (b"\x1aE\xdf\xa3", Kind.MATROSKA),
    (b"fLaC", Kind.FLAC),
    (b"OggS", Kind.OGG),
    (b"ID3", Kind.MP3),
    (b"\xff\xfb", Kind.MP3),
    (b"\xff\xf3", Kind.MP3),
)
_RIFF = {b"WEBP": Kind.WEBP, b"WAVE": Kind.WAV, b"AVI ": Kind.AVI}
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")


def kind(head: bytes) -> Kind:
    """What the first `HEAD` bytes say."""
    if not head:
        return Kind.EMPTY
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] in _BOXES:
        return Kind.MP4
    for start, found in _STARTS:
        if head.startswith(start):
            return found
    try:
        text = head[: HEAD - 4].decode("utf-8", "strict") if len(head) == HEAD else head.decode()
    except UnicodeDecodeError:
        return Kind.UNKNOWN
    printable = all(c.isprintable() or c in "\r\n\t\f" for c in text)
    return Kind.TEXT if printable else Kind.UNKNOWN


def look(path: Path, field: str) -> Kind:
    """The kind of the file at `path`. Raises `UsageError` that names `field` and the file."""
    try:
        with path.open("rb") as file:
            return kind(file.read(HEAD))
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{field}: cannot read {clean(str(path))}", why=clean(words)) from error


def wrong(path: Path, field: str, what: str, found: Kind, fix: str) -> UsageError:
    """`path` is no `what`, but something else."""
    said = "it is empty" if found is Kind.EMPTY else f"its first bytes are {found.value}"
    return UsageError(f"{field}: {clean(path.name)} is not {what}", why=said, fix=fix)


def damaged(path: Path, field: str, why: str) -> UsageError:
    """The file is of the right kind and cannot be decoded to its end."""
    return UsageError(
        f"{field}: {clean(path.name)} is cut off or damaged",
        why=clean(why),
        fix="copy or download it again",
    )
