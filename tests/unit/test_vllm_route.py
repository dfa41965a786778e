"""The vLLM route: what it takes, what fits, and the command that it plans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.vllm import VllmBackend
from console.checkpoints.model import Checkpoint, Format, LanguageFacts, Risk, Severity
from console.facts import Gpu, Host, Level, ToolFacts, UsageError, Verdict
from console.planning.deployment import Deployment, VerifyCase
from console.planning.plan import ImageStep, Plan, ServiceStep, TextAnswered, VerifyStep
from console.planning.script import render

BACKEND = VllmBackend()
CARD = 150_754_820_096  # an H200, as NVML tells it
LLAMA_8B = LanguageFacts(
    family="llama", layers=32, hidden_size=4096, intermediate_size=14336, heads=32, kv_heads=8,
    head_dim=128, vocabulary_size=128256, max_positions=131072, dtype="bf16",
    tokenizer="hugging-face", chat_template=True,
)  # fmt: skip
LLAMA_70B = replace(LLAMA_8B, layers=80, hidden_size=8192, intermediate_size=28672, heads=64)


def checkpoint(facts: LanguageFacts | None = LLAMA_8B, **changes: Any) -> Checkpoint:
    given = {
        "path": Path("/models/llama"),
        "format": Format.HUGGING_FACE,
        "title": "Hugging Face model · LlamaForCausalLM",
        "task": "text-generation",
        "language": facts,
    }
    return Checkpoint(**(given | changes))


def host(gpus: int, used: int = 0) -> Host:
    return Host(
        hostname="box", system="Debian", kernel="6.1", machine="x86_64", glibc=(2, 36), cpus=8,
        memory_total=128 << 30, memory_available=100 << 30, shm_total=1 << 30, shm_free=1 << 30,
        python="3.11.7", gpu_note="" if gpus else "no NVIDIA driver on this host",
        gpus=tuple(Gpu(n, f"GPU-{n}", "NVIDIA H200", CARD, used) for n in range(gpus)),
    )  # fmt: skip


def deployment(
    *verify: VerifyCase, server: dict[str, Any] | None = None, **options: Any
) -> Deployment:
    return Deployment.model_validate(
        {
            "name": "llama",
            "backend": "vllm",
            "checkpoints": {"model": "/models/llama"},
            "options": options,
            "server": server or {},
            "verify": verify,
        }
    )


def plan(made: Deployment, found: Checkpoint | None = None, gpus: int = 1) -> Plan:
    return BACKEND.plan(made, {"model": found or checkpoint()}, host(gpus), ToolFacts())


def checks(made: Deployment, found: Checkpoint, gpus: int, used: int = 0) -> dict[str, Verdict]:
    verdicts = BACKEND.checks(made, {"model": found}, host(gpus, used), ToolFacts())
    return {verdict.check: verdict for verdict in verdicts}


def argv(made: Plan) -> tuple[str, ...]:
    step = next(step for step in made.steps if isinstance(step, ServiceStep))
    return step.service.process.argv


@pytest.mark.parametrize("kind", [Format.NEMO, Format.NEMO2, Format.MEGATRON])
def test_what_nemo_made_goes_through_nemos_script_of_a_generation_that_takes_it(
    kind: Format,
) -> None:
    found = checkpoint(format=kind)
    assert BACKEND.accepts({"model": found}).level is Level.PASS
    options = BACKEND.suggest({"model": found}, host(1)).model_dump()
    assert options["serve_as"] == "nemo"
    told = checks(deployment(**options), found, 1)
    assert "vllm-format" in told and told["vllm-format"].level is Level.PASS
    assert told["upstream-flags"].level is Level.PASS, told["upstream-flags"]
    refused = checks(deployment(), found, 1)["vllm-form"]
    assert refused.level is Level.FAIL and "serve_as = nemo" in refused.fix


def test_a_qnemo_is_refused_with_the_way_to_take() -> None:
    verdict = BACKEND.accepts({"model": checkpoint(format=Format.QNEMO)})
    assert verdict.level is Level.FAIL and "nemo-tensorrt-llm" in verdict.fix


def test_without_a_gpu_the_cpu_is_suggested_and_a_gpu_run_is_refused() -> None:
    assert BACKEND.suggest({"model": checkpoint()}, host(0)).model_dump()["device"] == "cpu"
    assert checks(deployment(), checkpoint(), 0)["gpu"].level is Level.FAIL


@pytest.mark.parametrize(("facts", "size"), [(LLAMA_8B, 1), (LLAMA_70B, 2)])
def test_the_fewest_gpus_that_the_model_fits_are_suggested(facts: LanguageFacts, size: int) -> None:
    options = BACKEND.suggest({"model": checkpoint(facts)}, host(4))
    assert options.model_dump()["tensor_parallel_size"] == size


def test_a_model_that_does_not_fit_is_refused_before_the_start() -> None:
    found = checks(deployment(), checkpoint(LLAMA_70B), 1)["gpu-memory"]
    assert found.level is Level.FAIL
    assert found.fix.startswith("use a tensor parallel size of 2")


CHANGES: dict[str, Any] = {
    "tensor_parallel_size": 2, "pipeline_parallel_size": 2, "place": "container",
    "image": "nvcr.io/nvidia/nemo:25.07", "generation": "ed-0.2", "vllm_port": 8100, "dtype": "float16",
    "quantization": "fp8", "max_model_len": 2048, "max_num_seqs": 8, "max_num_batched_tokens": 512,
    "gpu_memory_utilization": 0.5, "kv_cache_dtype": "fp8", "cpu_offload_gb": 2.0,
    "cpu_kvcache_space": 4, "enforce_eager": True, "moe_backend": "triton", "seed": 7, "load_format": "safetensors",
    "enable_lora": True, "max_lora_rank": 64, "trust_remote_code": True, "hf_token": "HF_TOKEN",
}  # fmt: skip


@pytest.mark.parametrize(
    ("serve_as", "option"),
    [
        (serve_as, option)
        for serve_as in ("openai", "triton", "nemo", "proxy", "cpu")
        for option in CHANGES
        # The images are for GPUs: the options refuse them.
        if (serve_as, option) != ("cpu", "place")
    ],
)
def test_an_option_changes_what_runs_or_is_told_to_do_nothing(serve_as: str, option: str) -> None:
    server = {"launcher": "container"} if serve_as == "triton" else {}
    usual = {"serve_as": serve_as} if serve_as != "cpu" else {"device": "cpu"}
    changed = {**usual, option: CHANGES[option]}
    before, after = (
        plan(deployment(server=server, **given)).model_dump(exclude={"notes"})
        for given in (usual, changed)
    )
    made = deployment(server=server, **changed)
    found = BACKEND.checks(made, {"model": checkpoint()}, host(2), ToolFacts())
    said = [v for v in found if v.option == f"options.{option}" and v.level is not Level.PASS]
    assert before != after or said
    assert sum("does nothing" in v.summary for v in said) <= 1


def test_a_sequence_that_the_cache_cannot_hold_is_refused() -> None:
    made = deployment(gpu_memory_utilization=0.13, max_model_len=131072)
    found = checks(made, checkpoint(), 1)["gpu-memory"]
    assert found.level is Level.FAIL and "does not fit the cache" in found.summary


def test_memory_that_others_use_is_missing() -> None:
    found = checks(deployment(), checkpoint(), 1, used=CARD // 2)["gpu-free"]
    assert found.level is Level.FAIL


def test_heads_that_cannot_be_split_are_refused() -> None:
    found = checks(deployment(tensor_parallel_size=3), checkpoint(), 4)["parallelism"]
    assert found.level is Level.FAIL


@pytest.mark.parametrize(
    ("experts", "kernels", "told"), [(0, "", False), (8, "", True), (8, "triton", False)]
)
def test_a_mixture_of_experts_is_said_to_start_slowly_unless_its_kernels_are_there(
    experts: int, kernels: str, told: bool
) -> None:
    found = checks(
        deployment(moe_backend=kernels), checkpoint(replace(LLAMA_8B, experts=experts)), gpus=8
    )
    assert ("experts-kernels" in found) is told


def test_code_of_the_checkpoint_is_off_and_told() -> None:
    risky = checkpoint(risks=(Risk("remote-code", Severity.DANGER, "runs its own code"),))
    assert checks(deployment(), risky, 1)["remote-code"].level is Level.WARN
    assert "--trust-remote-code" not in argv(plan(deployment(), risky))
    assert "--trust-remote-code" in argv(plan(deployment(trust_remote_code=True), risky))


def test_a_conversation_proves_the_model_where_there_is_a_template() -> None:
    case = VerifyCase(text="What is the color of a banana?", expect="yellow")
    verify = plan(deployment(case)).steps[-1]
    assert isinstance(verify, VerifyStep)
    (probe,) = verify.success
    assert isinstance(probe, TextAnswered)
    assert (probe.path, probe.equals) == ("/v1/chat/completions", "yellow")
    bare = checkpoint(replace(LLAMA_8B, chat_template=False))
    asked = plan(deployment(case), bare).steps[-1].success[0]
    assert isinstance(asked, TextAnswered) and asked.path == "/v1/completions"


@pytest.mark.parametrize(
    "case",
    [
        VerifyCase(input="sound.wav"),
        VerifyCase(text="Hi", fields={"lang": "en"}),
        VerifyCase(text="Hi", fields={"max_tokens": "many"}),
        VerifyCase(text="Hi", fields={"style": "generate"}),
    ],
)
def test_a_verify_case_of_another_kind_is_refused(case: VerifyCase) -> None:
    with pytest.raises(UsageError, match=r"verify\[0\]"):
        plan(deployment(case))


def test_in_a_container_it_is_published_on_loopback_and_reads_the_model_only() -> None:
    made = plan(deployment(place="container", server={"gpus": "0,1"}))
    step = next(step for step in made.steps if isinstance(step, ServiceStep))
    container = step.service.process.container
    assert container is not None and container.gpus == "0,1"
    assert [(port.host, port.address) for port in container.ports] == [
        ("${http_port}", "127.0.0.1")
    ]
    assert [(m.target, m.read_only) for m in container.mounts] == [("/models/llama", True)]
    assert any(isinstance(step, ImageStep) for step in made.steps)


def test_adapters_are_mounted_and_named() -> None:
    made = plan(deployment(place="container", enable_lora=True, lora_modules=("fr=/adapters/fr",)))
    step = next(step for step in made.steps if isinstance(step, ServiceStep))
    container = step.service.process.container
    assert container and "/adapters/fr" in {mount.source for mount in container.mounts}
    assert argv(made)[-2:] == ("--lora-modules", "fr=/adapters/fr")


def test_a_shape_without_a_tokenizer_is_started_and_not_asked() -> None:
    shape = checkpoint(replace(LLAMA_8B, tokenizer="", chat_template=False))
    made = plan(deployment(load_format="dummy"), shape)
    assert "--skip-tokenizer-init" in argv(made)
    assert not any(isinstance(step, VerifyStep) for step in made.steps)


def test_nothing_listens_beyond_loopback_and_nothing_is_reported_elsewhere() -> None:
    made = plan(deployment(device="cpu"), gpus=0)
    step = next(step for step in made.steps if isinstance(step, ServiceStep))
    assert "--host=127.0.0.1" in argv(made)
    assert step.service.process.env["VLLM_NO_USAGE_STATS"] == "1"
    assert step.service.kind == "openai"


def test_the_script_asks_the_same_question() -> None:
    case = VerifyCase(text="What is 3 plus 4?", expect="7")
    text = render(plan(deployment(case, device="cpu"), gpus=0))
    assert "vllm.entrypoints.openai.api_server" in text and "What is 3 plus 4?" in text
