"""Megatron weights: rank files inside a `.nemo`, and the `iter_*` folders of training runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.checkpoints import data, language, pickles
from console.checkpoints.archive import Archive, plain
from console.checkpoints.folder import modified, private_files, scan_files, tree_size
from console.checkpoints.model import Checkpoint, Format, LanguageFacts, Risk, Severity
from console.checkpoints.source import FileSource, read_whole
from console.facts import UsageError
from console.text import clean, human_bytes

LATEST = "latest_checkpointed_iteration.txt"
ITERATION = re.compile(r"^iter_(\d{1,12})$")
METADATA_CAP = 64 * 1024
_RANK = re.compile(
    r"(?:^|/)(?:mp_rank_(?P<mp>\d{2,3})(?:_(?P<mp_pp>\d{3}))?(?:_\d{3})?"
    r"|tp_rank_(?P<tp>\d{2,3})_pp_rank_(?P<pp>\d{3}))(?:/|$)"
)


@dataclass(frozen=True, slots=True)
class Ranks:
    """Tensor and pipeline ranks whose weights are there; empty for sharded weights."""

    found: frozenset[tuple[int, int]] = frozenset()

    @property
    def tensor(self) -> int:
        return max((t for t, _ in self.found), default=-1) + 1

    @property
    def pipeline(self) -> int:
        return max((p for _, p in self.found), default=-1) + 1


def ranks_of(names: Iterable[str]) -> Ranks:
    """Ranks by folder names: ``mp_rank_00`` (no pipeline), ``mp_rank_00_000`` and
    ``tp_rank_00_pp_rank_000``."""
    found: set[tuple[int, int]] = set()
    for name in names:
        if "_rank_" in name and (match := _RANK.search(name)):
            tensor, pipeline = match["mp"] or match["tp"], match["mp_pp"] or match["pp"]
            found.add((int(tensor), int(pipeline or 0)))
    return Ranks(frozenset(found))


def rank_risks(facts: LanguageFacts, ranks: Ranks) -> Iterator[Risk]:
    """A danger when weights of a rank are missing."""
    wanted = facts.tensor_parallel * facts.pipeline_parallel
    if ranks.found and len(ranks.found) < wanted <= 1 << 16:
        yield Risk(
            "missing-ranks",
            Severity.DANGER,
            f"weights of {len(ranks.found)} ranks are there, {wanted} were saved "
            f"({facts.tensor_parallel} tensor × {facts.pipeline_parallel} pipeline parallel)",
            "copy the rank folders that are missing",
        )


def sharded_form(archive: Archive, file: FileSource, ranks: Ranks) -> str:
    """``sharded, torch_dist`` for distributed weights in a plain archive, else rank folders."""
    for member in archive.members:
        if (
            member.size <= METADATA_CAP
            and member.name.endswith("metadata.json")
            and plain(member.name) == "model_weights/metadata.json"
        ):
            return _backend_words(file.read(member.offset, member.size))
    return f"{len(ranks.found)} rank folder(s)" if ranks.found else ""


def _backend_words(text: bytes) -> str:
    try:
        backend = data.text(data.load_json(text), "sharded_backend")
    except data.BadData:
        return "sharded"
    return f"sharded, {clean(backend, cap=40)}" if backend else "sharded"


# ------------------------------------------------------------------------------ iter_* folders


def is_iteration(name: str, names: Iterable[str]) -> bool:
    """Whether a folder called `name` with `names` in it holds one saved iteration."""
    inside = set(names)
    if "context" in inside:  # NeMo 2.0 has its own reader
        return False
    distributed = "common.pt" in inside and bool(inside & {".metadata", "metadata.json"})
    ranks = any(n.startswith(("mp_rank_", "tp_rank_")) for n in inside)
    return distributed or (ranks and ITERATION.match(name) is not None)


def is_run(names: Iterable[str]) -> bool:
    """Whether a folder holds several iterations, of which the latest counts."""
    inside = set(names)
    return LATEST in inside and any(ITERATION.match(n) for n in inside)


def read_run(path: Path) -> Checkpoint:
    """The iteration that `latest_checkpointed_iteration.txt` names. Raises `UsageError`."""
    text = read_whole(path / LATEST, 64, "the iteration file").decode("ascii", "replace").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise UsageError(
            f"{clean(str(path / LATEST))} names no iteration",
            why=f"it says {clean(text, cap=40)!r}",
            fix="name one of the iter_ folders",
        )
    folder = path / f"iter_{int(text):07d}"
    if not folder.is_dir():
        raise UsageError(
            f"the latest iteration of {clean(str(path))} is missing",
            why=f"there is no {folder.name}",
            fix="copy it, or name another iter_ folder",
        )
    return read(folder)


def read(path: Path) -> Checkpoint:
    """Facts of one iteration. Its own arguments lie in a pickle, which is not loaded; Megatron
    Bridge writes a `run_config.yaml` beside it, which is read."""
    names = [p.name for p in path.iterdir()]
    ranks = ranks_of(names)
    config = _run_config(path)
    facts = language.from_megatron_bridge(config) if config else _from_ranks(ranks)
    match = ITERATION.match(path.name)
    size = tree_size(path)
    provider = data.text(data.section(config, "model"), "_target_").rpartition(".")[2]
    model_class = clean(provider, cap=120)
    scanned = scan_files(_small_pickles(path, names))
    return Checkpoint(
        path=path,
        format=Format.MEGATRON,
        title="Megatron checkpoint"
        + (f" · {model_class}" if model_class else "")
        + (f" · iteration {int(match[1])}" if match else ""),
        model_class=model_class,
        task="text-generation",
        size=size,
        dtype=facts.dtype,
        language=facts,
        config=config,
        risks=(*_risks(config), *pickles.risks(scanned), *rank_risks(facts, ranks),
               *private_files(path)),
        details=tuple(_details(path, facts, ranks, size, bool(config))),
        modified=modified(path),
    )  # fmt: skip


def _run_config(path: Path) -> Mapping[str, Any]:
    file = path / "run_config.yaml"
    if not file.exists():
        return {}
    try:
        return data.load_yaml(read_whole(file, data.YAML_CAP, "the configuration"))
    except data.BadData as error:
        raise UsageError(f"{clean(str(file))} cannot be read", why=clean(str(error))) from error


def _from_ranks(ranks: Ranks) -> LanguageFacts:
    return LanguageFacts(
        tensor_parallel=max(ranks.tensor, 1), pipeline_parallel=max(ranks.pipeline, 1)
    )


def _small_pickles(path: Path, names: list[str]) -> list[Path]:
    """What every loader unpickles first; the shards themselves are read by offset."""
    first = [path / n for n in ("common.pt", ".metadata", "train_state.pt") if n in names]
    inside = [
        path / name / "model_optim_rng.pt" for name in sorted(names) if _RANK.match(f"{name}/")
    ]
    return first + [p for p in inside[:8] if p.exists()]


def _risks(config: Mapping[str, Any]) -> Iterator[Risk]:
    yield Risk(
        "pickle-weights",
        Severity.WARN,
        "the weights and their index are Python pickles, which can run code when they are loaded",
        "build from it only when you trust who made it",
    )
    if not config:
        yield Risk(
            "no-configuration",
            Severity.NOTE,
            "the model's sizes lie in a pickle, which is not loaded: they are unknown until the build",
        )


def _details(
    path: Path, facts: LanguageFacts, ranks: Ranks, size: int, configured: bool
) -> Iterator[tuple[str, str]]:
    yield "size", human_bytes(size)
    if (path / "metadata.json").is_file():
        text = read_whole(path / "metadata.json", METADATA_CAP, "the metadata")
        yield "weights", _backend_words(text)
    elif ranks.found:
        yield "weights", f"{len(ranks.found)} rank folder(s)"
    yield "configuration", "run_config.yaml" if configured else "inside a pickle (not read)"
    yield from language.details(facts)
