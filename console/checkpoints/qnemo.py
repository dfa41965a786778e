"""`.qnemo` archives: a TensorRT-LLM checkpoint in a tar (the folder form is `trtllm`'s)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from console.checkpoints import archive as archives
from console.checkpoints import data, trtllm
from console.checkpoints.archive import plain
from console.checkpoints.model import Checkpoint, Risk, Severity
from console.checkpoints.nemo import private_file
from console.checkpoints.source import FileSource
from console.facts import UsageError
from console.text import clean, human_bytes


def read_file(path: Path, file: FileSource, info: os.stat_result, compressed: bool) -> Checkpoint:
    """Facts from the `config.json` inside. Raises `UsageError`."""
    archive = archives.look(path, file, compressed, ("config.json",), data.YAML_CAP, whole=True)
    if archive.config is None:
        raise UsageError(f"{clean(str(path))} is an archive without a config.json, so not a .qnemo")
    names = [plain(m.name) for m in archive.members]
    found = trtllm.checkpoint(path, trtllm.parsed(path, archive.config), names, nemo=True)
    facts = found.language
    assert facts is not None, "every TensorRT-LLM checkpoint has a geometry"
    # The members after the configuration of a gzip archive are not known to be missing.
    own = () if compressed else found.risks
    unseen = Risk(
        "members-unknown",
        Severity.NOTE,
        "a gzip archive: its member list is unknown until the build unpacks it",
    )
    return replace(
        found,
        size=info.st_size,
        modified=info.st_mtime,
        language=replace(
            facts, tokenizer="sentencepiece" if "tokenizer.model" in names else facts.tokenizer
        ),
        risks=(
            *archives.risks(archive),
            *own,
            *((unseen,) if compressed else ()),
            *private_file(info),
        ),
        details=(("size", human_bytes(info.st_size)), *found.details),
    )
