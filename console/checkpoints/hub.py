"""Models named by a hub id: ``hub:owner/name@revision`` (Hugging Face), ``ngc:org/team/model:version``
and ``nemo:name``, a pretrained name of NeMo's own lists.

Nothing here asks a hub: before a fetch has run, a name is all that is known, unless the model lies
on this machine already: in Hugging Face's cache, or where an earlier fetch of the deployment put it.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from console.checkpoints.model import Checkpoint, Format, HubRef, Risk, Severity
from console.facts import UsageError
from console.text import clean

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_HUB = re.compile(rf"({_PART}(?:/{_PART})?)(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,200}}))?")
_NGC = re.compile(rf"({_PART}(?:/{_PART}){{1,2}})(?::([A-Za-z0-9][A-Za-z0-9._-]{{0,100}}))?")
_NEMO = re.compile(rf"({_PART})()")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_REPORT = 1 << 20
"""Bytes of a fetch's report that are read at most."""


@dataclass(frozen=True, slots=True)
class _Hub:
    """How ids of one hub are written."""

    name: str
    title: str
    pattern: re.Pattern[str]
    form: str
    mark: str = ""
    """What stands before the revision; empty where there are no revisions."""
    revision: str = ""


_HUBS = {
    "hub:": _Hub("hugging-face", "Hugging Face", _HUB, "hub:owner/name@revision", "@", "<commit>"),
    "ngc:": _Hub("ngc", "NGC", _NGC, "ngc:org/team/model:version", ":", "<version>"),
    "nemo:": _Hub("nemo", "NeMo pretrained", _NEMO, "nemo:name (with an owner, hub:owner/name)"),
}


def is_hub(text: str) -> bool:
    """Whether a checkpoint is named by a hub id instead of a path."""
    return text.startswith(tuple(_HUBS))


def _of(ref: HubRef) -> tuple[str, _Hub]:
    """Prefix and hub of an id."""
    return next((prefix, hub) for prefix, hub in _HUBS.items() if hub.name == ref.hub)


def parse(text: str) -> HubRef | None:
    """The id, or None when `text` is a path. Raises `UsageError` for an id of a wrong form."""
    if not is_hub(text):
        return None
    prefix, _, rest = text.partition(":")
    hub = _HUBS[f"{prefix}:"]
    match = hub.pattern.fullmatch(rest)
    if match is None or ".." in rest or "--" in match[1] or "//" in rest:
        raise UsageError(f"{clean(text, cap=120)} is no hub id", fix=f"its form is {hub.form}")
    return HubRef(hub.name, match[1], match[2] or "")


def words(ref: HubRef) -> str:
    """The id as it is written in a deployment."""
    prefix, hub = _of(ref)
    return f"{prefix}{ref.name}" + (f"{hub.mark}{ref.revision}" if ref.revision else "")


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


def fetched(ref: HubRef, folder: Path, role: str) -> Path | None:
    """Where a fetch that has ended put the model; None when there was none of this id.

    `folder` is the one that the fetch steps of a deployment write to (see `backends.hub`): what
    lies there may be of another id that the deployment named before.
    """
    if ref.hub == "ngc":
        place = folder / role / ngc_folder(ref)
        return place if place.is_dir() else None
    report = _report(folder / f"{role}.json")
    if ref.hub == "nemo":
        file = Path(str(report.get("file", "")))
        return file if report.get("name") == ref.name and file.is_file() else None
    snapshot = cached(ref)
    return snapshot if snapshot and report.get("folder") == str(snapshot) else None


def ngc_folder(ref: HubRef) -> str:
    """The folder that NVIDIA's program makes for a version of a model."""
    return f"{ref.name.rpartition('/')[2]}_v{ref.revision}"


def _report(file: Path) -> dict[str, object]:
    """What a fetch said at its end; empty when there is none."""
    try:
        with file.open("rb") as stream:
            said = json.loads(stream.read(_REPORT))
    except (OSError, ValueError):  # not there, or not one of ours: the model is fetched again
        return {}
    return said if isinstance(said, dict) else {}


def unfetched(ref: HubRef) -> Checkpoint:
    """All that is known before the fetch: where it comes from."""
    _, hub = _of(ref)
    where = hub.title
    return Checkpoint(
        path=Path(words(ref)),
        format=Format.HUB,
        title=f"{where} model · {ref.name}",
        hub=ref,
        risks=(
            Risk(
                "not-fetched",
                Severity.NOTE,
                "not on this machine yet: its facts are unknown until it is fetched",
            ),
            *(
                ()
                if ref.revision or not hub.mark
                else (
                    Risk(
                        "unpinned",
                        Severity.NOTE,
                        "no revision is named: a later run may fetch something else",
                        f"write {words(ref)}{hub.mark}{hub.revision}",
                    ),
                )
            ),
        ),
        details=(
            ("from", where),
            ("revision", ref.revision or ("the hub's newest" if hub.mark else "as NeMo lists it")),
        ),
    )
