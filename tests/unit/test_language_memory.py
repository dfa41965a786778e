"""Memory of transformers and how they split, against published geometries and a real vLLM's log."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.checkpoints.model import LanguageFacts
from console.facts import Level
from console.planning.language_memory import (
    CACHE_SHARE,
    GIB,
    RESERVE,
    Layout,
    cache_tokens,
    checks,
    longest,
    need,
    ranks,
    sizes,
)

GPT2 = LanguageFacts(
    family="gpt2", layers=24, hidden_size=1024, intermediate_size=4096, heads=16, kv_heads=16,
    head_dim=64, vocabulary_size=50257, max_positions=1024, dtype="fp16", tied_embeddings=True,
)  # fmt: skip
LLAMA_8B = LanguageFacts(
    family="llama", layers=32, hidden_size=4096, intermediate_size=14336, heads=32, kv_heads=8,
    head_dim=128, vocabulary_size=128256, max_positions=131072, dtype="bf16",
)  # fmt: skip
LLAMA_70B = LanguageFacts(
    family="llama", layers=80, hidden_size=8192, intermediate_size=28672, heads=64, kv_heads=8,
    head_dim=128, vocabulary_size=128256, max_positions=131072, dtype="bf16",
)  # fmt: skip
MIXTRAL = LanguageFacts(
    family="mixtral", layers=32, hidden_size=4096, intermediate_size=14336, heads=32, kv_heads=8,
    head_dim=128, vocabulary_size=32000, max_positions=32768, dtype="bf16", experts=8,
    experts_per_token=2,
)  # fmt: skip
MODELS = {"gpt2": GPT2, "8b": LLAMA_8B, "70b": LLAMA_70B, "mixtral": MIXTRAL}


@pytest.mark.parametrize(
    ("model", "billions"), [("gpt2", 0.355), ("8b", 8.030), ("70b", 70.554), ("mixtral", 46.703)]
)
def test_parameters_follow_from_the_geometry(model: str, billions: float) -> None:
    assert sizes(MODELS[model]).total / 1e9 == pytest.approx(billions, rel=0.002)


@pytest.mark.parametrize(
    ("model", "dtype", "gib"),
    [
        *(("gpt2", d, g) for d, g in (("fp16", 0.66), ("fp8", 0.38), ("int4", 0.24))),
        *(("8b", d, g) for d, g in (("fp16", 14.96), ("fp8", 8.46), ("int4", 5.21))),
        *(("70b", d, g) for d, g in (("fp16", 131.4), ("fp8", 67.7), ("int4", 35.8))),
        *(("mixtral", d, g) for d, g in (("fp16", 87.0), ("fp8", 43.7), ("int4", 22.1))),
    ],
)
def test_weights_come_out_as_worked_by_hand(model: str, dtype: str, gib: float) -> None:
    assert need(MODELS[model], Layout(), weights=dtype).weights / GIB == pytest.approx(
        gib, rel=0.05
    )


@pytest.mark.parametrize(
    ("model", "cards", "size", "tokens"),
    [
        ("gpt2", 1, 24, 198_000),
        ("8b", 1, 24, 43_000),
        ("8b", 1, 80, 427_000),
        ("70b", 1, 80, 0),
        ("70b", 2, 80, 42_000),
        ("70b", 4, 80, 472_000),
        ("mixtral", 1, 80, 0),
        ("mixtral", 2, 80, 434_000),
    ],
)
def test_cached_tokens_that_fit_come_out_as_worked_by_hand(
    model: str, cards: int, size: int, tokens: int
) -> None:
    needed = need(MODELS[model], Layout(tensor=cards), weights="fp16", reserve=RESERVE)
    assert cache_tokens(needed, size * GIB, share=CACHE_SHARE) == pytest.approx(tokens, rel=0.05)


def test_what_vllm_logged_on_a_real_gpu_is_predicted() -> None:
    """Llama-3.1-8B in bf16 on one H200 with 0.35 of its memory: 14.99 GiB, 256,608 tokens."""
    needed = need(LLAMA_8B, Layout())
    assert needed.weights / GIB == pytest.approx(14.99, rel=0.02)
    assert needed.cache_a_token == 131_072
    tokens = cache_tokens(needed, int(139.8 * GIB), fraction=0.35)
    assert tokens == pytest.approx(256_608, rel=0.05)


def test_the_read_number_of_parameters_decides_over_the_geometry() -> None:
    assert need(LLAMA_8B, Layout(), counted=9_000_000_000).weights == 18_000_000_000


def test_the_longest_sequence_shares_the_cache_among_the_batch() -> None:
    needed = need(LLAMA_8B, Layout())
    assert longest(needed, 80 * GIB, 16) == cache_tokens(needed, 80 * GIB) // 16


def test_tensor_ranks_are_neighbours_and_nodes_are_filled_in_turn() -> None:
    found = ranks(Layout(tensor=4, pipeline=4, nodes=2))
    assert [(r.node, r.gpu, r.pipeline, r.tensor) for r in found[:9]] == [
        *((0, n, 0, n) for n in range(4)),
        *((0, 4 + n, 1, n) for n in range(4)),
        (1, 0, 2, 0),
    ]


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (Layout(tensor=3), "32 attention heads cannot be split over 3 GPUs"),
        (Layout(pipeline=40), "32 layers cannot be split into 40 stages"),
        (Layout(tensor=8, pipeline=2), "16 GPUs are needed on each machine, and there are 8"),
    ],
)
def test_an_impossible_layout_says_why(layout: Layout, said: str) -> None:
    found = checks(LLAMA_8B, layout, 8)
    assert said in [verdict.summary for verdict in found]
    assert all(verdict.level is Level.FAIL and verdict.fix for verdict in found)


def test_a_possible_layout_passes_over_two_machines() -> None:
    (found,) = checks(LLAMA_8B, Layout(tensor=8, pipeline=2, nodes=2), 8)
    assert found.level is Level.PASS


def test_saved_parallel_sizes_of_a_built_checkpoint_are_law() -> None:
    fixed = replace(LLAMA_8B, tensor_parallel=2, parallel_fixed=True)
    (found,) = checks(fixed, Layout(tensor=4), 8)
    assert found.fix == "use tensor 2, pipeline 1"
    assert checks(fixed, Layout(tensor=2), 8)[0].level is Level.PASS


@given(st.sampled_from(sorted(MODELS)), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4]))
def test_more_gpus_never_need_more_on_each(model: str, tensor: int, pipeline: int) -> None:
    one = need(MODELS[model], Layout())
    many = need(MODELS[model], Layout(tensor, pipeline))
    assert many.weights <= one.weights and many.cache_a_token <= one.cache_a_token
