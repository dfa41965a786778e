"""The two TensorRT-LLM routes: versions, command lines, plans, and what is said before a start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backends.language import trtllm_argv, trtllm_llmapi_repository, trtllm_plan
from backends.language.trtllm_argv import Part
from backends.language.trtllm_catalog import catalog, flag_checks, numbers
from backends.language.trtllm_options import EngineOptions, LlmapiOptions
from backends.trtllm_engine import TrtllmEngineBackend
from backends.trtllm_llmapi import TrtllmLlmapiBackend
from console.checkpoints.model import (
    Checkpoint,
    EngineFacts,
    Format,
    LanguageFacts,
    Risk,
    Severity,
)
from console.facts import Gpu, Host, Level, ToolFacts, UsageError, Verdict
from console.planning.deployment import Deployment, VerifyCase
from console.planning.plan import (
    CommandStep,
    LoadStep,
    Plan,
    ServiceStep,
    TextAnswered,
    VerifyStep,
    WriteStep,
)
from console.planning.script import render
from tests import shell

CARD = 150_754_820_096  # an H200, as NVML tells it
ENGINE, LLMAPI = TrtllmEngineBackend(), TrtllmLlmapiBackend()
LLAMA = LanguageFacts(
    family="llama", layers=32, hidden_size=4096, intermediate_size=14336, heads=32, kv_heads=8,
    head_dim=128, vocabulary_size=128256, max_positions=8192, dtype="bf16",
    tokenizer="hugging-face",
)  # fmt: skip
VERSIONS = sorted(
    {image.tensorrt_llm for image in catalog().images.values()}, key=lambda v: (numbers(v), v)
)
FAMILIES = {
    "gpt": "gpt2",
    "llama": "llama",
    "mixtral": "mixtral",
    "gemma": "gemma",
    "falcon": "falcon",
}


def checkpoint(
    kind: Format = Format.HUGGING_FACE, facts: LanguageFacts = LLAMA, **more: Any
) -> Checkpoint:
    return Checkpoint(
        path=Path("/models/llama"), format=kind, title="a model", task="text-generation",
        language=facts, **more,
    )  # fmt: skip


def host(gpus: int = 1, capability: tuple[int, int] = (9, 0)) -> Host:
    return Host(
        hostname="box", system="Debian", kernel="6.1", machine="x86_64", glibc=(2, 36), cpus=8,
        memory_total=128 << 30, memory_available=100 << 30, shm_total=1 << 30, shm_free=1 << 30,
        python="3.11.7", gpu_note="" if gpus else "no NVIDIA driver on this host",
        gpus=tuple(
            Gpu(n, f"GPU-{n}", "NVIDIA H200", CARD, 0, compute_capability=capability)
            for n in range(gpus)
        ),
    )  # fmt: skip


def deployment(
    backend: str = "trtllm-engine",
    image: str = "26.07-trtllm-python-py3",
    verify: tuple[VerifyCase, ...] = (),
    launcher: str = "container",
    **options: Any,
) -> Deployment:
    return Deployment.model_validate(
        {
            "name": "llama",
            "backend": backend,
            "checkpoints": {"model": "/models/llama"},
            "options": options,
            "server": {"launcher": launcher, "image": image},
            "verify": verify,
        }
    )


def plan(given: Deployment | None = None, of: Checkpoint | None = None, gpus: int = 1) -> Plan:
    given = given or deployment()
    backend = ENGINE if given.backend == ENGINE.name else LLMAPI
    return backend.plan(given, {"model": of or checkpoint()}, host(gpus), ToolFacts())


def said(
    given: Deployment, of: Checkpoint | None = None, there: Host | None = None
) -> dict[str, Verdict]:
    backend = ENGINE if given.backend == ENGINE.name else LLMAPI
    found = backend.checks(given, {"model": of or checkpoint()}, there or host(8), ToolFacts())
    return {v.check: v for v in found if v.level is not Level.PASS}


def step(made: Plan, name: str) -> CommandStep:
    found = made.step(name)
    assert isinstance(found, CommandStep)
    return found


# ------------------------------------------------------------------------------- command lines


def value(call: trtllm_argv.Call, flag: str) -> str:
    return call.words[call.words.index(flag) + 1]


OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "tensor_parallel_size": {"tensor_parallel_size": 2},
    "pipeline_parallel_size": {"pipeline_parallel_size": 2},
    "experts": {"tensor_parallel_size": 4, "moe_tp_size": 2, "moe_ep_size": 2},
    "use_parallel_embedding": {"use_parallel_embedding": True},
    "workers": {"workers": 2},
    "float16": {"dtype": "float16"},
    "float32": {"dtype": "float32"},
    "int8": {"quantization": "int8"},
    "int4": {"quantization": "int4"},
    "smoothquant": {"quantization": "smoothquant", "smoothquant": 0.8},
    "fp8": {"quantization": "fp8", "kv_cache_dtype": "fp8", "calib_size": 64},
    "int4_awq": {"quantization": "int4_awq"},
    "w4a8_awq": {"quantization": "w4a8_awq"},
    "nvfp4": {"quantization": "nvfp4"},
    "int8 cache": {"kv_cache_dtype": "int8"},
    "calib_dataset": {"quantization": "smoothquant", "calib_dataset": "/data/samples"},
    "load_model_on_cpu": {"load_model_on_cpu": True},
    "max_seq_len": {"max_seq_len": 4096},
    "max_input_len": {"max_input_len": 100},
    "max_batch_size": {"max_batch_size": 64},
    "max_num_tokens": {"max_num_tokens": 1024},
    "max_beam_width": {"max_beam_width": 4},
    "tokens_per_block": {"tokens_per_block": 64},
    "no reuse": {"kv_cache_reuse": False, "chunked_context": False},
    "chunked_context": {"chunked_context": True},
    "gemm_plugin": {"gemm_plugin": "default"},
    "no gemm plugin": {"gemm_plugin": "disable"},
    "context_fmha": {"context_fmha": False},
    "fast_build": {"fast_build": True},
    "draft_tokens": {"draft_tokens": 8},
}
CALIBRATED = {"--smoothquant", "--int8_kv_cache", "--per_channel", "--per_token", "--calib_dataset"}
LACKS = {
    "gpt": {"--moe_tp_size", "--moe_ep_size"},
    "falcon": {"--moe_tp_size", "--moe_ep_size", "--load_model_on_cpu", *CALIBRATED},
}
"""What no version of a family's script has, and the check says."""
SINCE = {
    "--moe_tp_size": "0.10", "--moe_ep_size": "0.10", "--calib_dataset": "0.11", "nvfp4": "0.17",
    "--fast_build": "0.12", "--speculative_decoding_mode": "0.10", "--load_model_on_cpu": "0.12",
}  # fmt: skip
"""What older versions lack, and the check says."""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("option", OPTIONS)
def test_every_version_takes_the_words_that_are_planned_for_it(version: str, option: str) -> None:
    options = EngineOptions(**OPTIONS[option])
    for family, name in FAMILIES.items():
        model = checkpoint(facts=replace(LLAMA, family=name))
        draft = checkpoint() if option == "draft_tokens" else None
        older = {word for word, first in SINCE.items() if numbers(version) < numbers(first)}
        for call in trtllm_argv.calls(trtllm_plan.parts_of(options, model, draft), version):
            found = flag_checks(call.program, call.words, version, "")
            wrong = {verdict.summary.rpartition(" ")[2] for verdict in found}
            assert wrong <= older | LACKS.get(family, set()), (call.argv, wrong)


@pytest.mark.parametrize("version", ["0.9.0", "0.12.0", "1.2.1"])
def test_a_checkpoints_precision_is_named_where_auto_is_unknown(version: str) -> None:
    for dtype, wanted in (("bf16", "bfloat16"), ("fp32", "float16"), ("fp16", "float16")):
        part = Part(EngineOptions(), checkpoint(facts=replace(LLAMA, dtype=dtype)))
        convert, build = trtllm_argv.calls((part,), version)
        old = numbers(version) < (0, 15)
        assert value(convert, "--dtype") == (wanted if old else "auto")
        plugin = value(build, "--gpt_attention_plugin")
        assert plugin == (wanted if version == "0.9.0" else "auto")
        assert value(build, "--gemm_plugin") == plugin


def test_what_a_script_lacks_is_said() -> None:
    falcon = checkpoint(facts=replace(LLAMA, family="falcon"))
    found = said(deployment(quantization="smoothquant"), falcon)
    assert found["upstream-flags"].level is Level.FAIL
    assert "falcon" in found["upstream-flags"].summary


@pytest.mark.parametrize(
    ("version", "has", "lacks"),
    [
        ("0.9.0", "--max_output_len", "--max_seq_len"),
        ("0.10.0", "--tp_size", "--kv_cache_type"),
        ("0.12.0", "--max_seq_len", "--tp_size"),
        ("0.16.0", "--kv_cache_type", "--paged_kv_cache"),
        ("1.2.1", "--max_seq_len", "--max_output_len"),
    ],
)
def test_the_build_follows_the_versions_changes(version: str, has: str, lacks: str) -> None:
    call = trtllm_argv.build(Part(EngineOptions(max_seq_len=4096), checkpoint()), version)
    assert call is not None
    flags = set(call.words)
    assert has in flags and lacks not in flags


@pytest.mark.parametrize(
    ("version", "family", "script"),
    [
        ("0.19.0", "gpt", "/app/examples/gpt/convert_checkpoint.py"),
        ("1.0.0", "gpt", "/app/examples/models/core/gpt/convert_checkpoint.py"),
        ("1.2.1", "falcon", "/app/examples/models/contrib/falcon/convert_checkpoint.py"),
    ],
)
def test_scripts_stand_where_the_version_has_them(version: str, family: str, script: str) -> None:
    call = trtllm_argv.convert(Part(EngineOptions(family=family), checkpoint()), version)
    assert call is not None and call.argv[:2] == ("python3", script)


def test_gemma_has_flags_of_its_own() -> None:
    gemma = checkpoint(facts=replace(LLAMA, family="gemma"))
    call = trtllm_argv.convert(Part(EngineOptions(tensor_parallel_size=2), gemma), "1.2.1")
    assert call is not None
    assert value(call, "--ckpt-type") == "hf" and value(call, "--world-size") == "2"
    with pytest.raises(ValidationError, match="no pipeline parallelism"):
        EngineOptions(family="gemma", pipeline_parallel_size=2)


def test_a_mixture_takes_its_expert_sizes() -> None:
    mixtral = checkpoint(facts=replace(LLAMA, family="mixtral", experts=8))
    options = EngineOptions(tensor_parallel_size=4, moe_tp_size=2, moe_ep_size=2)
    call = trtllm_argv.convert(Part(options, mixtral), "1.2.1")
    assert call is not None and "/llama/" in call.argv[1]
    assert value(call, "--moe_tp_size") == value(call, "--moe_ep_size") == "2"
    with pytest.raises(ValidationError, match="must be tensor_parallel_size"):
        EngineOptions(tensor_parallel_size=4, moe_tp_size=2, moe_ep_size=4)


def test_a_nemo_file_goes_to_the_gpt_script() -> None:
    call = trtllm_argv.convert(Part(EngineOptions(), checkpoint(Format.NEMO)), "1.2.1")
    assert call is not None and call.program == "gpt"
    assert call.words[:2] == ("--nemo_ckpt_path", "/models/llama")


def test_the_gpt_script_is_told_the_variant_that_it_would_guess_from_a_path() -> None:
    for family, variant in (("gpt2", "gpt2"), ("gpt_bigcode", "starcoder")):
        model = checkpoint(facts=replace(LLAMA, family=family))
        call = trtllm_argv.convert(Part(EngineOptions(), model), "1.2.1")
        assert call is not None and value(call, "--gpt_variant") == variant
    nemotron = checkpoint(facts=replace(LLAMA, family="nemotron"))
    for version, wrong in (("0.11.0", ["--gpt_variant nemotron"]), ("1.2.1", [])):
        call = trtllm_argv.convert(Part(EngineOptions(), nemotron), version)
        assert call is not None
        found = flag_checks("gpt", call.words, version, "")
        assert [v.summary.partition("has no ")[2] for v in found] == wrong


@pytest.mark.parametrize(
    ("options", "fetches"),
    [
        ({}, False),
        ({"quantization": "int8"}, False),
        ({"quantization": "smoothquant"}, True),
        ({"quantization": "fp8"}, True),
        ({"kv_cache_dtype": "int8"}, True),
    ],
)
def test_a_conversion_may_fetch_its_samples_where_it_is_calibrated(
    options: dict[str, Any], fetches: bool
) -> None:
    env = step(plan(deployment(**options)), "convert").command.env
    assert ("HF_HUB_OFFLINE" not in env) is fetches


def test_a_nemo_file_is_calibrated_as_what_it_is() -> None:
    for family, decoder in (("llama", "llama"), ("gpt", "gptnext")):
        model = checkpoint(Format.NEMO, replace(LLAMA, family=family))
        call = trtllm_argv.convert(Part(EngineOptions(quantization="fp8"), model), "1.2.1")
        assert call is not None and call.program == "quantize"
        assert call.words[:2] == ("--nemo_ckpt_path", "/models/llama")
        assert value(call, "--decoder_type") == decoder


# ------------------------------------------------------------------------------- plans


def test_each_kind_of_checkpoint_enters_where_it_fits() -> None:
    kinds = {}
    for kind in (Format.HUGGING_FACE, Format.QNEMO, Format.TRTLLM_CHECKPOINT, Format.TRTLLM_ENGINE):
        given = deployment(tokenizer="/models/tokenizer")
        made = plan(given, checkpoint(kind))
        kinds[kind] = [s.id for s in made.steps if s.id in ("convert", "build")]
    assert kinds == {
        Format.HUGGING_FACE: ["convert", "build"],
        Format.QNEMO: ["build"],
        Format.TRTLLM_CHECKPOINT: ["build"],
        Format.TRTLLM_ENGINE: [],
    }


def test_the_engine_is_bound_to_versions_gpu_and_sizes_each_by_name() -> None:
    made = plan(deployment(tensor_parallel_size=2), gpus=2)
    place = step(made, "place")
    assert place.always and place.command.image == "server"
    asked = place.command.argv
    assert asked[asked.index("--expect") + 1] == "1.2.1"
    assert asked[asked.index("--sizes") + 1] == "tensor 2, pipeline 1"
    facts = {path.rpartition("/")[2] for path in place.outputs}
    assert facts == {
        "tensorrt-llm-version", "tensorrt-version", "gpu-architecture", "parallel-sizes",
    }  # fmt: skip
    assert set(place.outputs) <= {one.path for one in step(made, "build").inputs}


def test_a_server_of_several_ranks_is_one_mpirun_that_loads_by_itself() -> None:
    made = plan(deployment(tensor_parallel_size=2, pipeline_parallel_size=2), gpus=4)
    service = made.step("service")
    assert isinstance(service, ServiceStep)
    argv = service.service.process.argv
    assert argv[0] == "mpirun" and argv.count("-n") == 4
    assert argv.count("--load-model=llama_tensorrt_llm") == 3
    assert not any(isinstance(s, LoadStep) for s in made.steps)
    outputs = step(made, "build").outputs
    assert [f"${{work}}/engine/rank{rank}.engine" for rank in range(4)] == list(outputs[1:])


def test_the_server_sees_engine_and_tokenizer_and_can_write_neither() -> None:
    service = plan().step("service")
    assert isinstance(service, ServiceStep)
    container = service.service.process.container
    assert container is not None and container.gpus == "all"
    seen = {m.target: m.read_only for m in container.mounts}
    assert seen["${work}/engine"] and seen["/models/llama"] and all(seen.values())
    assert all(port.address == "127.0.0.1" for port in container.ports)


def test_the_engine_is_read_from_where_it_is_built() -> None:
    made = plan()
    repository = made.step("repository")
    assert isinstance(repository, WriteStep)
    texts = {f.path: f.text for f in repository.files if f.path.endswith("config.pbtxt")}
    engine = texts["${repository}/llama_tensorrt_llm/config.pbtxt"]
    assert 'string_value: "${work}/engine"' in engine
    assert not any("\\002" in text for text in texts.values())


def test_the_case_is_asked_by_generate_with_the_routes_own_names() -> None:
    case = VerifyCase(text="What is the color of a banana?", expect="yellow")
    for backend, key in (
        ("trtllm-engine", "max_tokens"),
        ("trtllm-llmapi", "sampling_param_max_tokens"),
    ):
        verify = plan(deployment(backend, verify=(case,))).steps[-1]
        assert isinstance(verify, VerifyStep)
        (probe,) = verify.success
        assert isinstance(probe, TextAnswered)
        assert (probe.path, probe.answer) == ("/v2/models/llama/generate", "text_output")
        assert key in probe.body and probe.body["text_input"] == case.text


def test_the_llm_api_takes_its_model_from_the_image_and_its_sizes_from_the_options() -> None:
    made = plan(deployment("trtllm-llmapi", tensor_parallel_size=2), gpus=2)
    place = step(made, "place").command
    assert place.image == "server"
    assert place.argv[-3:] == ("--copy", trtllm_plan.LLMAPI, "${repository}/llama/1")
    service = made.step("service")
    assert isinstance(service, ServiceStep) and service.service.process.argv[0] == "python3"
    text = trtllm_llmapi_repository.model_yaml(LlmapiOptions(tensor_parallel_size=2), checkpoint())
    assert '"tensor_parallel_size": 2' in text and '"decoupled": true' in text


@pytest.mark.parametrize("backend", ["trtllm-engine", "trtllm-llmapi"])
def test_a_server_that_cannot_have_it_becomes_the_container(backend: str) -> None:
    given = deployment(backend, launcher="embedded", image="")
    made = plan(given)
    assert made.images[0].reference.endswith(f":{catalog().engine_last}-trtllm-python-py3")
    assert ENGINE.seat(given.server, given.options).launcher == "container"
    other = Deployment.model_validate(
        given.model_dump(mode="json") | {"server": {"launcher": "attach", "url": "http://a:1"}}
    )
    assert said(other)["trtllm-server"].level is Level.FAIL
    with pytest.raises(UsageError, match="attached"):
        plan(other)


# ------------------------------------------------------------------------------- verdicts


def test_a_fitting_deployment_has_nothing_against_it() -> None:
    assert said(deployment()) == {}
    assert said(deployment("trtllm-llmapi")) == {}


@pytest.mark.parametrize(
    ("image", "check"),
    [
        ("24.10-trtllm-python-py3", "trtllm-examples"),
        ("26.09-trtllm-python-py3", "trtllm-engine-route"),
        ("registry/own:latest", "trtllm-version"),
    ],
)
def test_an_image_that_lacks_something_is_told(image: str, check: str) -> None:
    assert said(deployment(image=image))[check].fix


def test_the_llm_api_needs_a_version_that_has_it() -> None:
    found = said(deployment("trtllm-llmapi", image="25.05-trtllm-python-py3"))
    assert "1.0" in found["trtllm-llmapi-route"].summary


@pytest.mark.parametrize(
    ("quantisation", "capability", "refused"),
    [
        ("fp8", (8, 0), True), ("fp8", (8, 9), False), ("nvfp4", (9, 0), True),
        ("nvfp4", (10, 0), False), ("int8", (8, 0), False), ("none", (7, 0), True),
    ],
)  # fmt: skip
def test_a_quantisation_needs_its_gpus(
    quantisation: str, capability: tuple[int, int], refused: bool
) -> None:
    found = said(deployment(quantization=quantisation), there=host(1, capability))
    assert ("gpu-architecture" in found) is refused


@pytest.mark.parametrize(
    ("llm", "trt", "level"),
    [
        ("1.2.1", "10.14.1.48", None),
        ("0.16.0", "10.7.0.23", Level.FAIL),
        ("1.2.1", "", Level.UNKNOWN),
    ],
)
def test_an_engine_is_held_against_the_image(llm: str, trt: str, level: Level | None) -> None:
    built = checkpoint(Format.TRTLLM_ENGINE, engine=EngineFacts(llm, trt))
    found = said(deployment(), built)
    assert (found["engine-version"].level if "engine-version" in found else None) is level


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        (Format.QNEMO, "quantization", {"quantization": "int8"}),
        (Format.TRTLLM_ENGINE, "max_num_tokens", {"max_num_tokens": 100}),
        (Format.HUGGING_FACE, "load_model_on_cpu", {"load_model_on_cpu": True, "quantization": "fp8"}),
        (Format.HUGGING_FACE, "use_parallel_embedding", {"use_parallel_embedding": True, "family": "gemma"}),
        (Format.HUGGING_FACE, "calib_dataset", {"calib_dataset": "/data"}),
        (Format.HUGGING_FACE, "smoothquant", {"smoothquant": 0.8}),
        (Format.HUGGING_FACE, "draft_tokens", {"draft_tokens": 8}),
    ],
)  # fmt: skip
def test_an_option_that_reaches_no_program_is_told(
    kind: Format, name: str, options: dict[str, Any]
) -> None:
    found = ENGINE.checks(deployment(**options), {"model": checkpoint(kind)}, host(8), ToolFacts())
    (told,) = [v for v in found if v.option == f"options.{name}" and "does nothing" in v.summary]
    assert told.level is Level.WARN


def test_an_option_that_the_draft_models_programs_are_told_does_something() -> None:
    made = deployment(load_model_on_cpu=True, workers=2, quantization="int8")
    found = ENGINE.checks(
        made,
        {"model": checkpoint(Format.TRTLLM_ENGINE), "draft": checkpoint()},
        host(8),
        ToolFacts(),
    )
    assert [v.option for v in found if "does nothing" in v.summary] == ["options.quantization"]


def test_sizes_that_the_checkpoint_fixes_are_held() -> None:
    saved = checkpoint(Format.QNEMO, replace(LLAMA, tensor_parallel=2, parallel_fixed=True))
    assert said(deployment(tensor_parallel_size=4), saved)["parallelism-fixed"].level is Level.FAIL
    assert ENGINE.suggest({"model": saved}, host(8)).tensor_parallel_size == 2


def test_code_that_upstreams_scripts_would_run_unasked_is_stopped_until_it_is_trusted() -> None:
    risky = checkpoint(risks=(Risk("remote-code", Severity.WARN, "it brings code"),))
    assert said(deployment(), risky)["remote-code"].level is Level.FAIL
    assert said(deployment(trust_remote_code=True), risky)["remote-code"].level is Level.WARN
    assert "remote-code" not in said(deployment())


def test_a_checkpoint_without_a_tokenizer_needs_one() -> None:
    bare = checkpoint(facts=replace(LLAMA, tokenizer=""))
    assert said(deployment(), bare)["tokenizer"].option == "options.tokenizer"
    assert "tokenizer" not in said(deployment(tokenizer="/models/tokenizer"), bare)


def test_what_does_not_fit_is_said_with_the_gpus_that_would_do() -> None:
    large = replace(LLAMA, layers=80, hidden_size=8192, intermediate_size=28672, heads=64)
    found = said(deployment(), checkpoint(facts=large))
    assert "does not fit" in found["gpu-memory"].summary
    assert ENGINE.suggest({"model": checkpoint(facts=large)}, host(8)).tensor_parallel_size == 2
    assert said(deployment(), there=host(0))["gpu"].level is Level.FAIL


def test_what_lies_on_each_gpu_is_told_by_the_sizes_that_hold() -> None:
    saved = checkpoint(Format.QNEMO, replace(LLAMA, tensor_parallel=2, parallel_fixed=True))
    fixed = ENGINE.spread(deployment(), {"model": saved})
    chosen = LLMAPI.spread(
        deployment("trtllm-llmapi", tensor_parallel_size=4), {"model": checkpoint()}
    )
    assert fixed is not None and fixed.layout.tensor == 2
    assert chosen is not None and chosen.layout.tensor == 4
    assert chosen.need.weights < fixed.need.weights


# ------------------------------------------------------------------------------- scripts


@pytest.mark.parametrize("backend", ["trtllm-engine", "trtllm-llmapi"])
def test_the_script_of_a_plan_is_clean_shell(backend: str) -> None:
    shell.clean(render(plan(deployment(backend, tensor_parallel_size=2), gpus=2)))
