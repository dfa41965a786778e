"""The NeMo TensorRT-LLM route: what it takes, what it refuses, and what it says to upstream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backends.language import nemo_trtllm_form, nemo_trtllm_words
from backends.language.nemo_trtllm_options import NemoTrtllmOptions
from backends.nemo_trtllm import NemoTrtllmBackend
from backends.upstream import generations, parsers, place, place_checks
from backends.workers import check_flags
from console.checkpoints.model import Checkpoint, Format
from console.facts import (
    DeckError,
    Endpoint,
    EnvironmentFacts,
    Gpu,
    Host,
    InferenceAnswer,
    Level,
    ModelMetadata,
    TensorAnswer,
    TensorSpec,
    ToolFacts,
    UsageError,
    Verdict,
)
from console.planning.deployment import Deployment, VerifyCase
from console.planning.plan import Inference, Plan, ServiceStep, VerifyStep
from tests.contract import samples
from tests.upstream import agreed, real, source

BACKEND = NemoTrtllmBackend()
MODEL = samples.nemo_language()
ORDER = list(generations.catalog().generations)
HAVING = [name for name in ORDER if generations.has("nemo-tensorrt-llm", name)]
FP8 = replace(MODEL, language=replace(MODEL.language, quantisation="fp8"))  # type: ignore[type-var]
TABLE = {"ptuning_nemo_checkpoint": ["/t.nemo"], "max_prompt_embedding_table_size": 100}
OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "model_type": {"model_type": "gptnext"},
    "model_version": {"model_version": 3},
    "tensor_parallel_size": {"tensor_parallel_size": 2},
    "pipeline_parallel_size": {"pipeline_parallel_size": 2},
    "float16": {"dtype": "float16"},
    "fp8": {"dtype": "fp8"},
    "int8": {"dtype": "int8"},
    "max_input_len": {"max_input_len": 100},
    "max_output_len": {"max_output_len": 20},
    "max_seq_len": {"max_seq_len": 100},
    "max_batch_size": {"max_batch_size": 4},
    "max_num_tokens": {"max_num_tokens": 1000},
    "opt_num_tokens": {"opt_num_tokens": 500},
    "table": TABLE,
    "tables": {**TABLE, "ptuning_nemo_checkpoint": ["/a", "/b"], "task_ids": ["task 1", "task 2"]},
    "max_prompt_embedding_table_size": {"max_prompt_embedding_table_size": 10},
    "lora_ckpt": {"lora_ckpt": ["/a", "/b"]},
    "use_lora_plugin": {"use_lora_plugin": "bfloat16"},
    "lora_target_modules": {
        "use_lora_plugin": "float16",
        "lora_target_modules": ["attn_q", "mlp_gate"],
    },
    "max_lora_rank": {"max_lora_rank": 32},
    "no_paged_kv_cache": {"no_paged_kv_cache": True},
    "disable_remove_input_padding": {"disable_remove_input_padding": True},
    "use_parallel_embedding": {"use_parallel_embedding": True},
    "multi_block_mode": {"multi_block_mode": True},
    "multiple_profiles": {"multiple_profiles": True},
    "gpt_attention_plugin": {"gpt_attention_plugin": "bfloat16"},
    "gemm_plugin": {"gemm_plugin": "float16"},
    "fp8-on": {"export_fp8_quantized": "true"},
    "fp8-off": {"export_fp8_quantized": "false"},
    "use_fp8_kv_cache": {"use_fp8_kv_cache": "true"},
    "use_cpp_runtime": {"use_cpp_runtime": True},
    "request_timeout": {"request_timeout": 5},
    "debug_mode": {"debug_mode": True},
}


def deployment(
    *verify: VerifyCase, environments: dict[str, Any] | None = None, **options: Any
) -> Deployment:
    return Deployment.model_validate(
        {
            "name": "llama",
            "backend": BACKEND.name,
            "checkpoints": {"model": str(MODEL.path)},
            "options": options,
            "environments": environments or {},
            "verify": verify,
        }
    )


def call(model: Checkpoint = MODEL, **options: Any) -> nemo_trtllm_words.Call:
    made = NemoTrtllmOptions.model_validate(options)
    generation = place.generation_of(made)
    return nemo_trtllm_words.Call(deployment(**options), made, model, generation)


def checks(
    model: Checkpoint = MODEL,
    host: Host = samples.GPU_HOST,
    tools: ToolFacts | None = None,
    **options: Any,
) -> list[Verdict]:
    found = BACKEND.checks(deployment(**options), {"model": model}, host, tools or ToolFacts())
    return list(found)


def failing(found: list[Verdict]) -> dict[str, Verdict]:
    return {v.check: v for v in found if v.level is Level.FAIL}


def gpus(*capabilities: tuple[int, int] | None) -> Host:
    cards = (
        Gpu(n, f"GPU-{n}", "a card", 80 << 30, 0, compute_capability=found)
        for n, found in enumerate(capabilities)
    )
    return replace(samples.GPU_HOST, gpus=tuple(cards))


def plan(*verify: VerifyCase, model: Checkpoint = MODEL, **options: Any) -> Plan:
    made = deployment(*verify, **options)
    return BACKEND.plan(made, {"model": model}, samples.GPU_HOST, ToolFacts())


def server(made: Plan) -> ServiceStep:
    return next(step for step in made.steps if isinstance(step, ServiceStep))


# ---------------------------------------------------------------------------- command lines


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("generation", HAVING)
@pytest.mark.parametrize("mode", ["serve", "export"])
def test_a_planned_command_line_is_accepted_or_a_verdict_says_so(
    mode: str, generation: str, option: str
) -> None:
    """Argparse itself judges the words, with the options that this generation's script has."""
    options = {"generation": generation, "mode": mode, "form": "script", **OPTIONS[option]}
    made = call(**options)
    parser = parsers.known(made.script, generation)
    told = failing(checks(host=gpus((9, 0), (9, 0)), **options))
    if parser is None:
        assert "upstream-flags" in told and mode == "export" and generation == "ed-0.4"
        return
    agreed(parser, made.argv(), told)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("generation", HAVING)
def test_the_classes_get_every_option_or_a_verdict_says_so(generation: str, option: str) -> None:
    given, lacking = call(generation=generation, form="api", **OPTIONS[option]).arguments()
    told = failing(
        checks(host=gpus((9, 0), (9, 0)), generation=generation, form="api", **OPTIONS[option])
    )
    assert bool(lacking) == ("upstream-flags" in told)
    plain, _ = call(generation=generation, form="api").arguments()
    changed = given != plain or option in ("nothing", "request_timeout", "debug_mode")
    assert changed or lacking, "an option that says nothing to anybody"


@pytest.mark.parametrize("generation", [name for name in ORDER if name not in HAVING])
def test_a_generation_without_the_route_is_refused_with_what_to_take(generation: str) -> None:
    told = failing(checks(generation=generation, image="nemo:x"))["route-generation"]
    assert "Export-Deploy 0.4" in told.figure and "vllm" in told.fix


def test_every_parameter_of_the_guide_stands_in_the_words_of_the_default_generation() -> None:
    made = call(
        **{**OPTIONS["tables"], **OPTIONS["lora_target_modules"]},
        lora_ckpt=["/l"], max_num_tokens=9, opt_num_tokens=9, max_lora_rank=8,
        no_paged_kv_cache=True, disable_remove_input_padding=True, use_parallel_embedding=True,
        export_fp8_quantized="true", use_fp8_kv_cache="false",
    )  # fmt: skip
    flags = {word for word in made.argv() if word.startswith("--")}
    guide = (
        "nemo_checkpoint model_type triton_model_name triton_model_version triton_port "
        "triton_http_address triton_model_repository tensor_parallelism_size "
        "pipeline_parallelism_size dtype max_input_len max_output_len max_batch_size max_num_tokens "
        "opt_num_tokens ptuning_nemo_checkpoint task_ids max_prompt_embedding_table_size lora_ckpt "
        "use_lora_plugin lora_target_modules max_lora_rank no_paged_kv_cache "
        "disable_remove_input_padding use_parallel_embedding export_fp8_quantized use_fp8_kv_cache"
    )
    assert flags == {f"--{name}" for name in guide.split()}
    real(parsers.known(made.script, made.generation)).parse_args(made.argv())  # type: ignore[arg-type]


def test_an_installed_script_counts_before_the_catalog(tmp_path: Path) -> None:
    options = {"place": "environment", "scripts_root": str(tmp_path)}
    made = deployment(**options)
    path = BACKEND.scripts(made)[0]
    parser = parsers.known("scripts/deploy/nlp/deploy_triton.py", "nemo-25.04")
    assert parser
    changed = source(parser).replace("'--dtype'", "'--precision'")
    told = failing(checks(tools=ToolFacts(sources={path: changed}), **options))["upstream-flags"]
    assert "--dtype" in told.summary and str(tmp_path) in told.source


# ---------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({**TABLE, "task_ids": ["a", "b"]}, "2 task_ids for 1 prompt tables"),
        ({"ptuning_nemo_checkpoint": ["/a"]}, "max_prompt_embedding_table_size"),
        ({"lora_target_modules": ["attn_q"]}, "use_lora_plugin"),
        ({"generation": "nemo-19.01"}, "known are auto, nemo-24.07"),
        (
            {**TABLE, "ptuning_nemo_checkpoint": ["/a", "/b"], "task_ids": ["x", "x"]},
            "same task id",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        NemoTrtllmOptions.model_validate(options)


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        *[("gpt", "gpt"), ("nemotron", "gpt"), ("llama", "llama"), ("mistral", "llama")],
        *[("mixtral", "mixtral"), ("gemma", "gemma"), ("starcoder2", "starcoder")],
        *[("falcon", "falcon"), ("gptnext", "gptnext")],
    ],
)
def test_the_model_type_comes_from_the_checkpoint(family: str, kind: str) -> None:
    assert MODEL.language
    model = replace(MODEL, language=replace(MODEL.language, family=family))
    assert nemo_trtllm_words.model_type(NemoTrtllmOptions(), model) == kind


def test_a_family_that_upstream_does_not_know_is_refused() -> None:
    assert MODEL.language
    model = replace(MODEL, language=replace(MODEL.language, family="mamba"))
    assert failing(checks(model))["model-type"].figure == "mamba"
    assert "model-type" not in failing(checks(model, model_type="llama"))


def test_the_generation_follows_the_images_tag_or_the_packages() -> None:
    assert call(generation="auto", image="nvcr.io/nvidia/nemo:24.09").generation == "nemo-24.09"
    facts = EnvironmentFacts("nemo-trtllm", Path("/p"), "3.12", {"nemo-export-deploy": "0.2.1"})
    options = NemoTrtllmOptions(generation="auto", place="environment")
    tools = ToolFacts(environments={"nemo-trtllm": facts})
    assert place.generation_of(options, tools) == "ed-0.2"


def test_a_generation_that_nothing_tells_is_said_to_be_a_guess() -> None:
    def told(**options: Any) -> list[Level]:
        found = checks(generation="auto", **options)
        return [v.level for v in found if v.option == "options.generation"]

    assert told(image="own/nemo:latest") == [Level.UNKNOWN]
    assert told(image="nvcr.io/nvidia/nemo:24.12") == told() == []
    # An image that is not run tells nothing of the environment that is.
    assert told(place="environment", image="nvcr.io/nvidia/nemo:24.12") == [Level.UNKNOWN]


def test_a_generation_that_is_not_the_images_is_refused() -> None:
    told = failing(checks(image="nvcr.io/nvidia/nemo:25.09"))["generation"]
    assert told.fix == "set generation = ed-0.2, or auto"


# ---------------------------------------------------------------------------- what it takes


@pytest.mark.parametrize("kind", [Format.HUGGING_FACE, Format.MEGATRON, Format.ONNX])
def test_other_checkpoints_are_refused_with_the_way_to_take(kind: Format) -> None:
    told = BACKEND.accepts({"model": replace(MODEL, format=kind)})
    assert told.level is Level.FAIL and told.fix


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("engine_folder", {"mode": "load", "engine_folder": "/data/engine"}),
        ("gemm_plugin", {"mode": "load", "gemm_plugin": "bfloat16"}),
        ("request_timeout", {"mode": "export", "request_timeout": 90}),
        ("debug_mode", {"form": "api", "debug_mode": True}),
        ("scripts_root", {"form": "api", "scripts_root": "/opt/NeMo"}),
        ("image", {"place": "environment", "image": "nvcr.io/nvidia/nemo:25.04"}),
    ],
)
def test_an_option_that_reaches_nothing_is_told(name: str, options: dict[str, Any]) -> None:
    loads = options.get("mode") == "load"
    model = replace(MODEL, format=Format.TRTLLM_ENGINE) if loads else MODEL
    (told,) = [v for v in checks(model, **options) if v.option == f"options.{name}"]
    assert told.level is Level.WARN and "does nothing" in told.summary


def test_a_qnemo_decides_its_parallel_sizes() -> None:
    made = samples.quantised()
    assert made.language
    two = replace(made, language=replace(made.language, tensor_parallel=2))
    assert (
        BACKEND.suggest({"model": two}, samples.GPU_HOST).model_dump()["tensor_parallel_size"] == 2
    )
    told = failing(checks(two, gpus((9, 0), (9, 0)), tensor_parallel_size=1))
    assert "saved with tensor 2" in told["parallelism"].figure


def test_an_engine_is_loaded_and_not_built_again() -> None:
    engine = replace(
        samples.quantised(), format=Format.TRTLLM_ENGINE, path=Path("/e/trtllm_engine")
    )
    assert BACKEND.suggest({"model": engine}, samples.GPU_HOST).model_dump()["mode"] == "load"
    assert "engine-mode" in failing(checks(engine, mode="serve"))
    argv = server(plan(model=engine, mode="load")).service.process.argv
    assert "--nemo_checkpoint" not in argv
    assert argv[argv.index("--triton_model_repository") + 1] == "/e"


@pytest.mark.parametrize(
    ("capability", "level"),
    [((8, 0), Level.FAIL), ((8, 9), Level.PASS), ((9, 0), Level.PASS), (None, Level.UNKNOWN)],
)
def test_a_checkpoint_trained_in_fp8_needs_ada_or_hopper(
    capability: tuple[int, int] | None, level: Level
) -> None:
    found = {v.check: v for v in checks(FP8, gpus(capability))}
    assert found["compute-capability"].level is level


def test_fp8_that_is_switched_off_needs_no_such_gpu() -> None:
    assert not [
        v
        for v in checks(FP8, gpus((8, 0)), export_fp8_quantized="false")
        if v.check == "compute-capability"
    ]
    assert "compute-capability" in failing(checks(host=gpus((8, 0)), use_fp8_kv_cache="true"))


def test_a_folder_with_files_of_others_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    options = {"engine_folder": str(folder)}
    assert "engine-folder" not in failing(checks(**options))
    folder.mkdir()
    assert "engine-folder" not in failing(checks(**options))
    (folder / "thesis.tex").write_text("")
    assert "engine-folder" in failing(checks(**options))
    assert place_checks.MARK == check_flags.MARK
    (folder / check_flags.MARK).write_text("")
    assert "engine-folder" not in failing(checks(**options))


def test_ports_that_cannot_be_bound_to_loopback_are_refused_outside_a_container() -> None:
    told = failing(checks(place="environment"))
    assert {"upstream-ports", "generation"} <= set(told)
    container = server(plan()).service.process.container
    assert container
    assert {port.address for port in container.ports} == {"127.0.0.1"}
    assert {port.container for port in container.ports} == {8000, 8001, 8002}


def test_an_image_without_tensorrt_llm_is_told() -> None:
    found = checks(generation="ed-0.1")
    assert any(v.check == "generation" and v.level is Level.WARN for v in found)


def test_a_token_goes_by_its_name_and_opens_the_hub() -> None:
    closed, opened = (server(plan(**o)).service.process for o in ({}, {"hf_token": "HF_TOKEN"}))
    assert closed.env["HF_HUB_OFFLINE"] == "1" and closed.secrets == ()
    assert "HF_HUB_OFFLINE" not in opened.env and opened.secrets == ("HF_TOKEN",)


# ---------------------------------------------------------------------------- requests


def verify(made: Plan) -> Inference:
    step = next(step for step in made.steps if isinstance(step, VerifyStep))
    (probe,) = step.success
    assert isinstance(probe, Inference)
    return probe


@pytest.mark.parametrize(
    ("generation", "flags"),
    [
        ("nemo-24.09", set()),
        ("nemo-24.12", {"output_generation_logits"}),
        ("nemo-25.02", {"output_generation_logits", "output_context_logits"}),
        ("ed-0.4", {"output_generation_logits", "output_context_logits"}),
    ],
)
def test_a_saved_request_has_the_tensors_of_its_generation(
    generation: str, flags: set[str]
) -> None:
    case = VerifyCase(text="What is the color of a banana?", expect="yellow")
    probe = verify(plan(case, generation=generation))
    assert {t.name for t in probe.inputs} == {"prompts", "max_output_len", "top_k"} | flags
    assert {t.shape for t in probe.inputs} == {(1, 1)}
    assert probe.expect[0].text == "yellow" and probe.expect[0].never == "An error occurred:"


@pytest.mark.parametrize(
    "case",
    [
        VerifyCase(input="sound.wav"),
        VerifyCase(text="Hi", fields={"style": "chat"}),
        VerifyCase(text="Hi", fields={"max_output_len": "257"}),
    ],
)
def test_a_verify_case_that_the_engine_cannot_answer_is_refused(case: VerifyCase) -> None:
    with pytest.raises(UsageError, match=r"verify\[0\]"):
        plan(case)


def served(*names: str) -> ModelMetadata:
    kinds = {"prompts": "BYTES", "lora_uids": "BYTES", "task_id": "BYTES", "top_p": "FP32"}
    kinds |= {"no_repeat_ngram_size": "FP32", "output_generation_logits": "BOOL"}
    inputs = tuple(TensorSpec(n, kinds.get(n, "INT64"), (-1, -1)) for n in names)
    return ModelMetadata("m", ("1",), "python", inputs, (TensorSpec("outputs", "BYTES", (-1, -1)),))


USUAL = ("prompts", "max_output_len", "no_repeat_ngram_size", "lora_uids")


def test_the_form_sends_what_the_model_declares_and_nothing_else() -> None:
    model = served(*USUAL, "max_output_len", "output_generation_logits")
    adapter = BACKEND.prompts(Endpoint("http://127.0.0.1:1"), model)
    assert adapter
    assert "task_id" not in {field.name for field in adapter.fields}
    asked = adapter.request(
        {"prompts": "Hi", "max_output_len": "5", "task_id": "x", "top_p": "0.5"}
    )
    assert isinstance(asked, nemo_trtllm_form.InferenceRequest)
    sent = {t.name: t.values for t in asked.inputs}
    assert sent == {
        "prompts": ("Hi",), "max_output_len": (5,), "output_generation_logits": (False,)
    }  # fmt: skip
    assert len(asked.inputs) == 3, "a name that is declared twice is sent once"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompts": " "}, "empty"),
        ({"prompts": "Hi", "max_output_len": "many"}, "max_output_len"),
        ({"prompts": "Hi", "max_output_len": "1.5"}, "max_output_len"),
        ({"prompts": "Hi", "max_output_len": "inf"}, "max_output_len"),
    ],
)
def test_a_field_that_is_wrong_is_named(values: dict[str, str], said: str) -> None:
    adapter = nemo_trtllm_form.form(served(*USUAL))
    assert adapter
    with pytest.raises(UsageError, match=said):
        adapter.request(values)


def test_an_error_that_comes_as_an_answer_is_an_error() -> None:
    adapter = nemo_trtllm_form.form(served(*USUAL))
    assert adapter
    answers = [
        InferenceAnswer("m", "1", (TensorAnswer("outputs", "BYTES", (1, 1), (text,)),), 0.1)
        for text in (" yellow\x1b[31m", "An error occurred: out of memory")
    ]
    assert adapter.answer(answers[0]).startswith(" yellow")
    assert "\x1b" not in adapter.answer(answers[0])
    with pytest.raises(DeckError, match="out of memory"):
        adapter.answer(answers[1])
