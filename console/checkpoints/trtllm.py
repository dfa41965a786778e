"""TensorRT-LLM folders: checkpoints (`rankN.safetensors`), engines (`rankN.engine`), and plan files.

A plan's TensorRT version stands in its header: bytes 0 to 3 are ``ftrt``, 4 to 7 the version of the
serialisation, and 24 to 27 major, minor, patch and build (TensorRT's own `sampleEngines.cpp`,
engines since 8.6). The most usual failure, a plan of another version, is seen without TensorRT.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from console.checkpoints import data, language
from console.checkpoints.folder import modified, private_files, tree_size
from console.checkpoints.model import (
    Checkpoint,
    EngineFacts,
    Format,
    LanguageFacts,
    Risk,
    Severity,
)
from console.checkpoints.nemo import private_file
from console.checkpoints.source import FileSource, opened, read_whole
from console.facts import UsageError
from console.text import clean, human_bytes

CHECKPOINT_MARKERS = ("config.json", "rank0.safetensors")
ENGINE_MARKERS = ("config.json", "rank0.engine")
PLAN_MAGIC = b"ftrt"
PLAN_HEADER = 28
_RANK = re.compile(r"^rank(\d{1,5})\.(safetensors|engine)$")


def config_of(path: Path) -> Mapping[str, Any]:
    """The folder's `config.json`. Raises `UsageError`."""
    return parsed(path, read_whole(path / "config.json", data.YAML_CAP, "the configuration"))


def parsed(path: Path, text: bytes) -> Mapping[str, Any]:
    try:
        return data.load_json(text)
    except data.BadData as error:
        raise UsageError(
            f"the config.json of {clean(str(path))} cannot be read", why=clean(str(error))
        ) from error


def read_folder(path: Path) -> Checkpoint:
    """A checkpoint folder, called ``.qnemo`` when NeMo made it. Raises `UsageError`."""
    nemo = path.suffix.lower() == ".qnemo" or (path / "tokenizer_config.yaml").exists()
    names = [p.name for p in path.iterdir()]
    tokenizer, template = language.tokenizer_of(path)
    found = checkpoint(path, config_of(path), names, nemo=nemo)
    assert found.language is not None, "every one of them has a geometry"
    return replace(
        found,
        size=tree_size(path),
        modified=modified(path),
        language=replace(found.language, tokenizer=tokenizer, chat_template=template),
        risks=(*found.risks, *private_files(path)),
        details=(("size", human_bytes(tree_size(path))), *found.details),
    )


def checkpoint(
    path: Path, config: Mapping[str, Any], names: Iterable[str], *, nemo: bool
) -> Checkpoint:
    """What a checkpoint's configuration and the names beside it say; size and time are the caller's."""
    model_class = clean(data.text(config, "architecture"), cap=120)
    if not model_class:
        raise UsageError(
            f"{clean(str(path))} is no TensorRT-LLM checkpoint",
            why="no architecture stands in its config.json",
        )
    facts = language.from_tensorrt_llm(config)
    quantised = data.text(data.section(config, "quantization"), "quant_algo")
    words = "TensorRT-LLM checkpoint" + (" (.qnemo)" if nemo else "")
    return Checkpoint(
        path=path,
        format=Format.QNEMO if nemo else Format.TRTLLM_CHECKPOINT,
        title=f"{words} · {model_class}",
        model_class=model_class,
        task="text-generation",
        dtype=clean(quantised or data.text(config, "dtype"), cap=40),
        language=facts,
        config=config,
        risks=tuple(_rank_risks(config, facts, names, "safetensors")),
        details=tuple(_checkpoint_details(config, facts)),
    )


def read_engine(path: Path) -> Checkpoint:
    """An engine folder: built already, bound to a version and a kind of GPU. Raises `UsageError`."""
    config = config_of(path)
    pretrained = data.section(config, "pretrained_config") or data.section(config, "builder_config")
    built = data.section(config, "build_config") or data.section(config, "builder_config")
    model_class = clean(
        data.text(pretrained, "architecture") or data.text(pretrained, "name"), cap=120
    )
    facts = language.from_tensorrt_llm(pretrained)
    names = [p.name for p in path.iterdir()]
    engine = _engine(path, config, built, facts)
    size = tree_size(path)
    return Checkpoint(
        path=path,
        format=Format.TRTLLM_ENGINE,
        title="TensorRT-LLM engine" + (f" · {model_class}" if model_class else ""),
        model_class=model_class,
        task="text-generation",
        size=size,
        dtype=facts.quantisation or facts.dtype,
        language=facts,
        engine=engine,
        config=config,
        risks=(
            *_rank_risks(pretrained, facts, names, "engine"),
            *_version_risks(engine),
            *private_files(path),
        ),
        details=(("size", human_bytes(size)), *_engine_details(engine), *language.details(facts)),
        modified=modified(path),
    )


def _engine(
    path: Path, config: Mapping[str, Any], built: Mapping[str, Any], facts: LanguageFacts
) -> EngineFacts:
    plugins = data.section(built, "plugin_config") or data.section(config, "plugin_config")
    paged = plugins.get("paged_kv_cache")
    kind = data.text(built, "kv_cache_type").lower()
    return EngineFacts(
        version=clean(str(config.get("version") or ""), cap=40),
        tensorrt=_plan_version_of(path / "rank0.engine"),
        ranks=facts.world_size,
        max_batch_size=data.whole(built, "max_batch_size"),
        max_input_len=data.whole(built, "max_input_len"),
        max_seq_len=data.whole(built, "max_seq_len"),
        max_num_tokens=data.whole(built, "max_num_tokens"),
        max_beam_width=data.whole(built, "max_beam_width"),
        paged_kv_cache="paged" in kind if kind else paged if isinstance(paged, bool) else None,
    )


def _plan_version_of(file: Path) -> str:
    if not file.is_file():
        return ""
    with opened(file) as (source, _):
        return plan_version(source.read(0, PLAN_HEADER))


def plan_version(header: bytes) -> str:
    """TensorRT's version from a plan's first 28 bytes: ``10.3.0.26``; empty when it is no plan."""
    if len(header) < PLAN_HEADER or not header.startswith(PLAN_MAGIC):
        return ""
    return ".".join(str(part) for part in header[24:28])


def read_plan(path: Path, file: FileSource, info: os.stat_result) -> Checkpoint:
    """A TensorRT plan by its header. Raises `UsageError`."""
    version = plan_version(file.read(0, PLAN_HEADER))
    if not version:
        raise UsageError(
            f"{clean(str(path))} is a truncated TensorRT plan",
            why=f"{info.st_size} bytes, its header alone has {PLAN_HEADER}",
            fix="copy or build it again",
        )
    engine = EngineFacts(version=version, tensorrt=version)
    return Checkpoint(
        path=path,
        format=Format.TENSORRT,
        title=f"TensorRT plan · TensorRT {version}",
        size=info.st_size,
        engine=engine,
        risks=(*_version_risks(engine), *private_file(info)),
        details=(
            ("TensorRT", version),
            ("serialisation", str(int.from_bytes(file.read(4, 4), "little"))),
            ("size", human_bytes(info.st_size)),
            ("tensors", "unknown until TensorRT loads it"),
        ),
        modified=info.st_mtime,
    )


# ------------------------------------------------------------------------------------ risks


def _rank_risks(
    config: Mapping[str, Any], facts: LanguageFacts, names: Iterable[str], suffix: str
) -> Iterator[Risk]:
    """One file a rank, as many as the world has."""
    world = data.whole(data.section(config, "mapping"), "world_size", facts.world_size)
    found = {int(m[1]) for name in names if (m := _RANK.match(name)) and m[2] == suffix}
    if missing := language.missing_ranks(world, found):
        shown = ", ".join(f"rank{rank}.{suffix}" for rank in missing[:3])
        yield Risk(
            "missing-ranks",
            Severity.DANGER,
            f"{len(missing)} of {world} rank files are missing: {shown}",
            "copy them, or convert the model again",
        )
    if world != facts.world_size:
        yield Risk(
            "world-size",
            Severity.DANGER,
            f"world_size is {world}, but its parallel sizes make {facts.world_size}",
            "convert the model again",
        )


def _version_risks(engine: EngineFacts) -> Iterator[Risk]:
    parts = []
    if engine.version and engine.version != engine.tensorrt:
        parts.append(f"TensorRT-LLM {engine.version}")
    if engine.tensorrt:
        parts.append(f"TensorRT {engine.tensorrt}")
    version = " and ".join(parts)
    yield Risk(
        "bound-to-version",
        Severity.NOTE,
        f"it loads only with {version or 'the version it was built with'}, "
        "on the kind of GPU it was built on",
        "serve it in the container that built it, or build it again there",
    )


# ------------------------------------------------------------------------------------ details


def _checkpoint_details(
    config: Mapping[str, Any], facts: LanguageFacts
) -> Iterator[tuple[str, str]]:
    if said := data.text(config, "dtype"):
        yield "dtype", clean(said, cap=40)
    yield from language.details(facts)
    quantisation = data.section(config, "quantization")
    if group := data.whole(quantisation, "group_size"):
        yield "quantisation group", str(group)


def _engine_details(engine: EngineFacts) -> Iterator[tuple[str, str]]:
    rows: tuple[tuple[str, object], ...] = (
        ("TensorRT-LLM", engine.version),
        ("TensorRT", engine.tensorrt),
        ("largest batch", engine.max_batch_size),
        ("longest input", engine.max_input_len),
        ("longest sequence", engine.max_seq_len),
        ("tokens at once", engine.max_num_tokens),
        ("beams", engine.max_beam_width),
        ("paged cache", {True: "yes", False: "no", None: ""}[engine.paged_kv_cache]),
    )
    for label, value in rows:
        if value:
            yield label, str(value)
