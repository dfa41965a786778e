"""How a language model is spread over the GPUs of this machine, for people: ranks, memory, what fits.

The figures are those of `language_memory`; this says which GPU holds which rank, how much of it each
part will take, and the longest sequences that fit. Bytes throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from console.checkpoints.model import LanguageFacts
from console.facts import Gpu, Verdict
from console.planning import language_memory
from console.planning.language_memory import Layout, Need

BATCHES = (1, 8, 64)
"""Sequences at once that are shown; a batch that nothing fits is left out."""
SIZES = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Spread:
    """What a route says of one deployment: the layout, what each of its GPUs needs, and its bounds."""

    facts: LanguageFacts
    layout: Layout
    need: Need
    fraction: float
    """Part of each GPU's memory that the engine may take."""
    length: int
    """Longest sequence that is asked for, in tokens; 0 where nothing says."""


@dataclass(frozen=True, slots=True)
class RankView:
    """One process and the GPU that it lands on."""

    rank: int
    node: int
    gpu: int
    """Its place among the GPUs that are used; there may be no such GPU here."""
    index: int | None
    """NVML's index of it on this machine; None on another machine, and where it is missing."""
    name: str
    tensor: int
    pipeline: int
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class BatchView:
    """The longest sequence (prompt and answer) of so many at once."""

    batch: int
    length: int


@dataclass(frozen=True, slots=True)
class ChoiceView:
    """A layout that the model and this machine allow."""

    tensor: int
    pipeline: int
    weights: int
    """Of one GPU."""
    tokens: int
    """That the cache would hold; 0 where the model does not fit."""


@dataclass(frozen=True, slots=True)
class ParallelismView:
    """Everything there is to show of it."""

    tensor: int
    pipeline: int
    nodes: int
    gpus: int
    """Usable on this machine."""
    split: str
    """How heads and layers are divided, in words."""
    fixed: str
    """The sizes that the checkpoint fixes, in words; empty where they are free."""
    weights: int
    cache_a_token: int
    activations: int
    context: int
    budget: int
    """What the engine may take of the smallest GPU used; 0 without one."""
    tokens: int
    """Cache, in tokens of one GPU."""
    length: int
    batches: tuple[BatchView, ...]
    ranks: tuple[RankView, ...]
    choices: tuple[ChoiceView, ...]
    verdicts: tuple[Verdict, ...]
    formula: str

    @property
    def fits(self) -> bool:
        """Whether the model and one sequence of the wanted length fit."""
        return bool(self.tokens) and self.tokens >= self.length


def view(
    spread: Spread, gpus: tuple[Gpu, ...], other: Callable[[Layout], Spread | None]
) -> ParallelismView:
    """The view of `spread` on these GPUs; `other` says what another layout would need."""
    facts, layout, need = spread.facts, spread.layout, spread.need
    used = gpus[: layout.a_node]
    budget = _budget(used, layout, spread.fraction)
    tokens = need.tokens(budget)
    return ParallelismView(
        tensor=layout.tensor,
        pipeline=layout.pipeline,
        nodes=layout.nodes,
        gpus=len(gpus),
        split=_split(facts, layout),
        fixed=f"tensor {facts.tensor_parallel}, pipeline {facts.pipeline_parallel}"
        if facts.parallel_fixed
        else "",
        weights=need.weights,
        cache_a_token=need.cache_a_token,
        activations=need.activations,
        context=need.context,
        budget=budget,
        tokens=tokens,
        length=spread.length,
        batches=tuple(_batches(tokens, facts.max_positions)),
        ranks=tuple(_rank(rank, gpus) for rank in language_memory.ranks(layout)),
        choices=tuple(_choices(facts, gpus, other)),
        verdicts=language_memory.checks(facts, layout, len(gpus)),
        formula=need.source,
    )


def seen(gpus: tuple[Gpu, ...], chosen: str) -> tuple[Gpu, ...]:
    """The GPUs that a server is given: all, or those of indices or UUIDs with commas between."""
    if chosen in ("", "all"):
        return gpus
    names = {str(gpu.index): gpu for gpu in gpus} | {gpu.uuid: gpu for gpu in gpus}
    return tuple(names[word] for word in chosen.split(",") if word in names)


def _budget(used: tuple[Gpu, ...], layout: Layout, fraction: float) -> int:
    if len(used) < layout.a_node:
        return 0
    return int(min(gpu.memory_total for gpu in used) * fraction)


def _batches(tokens: int, limit: int) -> Iterator[BatchView]:
    for batch in BATCHES:
        longest = tokens // batch
        if longest:
            yield BatchView(batch, min(longest, limit) if limit else longest)


def _rank(rank: language_memory.Rank, gpus: tuple[Gpu, ...]) -> RankView:
    gpu = gpus[rank.gpu] if rank.node == 0 and rank.gpu < len(gpus) else None
    return RankView(
        rank=rank.rank,
        node=rank.node,
        gpu=rank.gpu,
        index=gpu.index if gpu else None,
        name=gpu.name if gpu else "",
        tensor=rank.tensor,
        pipeline=rank.pipeline,
        total=gpu.memory_total if gpu else 0,
        free=gpu.memory_total - gpu.memory_used if gpu else 0,
    )


def _choices(
    facts: LanguageFacts, gpus: tuple[Gpu, ...], other: Callable[[Layout], Spread | None]
) -> Iterator[ChoiceView]:
    """The layouts on one machine that pass every rule, the fewest GPUs first."""
    sizes = [(t, p) for t in SIZES for p in SIZES if t * p <= len(gpus)]
    for tensor, pipeline in sorted(sizes, key=lambda size: (size[0] * size[1], size[1])):
        layout = Layout(tensor, pipeline)
        if any(v.blocks for v in language_memory.checks(facts, layout, len(gpus))):
            continue
        if (found := other(layout)) is None:
            continue
        budget = _budget(gpus[: layout.a_node], layout, found.fraction)
        yield ChoiceView(tensor, pipeline, found.need.weights, found.need.tokens(budget))


def _split(facts: LanguageFacts, layout: Layout) -> str:
    """``32 heads and 8 key/value heads over 2: 16 and 4 each; 80 layers in 2 stages of 40``."""
    shared = f"{_each(facts.heads, layout.tensor)} of {facts.heads} heads"
    kv = facts.kv_heads or facts.heads
    if kv != facts.heads:
        copied = kv < layout.tensor and layout.tensor % kv == 0
        part = "1 (copied)" if copied else _each(kv, layout.tensor)
        shared += f", {part} of {kv} key/value heads"
    return f"{shared}, {_each(facts.layers, layout.pipeline)} of {facts.layers} layers a GPU"


def _each(count: int, parts: int) -> str:
    """``16``, or ``10 or 11`` where it does not divide."""
    whole, rest = divmod(count, parts)
    return str(whole) if not rest else f"{whole} or {whole + 1}"
