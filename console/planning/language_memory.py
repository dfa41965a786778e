"""How much GPU memory a transformer needs, how it splits over GPUs, and what fits: formulas as code.

Rules (sources): weights = parameters × bytes of their dtype, split over tensor × pipeline ranks, with
embeddings kept in the plain dtype when the layers are quantised; key/value cache = 2 × layers ×
key/value heads × head dimension × bytes, a token (TensorRT-LLM's memory page; vLLM's log agrees:
131,100 B a token seen for Llama-3.1-8B, 131,072 by the formula); activations grow with the tokens of
one step. Bytes throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from console.checkpoints.model import LanguageFacts
from console.facts import Level, Verdict

GIB = 1 << 30
BYTES = {
    "fp32": 4.0,
    "float32": 4.0,
    "fp16": 2.0,
    "float16": 2.0,
    "bf16": 2.0,
    "bfloat16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "w8a16": 1.0,
    "smoothquant": 1.0,
    "int4": 0.5,
    "int4_awq": 0.5,
    "awq": 0.5,
    "gptq": 0.5,
    "w4a16": 0.5,
    "nvfp4": 0.5,
}
"""Bytes a parameter or a cached element takes."""

USABLE = 0.93
"""Part of a card that an engine can have: the driver, its reserve and the context take the rest."""
RESERVE = 3 * GIB // 2
"""Activations and buffers at TensorRT-LLM's defaults for 7 to 13 billion parameters (1 to 2 GiB)."""
CACHE_SHARE = 0.9
"""Part of what is left that TensorRT-LLM gives to the cache by default."""
CONTEXT = 600 << 20
"""CUDA context of one process (582 MiB seen on an H200) with its libraries."""

_UNGATED = frozenset(
    {"gpt", "gpt2", "gptnext", "falcon", "starcoder", "starcoder2", "bloom", "opt"}
)
"""Families whose feed-forward part has two matrices and no gate."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a model is spread: ranks of each kind. `nodes` is how many machines hold them."""

    tensor: int = 1
    pipeline: int = 1
    nodes: int = 1

    @property
    def world(self) -> int:
        """Processes, one a GPU: tensor × pipeline."""
        return self.tensor * self.pipeline

    @property
    def a_node(self) -> int:
        """GPUs that each machine needs."""
        return math.ceil(self.world / self.nodes)


@dataclass(frozen=True, slots=True)
class Rank:
    """Where one process runs. Tensor ranks are neighbours: they talk most."""

    rank: int
    node: int
    gpu: int
    """Place on its node, in the order that the GPUs were given."""
    tensor: int
    pipeline: int


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that each GPU needs, and what its cache would hold."""

    weights: int
    cache_a_token: int
    """Bytes of the key/value cache for one token, on this GPU."""
    activations: int
    context: int
    source: str

    @property
    def fixed(self) -> int:
        """What is there before the first token is cached."""
        return self.weights + self.activations + self.context

    def total(self, tokens: int) -> int:
        """With `tokens` (batch × length) cached."""
        return self.fixed + self.cache_a_token * tokens

    def tokens(self, budget: int) -> int:
        """Tokens that a cache of what `budget` leaves would hold; 0 when even the model does not fit."""
        if not self.cache_a_token:
            return 0
        return max(0, (budget - self.fixed) // self.cache_a_token)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parameters of a model by where they are."""

    embeddings: int
    """Input embeddings and the output head (once when tied), positions."""
    layers: int

    @property
    def total(self) -> int:
        return self.embeddings + self.layers


def sizes(facts: LanguageFacts, counted: int | None = None) -> Sizes:
    """Parameters by the geometry; `counted` (read from the weights) decides the total where known.

    A layer has the attention's four matrices (keys and values narrower by grouping), two
    feed-forward matrices or three with a gate, each expert its own with a router, and two norms.
    """
    hidden, wide = facts.hidden_size, facts.intermediate_size or 4 * facts.hidden_size
    ungated = facts.family.lower() in _UNGATED
    head = facts.head_dim or (hidden // facts.heads if facts.heads else 0)
    queries, keys = facts.heads * head, (facts.kv_heads or facts.heads) * head
    attention = 2 * hidden * queries + 2 * hidden * keys
    feed = (2 if ungated else 3) * hidden * wide
    if facts.experts:
        feed = facts.experts * feed + hidden * facts.experts
    extra = 2 * hidden + ((queries + 2 * keys + 2 * hidden + wide + 2 * hidden) if ungated else 0)
    layers = facts.layers * (attention + feed + extra) + hidden
    embeddings = facts.vocabulary_size * hidden * (1 if _tied(facts) else 2)
    if facts.family.lower() in ("gpt2", "gpt"):
        embeddings += facts.max_positions * hidden
    if counted:
        layers = max(0, counted - embeddings)
    return Sizes(embeddings, layers)


def _tied(facts: LanguageFacts) -> bool:
    return facts.tied_embeddings or facts.family.lower() == "gpt2"


def need(
    facts: LanguageFacts,
    layout: Layout,
    *,
    weights: str = "",
    cache: str = "",
    step_tokens: int = 8192,
    counted: int | None = None,
    reserve: int | None = None,
) -> Need:
    """What each GPU of `layout` needs.

    `weights` and `cache` are dtypes of `BYTES` (the checkpoint's own when empty), `step_tokens` the
    tokens of one step (``max_num_tokens``, ``max_num_batched_tokens``). `reserve` replaces the
    estimate of activations, context included. Unknown dtypes count as 16 bit.
    """
    plain = facts.dtype or "bf16"
    quantised = weights or facts.quantisation or plain
    parts = sizes(facts, counted)
    ranks = layout.tensor * layout.pipeline
    plain_bytes = min(BYTES.get(plain, 2.0), 2.0)
    each = BYTES.get(quantised, 2.0)
    if each >= plain_bytes:
        plain_bytes = each
    whole = parts.layers * each + parts.embeddings * plain_bytes
    cached = BYTES.get(cache or facts.kv_quantisation or "bf16", 2.0)
    heads = max(1.0, (facts.kv_heads or facts.heads) / layout.tensor)
    head = facts.head_dim or (facts.hidden_size // facts.heads if facts.heads else 0)
    a_token = 2 * math.ceil(facts.layers / layout.pipeline) * heads * head * cached
    wide = facts.intermediate_size or 4 * facts.hidden_size
    active = 2 * step_tokens * (8 * facts.hidden_size + 2 * wide / layout.tensor)
    logits = 256 * facts.vocabulary_size * 4 * 2
    return Need(
        weights=round(whole / ranks),
        cache_a_token=round(a_token),
        activations=round(active + logits) if reserve is None else reserve,
        context=CONTEXT if reserve is None else 0,
        source=f"weights: {_count(parts.layers)} × {each:g} B + embeddings "
        f"{_count(parts.embeddings)} × {plain_bytes:g} B, over {ranks} GPU(s); cache: 2 × layers "
        f"× key/value heads × head dimension × {cached:g} B",
    )


def _count(parameters: int) -> str:
    """``8.03 billion``, ``1.38 million``."""
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if parameters >= size:
            return f"{parameters / size:.2f} {word}"
    return str(parameters)


def budget(card: int, fraction: float = USABLE) -> int:
    """Bytes of a card of `card` bytes that an engine may have."""
    return int(card * fraction)


def cache_tokens(need_: Need, card: int, *, fraction: float = USABLE, share: float = 1.0) -> int:
    """Tokens that fit a GPU of `card` bytes, when `share` of what is left goes to the cache."""
    if not need_.cache_a_token:
        return 0
    return max(0, int((budget(card, fraction) - need_.fixed) * share / need_.cache_a_token))


def longest(need_: Need, card: int, batch: int, *, fraction: float = USABLE) -> int:
    """The longest sequence (prompt and answer) of `batch` at once; 0 when nothing fits."""
    return cache_tokens(need_, card, fraction=fraction) // max(1, batch)


def ranks(layout: Layout) -> tuple[Rank, ...]:
    """Which process runs where, tensor ranks first (as Megatron, TensorRT-LLM and vLLM order them)."""
    return tuple(
        Rank(
            rank=number,
            node=number // layout.a_node,
            gpu=number % layout.a_node,
            tensor=number % layout.tensor,
            pipeline=number // layout.tensor,
        )
        for number in range(layout.world)
    )


def checks(facts: LanguageFacts, layout: Layout, gpus: int) -> tuple[Verdict, ...]:
    """Whether the layout is possible for this model on `gpus` GPUs a machine; the first failing rule
    of each kind, or one passing verdict."""
    found = [*_saved(facts, layout), *_divides(facts, layout), *_enough(layout, gpus)]
    if found:
        return tuple(found)
    return (
        Verdict(
            "parallelism",
            Level.PASS,
            f"{layout.world} process(es): tensor {layout.tensor} × pipeline {layout.pipeline}",
            figure=f"{gpus} GPU(s) here",
            source="heads and layers of the checkpoint",
        ),
    )


def _fail(summary: str, figure: str, fix: str, option: str) -> Verdict:
    return Verdict(
        "parallelism",
        Level.FAIL,
        summary,
        figure,
        "heads and layers of the checkpoint",
        fix,
        option,
    )


def _saved(facts: LanguageFacts, layout: Layout) -> list[Verdict]:
    same = (facts.tensor_parallel, facts.pipeline_parallel) == (layout.tensor, layout.pipeline)
    if not facts.parallel_fixed or same:
        return []
    saved = f"tensor {facts.tensor_parallel}, pipeline {facts.pipeline_parallel}"
    return [
        _fail(
            "this checkpoint was made for other parallel sizes, which cannot be changed",
            f"saved with {saved}",
            f"use {saved}",
            "options.tensor_parallel_size",
        )
    ]


def _divides(facts: LanguageFacts, layout: Layout) -> list[Verdict]:
    found = []
    if facts.heads and facts.heads % layout.tensor:
        found.append(
            _fail(
                f"{facts.heads} attention heads cannot be split over {layout.tensor} GPUs",
                f"{facts.heads} mod {layout.tensor} = {facts.heads % layout.tensor}",
                f"use a tensor parallel size of {_divisors(facts.heads)}",
                "options.tensor_parallel_size",
            )
        )
    kv = facts.kv_heads or facts.heads
    if kv and kv % layout.tensor and layout.tensor % kv:
        found.append(
            _fail(
                f"{kv} key/value heads can neither be split over {layout.tensor} GPUs nor copied",
                f"{kv} and {layout.tensor}: neither divides the other",
                f"use a tensor parallel size of {_divisors(kv)}",
                "options.tensor_parallel_size",
            )
        )
    if facts.layers and layout.pipeline > facts.layers:
        found.append(
            _fail(
                f"{facts.layers} layers cannot be split into {layout.pipeline} stages",
                f"{facts.layers} < {layout.pipeline}",
                f"use a pipeline parallel size of at most {facts.layers}",
                "options.pipeline_parallel_size",
            )
        )
    return found


def _enough(layout: Layout, gpus: int) -> list[Verdict]:
    if layout.a_node <= gpus:
        return []
    return [
        _fail(
            f"{layout.a_node} GPUs are needed on each machine, and there are {gpus}",
            f"tensor {layout.tensor} × pipeline {layout.pipeline} over {layout.nodes} machine(s)",
            "use smaller parallel sizes or more machines",
            "options.tensor_parallel_size",
        )
    ]


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, min(number, 64) + 1) if number % n == 0)
