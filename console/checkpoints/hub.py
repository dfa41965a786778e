"""Models named by a hub id: ``hub:owner/name@revision`` and ``ngc:org/team/model:version``.

Nothing here asks a hub: before the fetch step has run, a name is all that is known, unless the
model lies in Hugging Face's cache on this machine already.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from console.checkpoints.model import Checkpoint, Format, HubRef, Risk, Severity
from console.facts import UsageError
from console.text import clean

HUGGING_FACE = "hub:"
NGC = "ngc:"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_HUB = re.compile(rf"({_PART}(?:/{_PART})?)(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,200}}))?")
_NGC = re.compile(rf"({_PART}(?:/{_PART}){{1,2}})(?::([A-Za-z0-9][A-Za-z0-9._-]{{0,100}}))?")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")


def is_hub(text: str) -> bool:
    """Whether a checkpoint is named by a hub id instead of a path."""
    return text.startswith((HUGGING_FACE, NGC))


def parse(text: str) -> HubRef | None:
    """The id, or None when `text` is a path. Raises `UsageError` for an id of a wrong form."""
    if not is_hub(text):
        return None
    prefix, rest = text[:4], text[4:]
    match = (_HUB if prefix == HUGGING_FACE else _NGC).fullmatch(rest)
    if match is None or ".." in rest or "--" in match[1] or "//" in rest:
        form = "hub:owner/name@revision" if prefix == HUGGING_FACE else "ngc:org/team/model:version"
        raise UsageError(f"{clean(text, cap=120)} is no hub id", fix=f"its form is {form}")
    return HubRef("hugging-face" if prefix == HUGGING_FACE else "ngc", match[1], match[2] or "")


def words(ref: HubRef) -> str:
    """The id as it is written in a deployment."""
    if ref.hub == "ngc":
        return f"{NGC}{ref.name}" + (f":{ref.revision}" if ref.revision else "")
    return f"{HUGGING_FACE}{ref.name}" + (f"@{ref.revision}" if ref.revision else "")


def cache_folder() -> Path:
    """Hugging Face's cache, where `huggingface_hub` would look for it."""
    if said := os.environ.get("HF_HUB_CACHE"):
        return Path(said).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "huggingface" / "hub"


def cached(ref: HubRef) -> Path | None:
    """The snapshot of that revision in the cache, complete or not; None when there is none."""
    if ref.hub != "hugging-face":
        return None
    folder = cache_folder() / f"models--{ref.name.replace('/', '--')}"
    revision = ref.revision or "main"
    try:
        commit = revision
        if not _COMMIT.match(revision):
            commit = (folder / "refs" / revision).read_text(encoding="ascii").strip()
        snapshot = folder / "snapshots" / commit
        return snapshot if _COMMIT.match(commit) and snapshot.is_dir() else None
    except (OSError, UnicodeDecodeError):
        return None  # not there, or not ours to read: it will be fetched


def unfetched(ref: HubRef) -> Checkpoint:
    """All that is known before the fetch: where it comes from."""
    where = "Hugging Face" if ref.hub == "hugging-face" else "NGC"
    return Checkpoint(
        path=Path(words(ref)),
        format=Format.HUB,
        title=f"{where} model · {ref.name}",
        hub=ref,
        risks=(
            Risk(
                "not-fetched",
                Severity.NOTE,
                "not on this machine yet: its facts are unknown until the fetch step has run",
            ),
            *(
                ()
                if ref.revision
                else (
                    Risk(
                        "unpinned",
                        Severity.NOTE,
                        "no revision is named: a later run may fetch something else",
                        f"write {words(ref)}{'@<commit>' if ref.hub != 'ngc' else ':<version>'}",
                    ),
                )
            ),
        ),
        details=(("from", where), ("revision", ref.revision or "the hub's newest")),
    )
