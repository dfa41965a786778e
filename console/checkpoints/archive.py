"""A `.nemo` or `.qnemo` archive: its configuration file, and what its member list gives away."""

from __future__ import annotations

import posixpath
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from console.checkpoints.model import Risk, Severity
from console.checkpoints.source import BudgetSpent, FileSource, GzipSource
from console.checkpoints.tarwalk import Member, TarDamage, members
from console.facts import UsageError
from console.text import clean


@dataclass(frozen=True, slots=True)
class Archive:
    """The members that were looked at, and the small file that was asked for."""

    members: tuple[Member, ...]
    config_name: str
    config: bytes | None
    """None when no member has that name."""
    compressed: bool
    """An old gzip archive: only the members up to the configuration are known."""


def look(
    path: Path,
    file: FileSource,
    compressed: bool,
    wanted: tuple[str, ...],
    cap: int,
    *,
    whole: bool,
) -> Archive:
    """Walk the headers, read the first member called one of `wanted` (at most `cap` bytes).

    With `whole` a plain tar is walked to its end, so that duplicates and truncation are seen; a
    gzip one never is. Raises `UsageError`.
    """
    source = GzipSource(file) if compressed else file
    found: list[Member] = []
    config: Member | None = None
    text: bytes | None = None
    try:
        for member in members(source):
            found.append(member)
            if config is None and member.kind == "file" and plain(member.name) in wanted:
                config = member
                if member.size > cap:
                    raise TarDamage(f"its {clean(member.name)} is {member.size} bytes long")
                text = source.read(member.offset, member.size)
                if len(text) < member.size:
                    raise TarDamage("it is cut off inside its configuration")
                if compressed or not whole:
                    break
    except (TarDamage, zlib.error) as error:
        raise UsageError(
            f"{clean(str(path))} is truncated or damaged",
            why=clean(str(error)),
            fix="compare its size and checksum with the original, or download it again",
        ) from error
    except BudgetSpent:
        pass  # everything within the budget was looked at; a missing configuration is said below
    return Archive(tuple(found), clean(config.name) if config else "", text, compressed)


def plain(name: str) -> str:
    """A member's name without a leading ``./`` and the like, as it would be on disk."""
    if name.startswith("./") and "/." not in name[1:] and "//" not in name:
        return name[2:]
    return posixpath.normpath(name)


def risks(archive: Archive) -> tuple[Risk, ...]:
    """What the member list gives away. NeMo reads the *last* of two members with one name."""
    found: list[Risk] = []
    names = Counter(plain(m.name) for m in archive.members)
    if twice := sorted(name for name, count in names.items() if count > 1 and name != "."):
        found.append(
            _danger(
                "duplicate-members",
                f"{len(twice)} member(s) stand in the archive twice: {_list(twice)}; a loader takes the last one",
                "do not build from it: what was shown here may not be what is loaded",
            )
        )
    absolute = [m.name for m in archive.members if m.name.startswith("/")]
    if absolute:
        found.append(
            _danger("absolute-members", f"members with absolute paths: {_list(absolute)}", _REPACK)
        )
    escaping = [m.name for m in archive.members if ".." in m.name and ".." in m.name.split("/")]
    if escaping:
        found.append(
            _danger(
                "escaping-members", f"members that leave the archive: {_list(escaping)}", _REPACK
            )
        )
    for kind, code in (("link", "link-members"), ("device", "device-members")):
        if odd := [m.name for m in archive.members if m.kind == kind]:
            found.append(_danger(code, f"members that are {kind}s: {_list(odd)}", _REPACK))
    return tuple(found)


_REPACK = "do not build from it unless you made it; no checkpoint tool writes such members"


def _danger(code: str, summary: str, fix: str) -> Risk:
    return Risk(code, Severity.DANGER, summary, fix)


def _list(names: list[str]) -> str:
    shown = ", ".join(clean(name, cap=80) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
