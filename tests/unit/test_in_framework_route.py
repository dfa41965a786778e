"""The in-framework route: what it takes, its two forms, and what it says to upstream's scripts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backends.in_framework import TENSORS, InFrameworkBackend
from backends.language import in_framework_script as upstream
from backends.language.in_framework_options import InFrameworkOptions
from backends.upstream import generations, parsers
from console.checkpoints.model import Checkpoint, Format, HubRef
from console.facts import (
    Endpoint,
    Host,
    Level,
    ModelMetadata,
    TensorSpec,
    ToolFacts,
    UsageError,
    Verdict,
)
from console.planning.deployment import Deployment
from console.planning.plan import Plan, ServiceStep, TextAnswered, UrlReady, VerifyStep
from console.prompts import Style
from tests.unit.test_vllm_route import LLAMA_8B, LLAMA_70B, checkpoint, host
from tests.upstream import agreed

BACKEND = InFrameworkBackend()
ORDER = list(generations.catalog().generations)
MEGATRON = {"format": Format.MEGATRON, "title": "Megatron checkpoint"}
OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "tensor_parallel_size": {"tensor_parallel_size": 2},
    "pipeline_parallel_size": {"pipeline_parallel_size": 2},
    "context_parallel_size": {"context_parallel_size": 2},
    "expert_model_parallel_size": {"expert_model_parallel_size": 2},
    "expert_tensor_parallel_size": {"expert_tensor_parallel_size": 2},
    "sequence_parallel": {"sequence_parallel": True},
    "max_batch_size": {"max_batch_size": 4},
    "inference_max_seq_length": {"inference_max_seq_length": 2048},
    "micro_batch_size": {"micro_batch_size": 2},
    "first_stage": {"num_layers_in_first_pipeline_stage": 3},
    "last_stage": {"num_layers_in_last_pipeline_stage": 3},
    "embedding": {"account_for_embedding_in_pipeline_split": True},
    "loss": {"account_for_loss_in_pipeline_split": True},
    "enable_flash_decode": {"enable_flash_decode": True},
    "enable_cuda_graphs": {"enable_cuda_graphs": True},
    "model_type": {"model_type": "mamba"},
    "legacy_ckpt": {"legacy_ckpt": True},
    "legacy_model_format": {"legacy_model_format": True},
    "debug_mode": {"debug_mode": True},
}
HUGGING: dict[str, dict[str, Any]] = {
    "nothing": {},
    "bfloat16": {"dtype": "bfloat16"},
    "float32": {"dtype": "float32"},
    "no-map": {"device_map": ""},
    "balanced": {"device_map": "balanced"},
    "tp_plan": {"device_map": "", "tp_plan": "auto", "tensor_parallel_size": 2},
    "max_batch_size": {"max_batch_size": 4},
    "debug_mode": {"debug_mode": True},
    "trust_remote_code": {"trust_remote_code": True},
}


def having(route: str) -> list[str]:
    return [name for name in ORDER if generations.has(route, name)]


def of(generation: str) -> Checkpoint:
    """A checkpoint that this generation's script for NeMo and Megatron loads."""
    if ORDER.index(generation) <= ORDER.index("nemo-24.12"):
        return checkpoint(format=Format.NEMO, title="NeMo checkpoint")
    if ORDER.index(generation) <= ORDER.index("ed-0.3"):
        return checkpoint(format=Format.NEMO2, title="NeMo 2 checkpoint")
    return checkpoint(**MEGATRON)


def deployment(**options: Any) -> Deployment:
    return Deployment.model_validate(
        {
            "name": "llama",
            "backend": BACKEND.name,
            "checkpoints": {"model": "/models/llama"},
            "options": options,
        }
    )


def told(found: Checkpoint, here: Host | None = None, **options: Any) -> list[Verdict]:
    made = deployment(**options)
    return list(BACKEND.checks(made, {"model": found}, here or host(8), ToolFacts()))


def failing(found: list[Verdict]) -> dict[str, Verdict]:
    return {v.check: v for v in found if v.level is Level.FAIL}


def plan(found: Checkpoint, **options: Any) -> Plan:
    return BACKEND.plan(deployment(**options), {"model": found}, host(1), ToolFacts())


def service(made: Plan) -> ServiceStep:
    return next(step for step in made.steps if isinstance(step, ServiceStep))


# ---------------------------------------------------------------------------- command lines


def judged(found: Checkpoint, generation: str, options: dict[str, Any]) -> None:
    """Argparse says the same as the verdict."""
    given = {"form": "script", "generation": generation, **options}
    words = upstream.arguments("llama", InFrameworkOptions.model_validate(given), found, generation)
    parser = parsers.known(upstream.script_of(found), generation)
    assert parser
    said = failing(told(found, **given))
    agreed(parser, words, said)


@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "nothing"])
@pytest.mark.parametrize("kind", [Format.HUGGING_FACE, Format.MEGATRON])
def test_an_option_changes_what_runs_or_is_told_to_do_nothing(kind: Format, option: str) -> None:
    found = checkpoint(format=kind)
    ((name, value),) = OPTIONS[option].items()
    usual = {"form": "script"}
    before, after = (
        service(plan(found, **given)).service.process.argv
        for given in (usual, {**usual, name: value})
    )
    said = [v for v in told(found, **usual, **{name: value}) if v.option == f"options.{name}"]
    assert before != after or any(verdict.level is not Level.PASS for verdict in said)


@pytest.mark.parametrize("name", ["dtype", "device_map", "trust_remote_code"])
def test_an_option_for_hugging_face_is_told_to_do_nothing_for_megatron(name: str) -> None:
    value = {"dtype": "float16", "device_map": "balanced", "trust_remote_code": True}[name]
    found = told(checkpoint(**MEGATRON), form="script", **{name: value})
    said = [v.summary for v in found if v.option == f"options.{name}" and v.level is Level.WARN]
    assert len(said) == 1 and "does nothing" in said[0]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"image": "nvcr.io/nvidia/nemo:25.04"}, "image"),
        ({"generation": "ed-0.3"}, "generation"),
        ({"device": "cpu", "device_map": "balanced"}, "device_map"),
        ({"master_port": 29501}, "master_port"),
        ({"form": "script", "master_address": "node-0"}, "master_address"),
        ({"form": "script", "triton_port": 9000}, "triton_port"),
    ],
)
def test_an_option_of_the_other_form_is_told_to_do_nothing(
    options: dict[str, Any], name: str
) -> None:
    found = told(checkpoint(), **options)
    (said,) = [v for v in found if v.option == f"options.{name}"]
    assert said.level is Level.WARN and "does nothing" in said.summary


def test_a_precision_is_recommended_only_where_it_can_be_chosen() -> None:
    facts = replace(checkpoint().language, dtype="fp32")  # type: ignore[type-var]
    for found, recommended in (
        (checkpoint(language=facts), True),
        (checkpoint(**MEGATRON, language=facts), False),
    ):
        fixes = [v.fix for v in told(found, form="script")]
        assert ("set dtype = bfloat16" in fixes) is recommended


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("generation", having("in-framework"))
def test_words_for_nemo_and_megatron_are_accepted_or_a_verdict_says_so(
    generation: str, option: str
) -> None:
    judged(of(generation), generation, OPTIONS[option])


@pytest.mark.parametrize("option", HUGGING)
@pytest.mark.parametrize("generation", having("in-framework-hf"))
def test_words_for_hugging_face_are_accepted_or_a_verdict_says_so(
    generation: str, option: str
) -> None:
    judged(checkpoint(), generation, HUGGING[option])


@pytest.mark.parametrize(
    ("generation", "processes"),
    [("nemo-25.04", 1), ("ed-0.1", 4), ("ed-0.3", 4), ("ed-0.4", 4), ("ed-0.6", 4)],
)
def test_torchrun_starts_a_process_a_gpu_where_the_script_takes_none_itself(
    generation: str, processes: int
) -> None:
    found = of(generation)
    made = plan(
        found, form="script", generation=generation, tensor_parallel_size=2, pipeline_parallel_size=2
    )  # fmt: skip
    argv = service(made).service.process.argv
    if processes == 1:
        assert argv[0] == "python3" and "--num_gpus=4" in argv
    else:
        assert argv[:3] == ("torchrun", "--standalone", f"--nproc-per-node={processes}")


@pytest.mark.parametrize("generation", ["ed-0.1", "ed-0.2"])
def test_counts_are_given_together_where_one_alone_multiplies_nothing(generation: str) -> None:
    words = upstream.arguments(
        "llama", InFrameworkOptions(form="script"), of(generation), generation
    )
    assert {"--num_gpus=1", "--num_nodes=1"} <= set(words)


@pytest.mark.parametrize(("generation", "front"), [("nemo-25.04", False), ("ed-0.3", True)])
def test_the_front_is_waited_for_at_the_health_url_that_exists(
    generation: str, front: bool
) -> None:
    step = service(plan(of(generation), form="script", generation=generation))
    urls = [probe.url for probe in step.success if isinstance(probe, UrlReady)]
    assert urls[0].endswith("/v2/models/llama/ready")
    assert [url.rpartition("}")[2] for url in urls[1:]] == (["/v1/health"] if front else [])
    assert not any(url.endswith(":${http_port}/health") for url in urls)


def test_the_script_has_a_home_that_it_can_write_and_run_from() -> None:
    command = service(plan(of("ed-0.4"), form="script", generation="ed-0.4")).service.process
    assert command.container is not None
    written = {mount.target for mount in command.container.mounts if not mount.read_only}
    assert {command.env["HOME"], command.env["TMPDIR"]} == written and command.env["USER"]


def test_the_question_to_the_script_has_its_tensors() -> None:
    made = plan(of("ed-0.4"), form="script", generation="ed-0.4")
    verify = made.steps[-1]
    assert isinstance(verify, VerifyStep)
    probe = verify.success[0]
    assert isinstance(probe, TextAnswered)
    assert set(probe.body) == {"prompts", "max_length"} and probe.answer == "sentences"
    # Upstream's answer for a failure, with a status of 200.
    assert probe.never == "An error occurred:"


# ---------------------------------------------------------------------------- what it takes


@pytest.mark.parametrize("kind", [Format.QNEMO, Format.ONNX, Format.TRTLLM_ENGINE])
def test_what_pytorch_does_not_run_is_refused(kind: Format) -> None:
    assert BACKEND.accepts({"model": checkpoint(format=kind)}).level is Level.FAIL


@pytest.mark.parametrize(
    ("hub", "level"),
    [("hugging-face", Level.UNKNOWN), ("ngc", Level.UNKNOWN), ("nemo", Level.FAIL)],
)
def test_a_hub_id_is_not_known_until_it_is_fetched_and_nemos_lists_hold_no_text(
    hub: str, level: Level
) -> None:
    found = Checkpoint(
        path=Path("hub:x/y"), format=Format.HUB, title="a model", hub=HubRef(hub, "x/y")
    )
    assert BACKEND.accepts({"model": found}).level is level


@pytest.mark.parametrize(
    ("kind", "generation"),
    [(Format.NEMO, "ed-0.2"), (Format.NEMO2, "ed-0.4"), (Format.MEGATRON, "nemo-25.04")],
)
def test_a_format_that_a_generation_does_not_read_is_refused_with_the_one_that_does(
    kind: Format, generation: str
) -> None:
    found = failing(told(checkpoint(format=kind), form="script", generation=generation))
    assert found["in-framework-format"].fix.startswith("use ")


@pytest.mark.parametrize("kind", [Format.NEMO, Format.NEMO2, Format.MEGATRON])
def test_what_is_suggested_fits_the_format(kind: Format) -> None:
    found = checkpoint(format=kind)
    options = BACKEND.suggest({"model": found}, host(1)).model_dump()
    assert failing(told(found, **options)) == {}


def test_the_cpu_is_suggested_where_there_is_no_gpu() -> None:
    assert BACKEND.suggest({"model": checkpoint()}, host(0)).model_dump()["device"] == "cpu"


def test_the_worker_takes_hugging_face_folders_alone() -> None:
    assert failing(told(checkpoint(**MEGATRON)))["in-framework-form"].option == "options.form"


# ---------------------------------------------------------------------------- hints of the guide


def test_a_model_that_does_not_fit_is_told_before_the_start() -> None:
    found = failing(told(checkpoint(LLAMA_70B), host(1)))["gpu-memory"]
    assert "GiB allowed" in found.figure and found.fix


def test_32_bit_weights_on_a_gpu_are_told() -> None:
    said = [v for v in told(checkpoint(), dtype="float32") if v.option == "options.dtype"]
    assert [v.level for v in said] == [Level.WARN] and "bfloat16" in said[0].fix
    plain = checkpoint(replace(LLAMA_8B, dtype="fp32"))
    assert [v.option for v in told(plain) if v.option == "options.dtype"]
    assert not [v for v in told(checkpoint()) if v.option == "options.dtype"]


def test_a_sequence_longer_than_the_model_knows_is_told() -> None:
    found = told(of("ed-0.4"), form="script", generation="ed-0.4", inference_max_seq_length=200_000)
    said = [v for v in found if v.option == "options.inference_max_seq_length"]
    assert [v.level for v in said] == [Level.WARN] and "131072" in said[0].figure


def test_cuda_graphs_are_a_hint_where_the_script_has_them() -> None:
    found = {v.check: v for v in told(of("ed-0.4"), form="script", generation="ed-0.4")}
    assert found["cuda-graphs"].option == "options.enable_cuda_graphs"


@pytest.mark.parametrize(("generation", "runs"), [("ed-0.1", True), ("ed-0.4", False)])
def test_what_became_of_nemo_eval_is_said(generation: str, runs: bool) -> None:
    found = {v.check: v for v in told(of(generation), form="script", generation=generation)}
    assert ("would start the same" in found["nemo-eval"].summary) == runs
    assert "/v1/health" in found["nemo-eval"].fix + found["nemo-eval"].figure


# ---------------------------------------------------------------------------- our worker


def test_every_port_of_the_worker_is_chosen_and_on_loopback() -> None:
    step = service(plan(checkpoint(), device="cpu"))
    words = set(step.service.process.argv)
    assert {"--address=127.0.0.1", "--port=${http_port}", "--triton-port=${triton_port}"} <= words
    assert {"--grpc-port=${grpc_port}", "--metrics-port=${metrics_port}"} <= words
    assert step.service.process.env["HF_HUB_OFFLINE"] == "1"


def test_the_worker_is_labelled_as_ours() -> None:
    made = plan(checkpoint(), device="cpu")
    assert any("tritondeck's own worker" in note for note in made.notes)


def test_the_form_follows_the_server() -> None:
    model = ModelMetadata(
        "llama",
        ("1",),
        "python",
        (TensorSpec(TENSORS.prompt, "BYTES", (-1, 1)), TensorSpec("max_length", "INT64", (-1, 1))),
        (TensorSpec(TENSORS.text, "BYTES", (-1, 1)),),
    )
    front = BACKEND.prompts(Endpoint("http://x", "openai"), model)
    tensors = BACKEND.prompts(Endpoint("http://x"), model)
    asked = [form.request({"prompt": "Hi"}) for form in (front, tensors) if form]
    assert [(one.style, one.never) for one in asked] == [  # type: ignore[union-attr]
        (Style.CHAT, ""),  # the front tells an error by its status
        (Style.GENERATE, "An error occurred:"),
    ]
    assert BACKEND.prompts(Endpoint("http://x"), replace(model, inputs=())) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"form": "script", "device": "cpu"}, "need CUDA"),
        ({"tp_plan": "auto"}, "exclude each other"),
        ({"tp_plan": "auto", "device_map": ""}, "one process"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        InFrameworkOptions.model_validate(options)


def test_an_image_of_an_unknown_generation_is_asked_about() -> None:
    options = {"form": "script", "image": "registry.local/nemo:mine"}
    assert failing(told(checkpoint(), **options))["route-generation"].option == "options.generation"
    with pytest.raises(UsageError, match="does not tell its generation"):
        plan(checkpoint(), **options)
