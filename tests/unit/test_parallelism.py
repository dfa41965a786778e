"""How a model is spread over GPUs, for people: ranks, what each holds, what fits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.in_framework import InFrameworkBackend
from backends.nemo_trtllm import NemoTrtllmBackend
from backends.ray_serve import RayServeBackend
from backends.trtllm_engine import TrtllmEngineBackend
from backends.trtllm_llmapi import TrtllmLlmapiBackend
from backends.vllm import VllmBackend
from console.cli import main
from console.desk import plan as planning
from console.desk.desk import Desk
from console.facts import Level
from console.planning.language_memory import Layout
from console.planning.parallelism import ParallelismView, Spread, seen, view
from console.settings import load
from screens.widgets.parallelism import drawn
from tests.contract import samples
from tests.unit.test_vllm_route import (
    BACKEND,
    LLAMA_8B,
    LLAMA_70B,
    checkpoint,
    deployment,
    host,
)

GIB = 1 << 30
FACTS = Path(__file__).parents[2] / "examples" / "facts"


def spread(facts: Any = LLAMA_70B, **options: Any) -> Spread:
    found = BACKEND.spread(deployment(**options), {"model": checkpoint(facts)})
    assert found is not None
    return found


def shown(facts: Any = LLAMA_70B, gpus: int = 4, **options: Any) -> ParallelismView:
    def other(layout: Layout) -> Spread | None:
        sizes = {
            "tensor_parallel_size": layout.tensor,
            "pipeline_parallel_size": layout.pipeline,
        }
        return spread(facts, **(options | sizes))

    return view(spread(facts, **options), host(gpus).gpus, other)


def test_each_rank_lands_on_a_gpu_tensor_ranks_first() -> None:
    found = shown(tensor_parallel_size=2, pipeline_parallel_size=2)
    assert [(r.index, r.tensor, r.pipeline) for r in found.ranks] == [
        (0, 0, 0), (1, 1, 0), (2, 0, 1), (3, 1, 1),
    ]  # fmt: skip


def test_what_a_gpu_holds_is_the_worked_example_of_70_billion_parameters() -> None:
    """70.55 B × 2 B over two GPUs: 65.7 GiB; 160 KiB of cache a token on each."""
    found = shown(tensor_parallel_size=2)
    assert found.weights / GIB == pytest.approx(65.7, rel=0.05)
    assert found.cache_a_token == 2 * 80 * 4 * 128 * 2
    assert found.tokens == pytest.approx(
        (found.budget - found.weights - found.activations - found.context) / found.cache_a_token,
        rel=1e-6,
    )


def test_the_longest_sequence_shrinks_with_the_batch_and_ends_at_the_models_limit() -> None:
    found = shown(LLAMA_8B, gpus=1)
    lengths = {one.batch: one.length for one in found.batches}
    assert lengths[1] == 131072 and lengths[64] == found.tokens // 64 < lengths[8]


def test_the_layouts_that_are_possible_here_are_offered_with_what_they_hold() -> None:
    found = {(c.tensor, c.pipeline): c.tokens for c in shown(gpus=4).choices}
    assert found[1, 1] == 0 < found[2, 1] < found[4, 1]
    assert (8, 1) not in found, "there are four GPUs"
    assert shown(gpus=4, tensor_parallel_size=4).fits and not shown(gpus=4).fits


def test_heads_that_do_not_divide_are_told_with_the_way_out() -> None:
    found = shown(tensor_parallel_size=3)
    (wrong,) = [v for v in found.verdicts if v.level is Level.FAIL and "attention" in v.summary]
    assert "64 mod 3" in wrong.figure
    assert (
        "tensor 3" in drawn(found, short=True).plain
        and "impossible" in drawn(found, short=True).plain
    )


def test_key_value_heads_that_are_fewer_than_gpus_are_copied() -> None:
    assert "1 (copied) of 8 key/value heads" in shown(gpus=16, tensor_parallel_size=16).split


def test_what_the_checkpoint_fixes_is_said() -> None:
    facts = replace(LLAMA_70B, parallel_fixed=True, tensor_parallel=4, pipeline_parallel=1)
    found = shown(facts, tensor_parallel_size=2)
    assert found.fixed == "tensor 4, pipeline 1"
    assert any(
        v.level is Level.FAIL and "other parallel sizes" in v.summary for v in found.verdicts
    )


def test_gpus_that_are_not_here_are_not_invented() -> None:
    found = shown(gpus=1, tensor_parallel_size=2)
    assert [rank.index for rank in found.ranks] == [0, None]
    assert (found.budget, found.tokens, found.batches) == (0, 0, ())
    assert "there are 1" in drawn(found, short=False).plain


def test_ranks_on_other_machines_have_no_gpu_of_this_one() -> None:
    made = replace(spread(tensor_parallel_size=4), layout=Layout(4, 1, 2))
    found = view(made, host(2).gpus, lambda layout: None)
    assert [(r.node, r.gpu, r.index) for r in found.ranks] == [
        (0, 0, 0), (0, 1, 1), (1, 0, None), (1, 1, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "indices"), [("", [0, 1, 2]), ("all", [0, 1, 2]), ("2,0", [2, 0]), ("GPU-1,9", [1])]
)
def test_only_the_gpus_that_the_server_is_given_count(chosen: str, indices: list[int]) -> None:
    assert [gpu.index for gpu in seen(host(3).gpus, chosen)] == indices


@pytest.mark.parametrize(
    ("backend", "model"),
    [
        (VllmBackend(), checkpoint()),
        (InFrameworkBackend(), checkpoint()),
        (NemoTrtllmBackend(), samples.nemo_language()),
        (TrtllmEngineBackend(), checkpoint()),
        (TrtllmLlmapiBackend(), checkpoint()),
    ],
)
def test_every_route_with_parallel_sizes_tells_its_spread(backend: Any, model: Any) -> None:
    made = deployment().model_copy(update={"backend": backend.name})
    found = backend.spread(made, {"model": model})
    assert found is not None and found.layout.world == 1 and found.need.weights > 0


def test_the_ranks_of_a_ray_replica_lie_on_its_nodes() -> None:
    given = {"cluster": "head", "tensor_parallel_size": 4, "num_nodes": 2}
    found = RayServeBackend().spread(deployment(**given), {"model": checkpoint()})
    assert found and (found.layout.nodes, found.layout.a_node) == (2, 2)
    given["cluster"] = "existing"
    assert RayServeBackend().spread(deployment(**given), {"model": checkpoint()}) is None


def test_nothing_is_shown_on_a_cpu() -> None:
    assert BACKEND.spread(deployment(device="cpu"), {"model": checkpoint()}) is None


# ---------------------------------------------------------------------------- the desk and its verbs


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRITONDECK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(planning, "host", lambda: host(2))
    made = tmp_path / "facts.toml"
    made.write_text(
        'version = 1\nname = "facts"\nbackend = "vllm"\n'
        f'[checkpoints]\nmodel = "{FACTS}"\n[options]\ntensor_parallel_size = 2\n'
    )
    return made


def test_the_desk_reads_the_checkpoint_and_asks_no_server(file: Path) -> None:
    desk = Desk(load())
    found = desk.parallelism(desk.open(str(file)))
    assert found is not None and [rank.index for rank in found.ranks] == [0, 1]
    assert found.split.startswith("2 of 4 heads") and found.fits


@pytest.mark.parametrize(
    ("backend", "chosen", "left"),
    [
        ("trtllm-engine", {"family": "gemma"}, {(1, 1), (2, 1)}),
        (
            "in-framework",
            {"form": "script", "num_nodes": 2, "master_address": "a", "tensor_parallel_size": 2},
            {(2, 1), (1, 2)},
        ),
    ],
)
def test_sizes_that_the_options_refuse_are_no_choice(
    file: Path, backend: str, chosen: dict[str, Any], left: set[tuple[int, int]]
) -> None:
    desk = Desk(load())
    made = desk.open(str(file)).model_copy(update={"backend": backend, "options": chosen})
    found = desk.parallelism(made)
    assert found is not None
    assert {(one.tensor, one.pipeline) for one in found.choices} == left


def test_a_route_without_parallel_sizes_has_nothing_to_show(file: Path) -> None:
    desk = Desk(load())
    made = desk.open(str(file)).model_copy(update={"backend": "onnx", "options": {}})
    assert desk.parallelism(made) is None


def test_plan_tells_it_to_people_and_as_json(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(file)]) == 0
    assert "parallelism: tensor 2 × pipeline 1 on 1 machine(s), 2 GPU(s) here" in (
        capsys.readouterr().out
    )
    assert main(["plan", "--json", str(file)]) == 0
    told = json.loads(capsys.readouterr().out)["parallelism"]
    assert [rank["index"] for rank in told["ranks"]] == [0, 1] and told["tokens"] > 0


def test_check_tells_it_and_leaves_a_checkpoint_that_is_gone_to_the_report(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", str(file)])
    assert "parallelism: tensor 2" in capsys.readouterr().out
    file.write_text(file.read_text().replace(str(FACTS), "/nowhere/model"))
    assert main(["check", str(file)]) == 3
    assert "parallelism" not in capsys.readouterr().out
