"""`.nemo` archives: speech models, and Megatron language and multimodal models of NeMo 1."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from console.checkpoints import archive as archives
from console.checkpoints import data, language, megatron, pickles, speech
from console.checkpoints.archive import Archive
from console.checkpoints.model import (
    Checkpoint,
    Format,
    LanguageFacts,
    Risk,
    Severity,
    SpeechFacts,
)
from console.checkpoints.source import FileSource
from console.facts import UsageError
from console.text import clean, human_bytes, human_seconds

CONFIG = ("model_config.yaml",)
_TARGET = re.compile(r"^nemo\.collections\.[\w.]+$")
_INNER_TARGETS = (
    "nemo.",
    "nemo_text_processing.",
    "torch.nn.",
    "torch.optim.",
    "lightning.",
    "pytorch_lightning.",
)
_WEIGHTS = re.compile(r"(^|/)(model_weights\.ckpt|model_weights/.+|.+\.distcp)$")
_PICKLED = (".ckpt", ".pt", ".metadata", ".pkl")
MAX_PICKLES = 64
_LINE = {
    "target": re.compile(rb"^target:[ \t]*([^\s#]+)[ \t]*$", re.MULTILINE),
    "nemo_version": re.compile(rb"^nemo_version:[ \t]*([^\s#]+)[ \t]*$", re.MULTILINE),
}


def read(path: Path, file: FileSource, info: os.stat_result, compressed: bool) -> Checkpoint:
    """All facts of one archive. Raises `UsageError`."""
    archive = archives.look(path, file, compressed, CONFIG, data.YAML_CAP, whole=True)
    config = _config(path, archive)
    target = data.text(config, "target")
    model_class = clean(target.rpartition(".")[2], cap=120)
    weights = _weights(archive)
    spoken = speech.facts(config, model_class)
    written = language.from_nemo1(config, target) if _is_language(target) else None
    ranks = megatron.ranks_of(m.name for m in archive.members)
    scanned = _pickles(archive, file)
    dtype = "fp32" if spoken else (written.dtype if written else "") or scanned.dtype
    each = 4 if spoken else language.BYTES.get(scanned.dtype or dtype, 0)
    parameters = weights // each if each and weights else None
    return Checkpoint(
        path=path,
        format=Format.NEMO,
        title=_title(target, model_class, config, spoken),
        model_class=model_class,
        task=speech.task(spoken) if spoken else _task(target),
        size=info.st_size,
        parameters=parameters,
        dtype=dtype,
        nemo_version=clean(str(config.get("nemo_version") or ""), cap=40),
        speech=spoken,
        language=written,
        config=config,
        risks=(
            *_target_risks(target, config),
            *archives.risks(archive),
            *pickles.risks(scanned),
            *(megatron.rank_risks(written, ranks) if written and not archive.compressed else ()),
            *_file_risks(archive, info),
        ),
        details=(
            *_details(archive, config, spoken, written, info),
            *_weights_details(archive, file, ranks, parameters, each),
        ),
        modified=info.st_mtime,
    )


def glance(path: Path, file: FileSource, info: os.stat_result, compressed: bool) -> Checkpoint:
    """What a list shows: the class by its line in the configuration, nothing parsed."""
    archive = archives.look(path, file, compressed, CONFIG, data.YAML_CAP, whole=False)
    if archive.config is None:
        raise _no_config(path, archive)

    def line(key: str) -> str:
        found = _LINE[key].search(archive.config or b"")
        return clean(found[1].decode("utf-8", "replace").strip("'\""), cap=120) if found else ""

    target = line("target")
    model_class = target.rpartition(".")[2]
    kind = "speech" if ".asr." in target else "language" if ".nlp." in target else ""
    return Checkpoint(
        path=path,
        format=Format.NEMO,
        title=f"NeMo {kind} model".replace("  ", " ")
        + (f" · {model_class}" if model_class else ""),
        model_class=model_class,
        task=_task(target),
        size=info.st_size,
        nemo_version=line("nemo_version"),
        modified=info.st_mtime,
    )


def _config(path: Path, archive: Archive) -> Mapping[str, Any]:
    if archive.config is None:
        raise _no_config(path, archive)
    try:
        return data.load_yaml(archive.config)
    except data.BadData as error:
        raise UsageError(
            f"the model_config.yaml in {clean(str(path))} cannot be read", why=clean(str(error))
        ) from error


def _no_config(path: Path, archive: Archive) -> UsageError:
    return UsageError(
        f"{clean(str(path))} is an archive without a model_config.yaml, so not a NeMo checkpoint",
        why="its beginning was unpacked without finding one" if archive.compressed else "",
    )


def _weights(archive: Archive) -> int:
    """Bytes of the weight members; 0 where they were not reached."""
    return sum(m.size for m in archive.members if m.size and _WEIGHTS.search(m.name))


def _pickles(archive: Archive, file: FileSource) -> pickles.Scan:
    """What the pickles of a plain archive name; those of a gzip one would have to be unpacked."""
    if archive.compressed:
        return pickles.Scan()
    until = pickles.deadline()
    found = [m for m in archive.members if m.size and m.name.endswith(_PICKLED)]
    looked = [pickles.scan(file, m.offset, m.size, until) for m in found[:MAX_PICKLES]]
    if len(found) > MAX_PICKLES:
        looked.append(pickles.Scan(whole=False))
    return pickles.merged(looked)


def _is_language(target: str) -> bool:
    parts = target.split(".")
    return "language_modeling" in parts or "multimodal" in parts or "multimodal_llm" in parts


def _task(target: str) -> str:
    if ".asr." in target:
        return "speech-to-text"
    if ".multimodal" in target:
        if "speech_llm" in target:
            return "sound-text"
        return "image-text" if "multimodal_llm" in target or "neva" in target.lower() else ""
    return "text-generation" if "language_modeling" in target else ""


def _title(
    target: str, model_class: str, config: Mapping[str, Any], spoken: SpeechFacts | None
) -> str:
    if spoken:
        return f"NeMo speech model · {speech.words(config, spoken)}"
    family = {
        "nlp": "NeMo 1 language model",
        "multimodal": "NeMo 1 multimodal model",
        "tts": "NeMo text-to-speech model",
    }
    parts = target.split(".")
    name = family.get(parts[2] if len(parts) > 2 else "", "NeMo model")
    return f"{name} · {model_class}" if model_class else name


# ------------------------------------------------------------------------------------ risks


def _target_risks(target: str, config: Mapping[str, Any]) -> Iterator[Risk]:
    if not _TARGET.match(target):
        yield Risk(
            "foreign-target",
            Severity.DANGER,
            f"target is {clean(target, cap=80) or 'missing'}: NeMo would import any module named there",
            "build from it only when you know who wrote it; NeMo's own start with nemo.collections.",
        )
    foreign = sorted({t for t in _inner_targets(config) if not t.startswith(_INNER_TARGETS)})
    if foreign:
        shown = ", ".join(clean(t, cap=80) for t in foreign[:3])
        yield Risk(
            "foreign-inner-target",
            Severity.DANGER,
            f"the configuration names code outside NeMo and PyTorch: {shown}",
            "NeMo before 2.4 would call it while loading; build only what you trust",
        )


def _inner_targets(config: Mapping[str, Any]) -> Iterator[str]:
    waiting: list[object] = [config]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        if isinstance(value, Mapping):
            seen.add(id(value))
            found = value.get("_target_")
            if isinstance(found, str):
                yield found
            waiting.extend(value.values())
        elif isinstance(value, list):
            seen.add(id(value))
            waiting.extend(value)


def _file_risks(archive: Archive, info: os.stat_result) -> Iterator[Risk]:
    if archive.compressed:
        yield Risk(
            "members-unknown",
            Severity.NOTE,
            "an old gzip archive: its member list is unknown until the build unpacks it",
        )
    if archive.compressed or any(m.name.endswith((".ckpt", ".pt")) for m in archive.members):
        yield Risk(
            "pickle-weights",
            Severity.NOTE,
            "the weights are a Python pickle: NeMo before 2.6.2 runs the code in it",
            "build with NeMo 2.6.2 or later, as the managed environment does",
        )
    yield from private_file(info)


def private_file(info: os.stat_result) -> Iterator[Risk]:
    """A note when only its owner may read the file."""
    if not info.st_mode & 0o044:
        yield Risk(
            "private-file",
            Severity.NOTE,
            "only its owner can read it: a server that runs as another user cannot",
            "chmod a+r, or serve as its owner",
        )


# ------------------------------------------------------------------------------------ details


def _details(
    archive: Archive,
    config: Mapping[str, Any],
    spoken: SpeechFacts | None,
    written: LanguageFacts | None,
    info: os.stat_result,
) -> Iterator[tuple[str, str]]:
    yield "class", clean(data.text(config, "target"), cap=160)
    yield "size", human_bytes(info.st_size) + (" (gzip)" if archive.compressed else "")
    if version := config.get("nemo_version"):
        yield "made with", f"NeMo {clean(str(version), cap=40)}"
    if spoken:
        yield from speech.details(spoken)
    if written:
        yield from language.details(written)
        if scheme := data.text(data.section(config, "peft"), "peft_scheme"):
            yield "adapter", clean(scheme, cap=40)
    if spoken and spoken.max_seconds:
        yield (
            "longest audio",
            f"{human_seconds(spoken.max_seconds)} (the positional table's length)",
        )


def _weights_details(
    archive: Archive, file: FileSource, ranks: megatron.Ranks, parameters: int | None, each: int
) -> Iterator[tuple[str, str]]:
    if parameters:
        yield "parameters", f"≈ {human_count(parameters)} (size of the weights ÷ {each} bytes)"
    if archive.compressed:
        yield "members", "unknown until the build unpacks it"
        return
    if form := megatron.sharded_form(archive, file, ranks):
        yield "weights", form
    yield "members", str(len(archive.members))


def human_count(count: int) -> str:
    """A number of parameters as people say it: ``505 k``, ``115 M``, ``1.1 B``."""
    for unit, word in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            value = count / unit
            return f"{value:.1f} {word}" if value < 10 else f"{value:.0f} {word}"
    return str(count)
