"""The multimodal route: what it takes, what it refuses, and what it says to upstream."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backends import registry
from backends.multimodal import words
from backends.multimodal.kinds import KINDS
from backends.multimodal.options import MultimodalOptions
from backends.nemo_multimodal import NemoMultimodalBackend
from backends.upstream import generations, mm_api, parsers, place
from console import cli
from console.checkpoints.model import Checkpoint, Format
from console.facts import Gpu, Host, Level, ToolFacts, UsageError, Verdict
from console.planning.deployment import Deployment, VerifyCase, loads
from console.planning.plan import CommandStep, Inference, Plan, ServiceStep, VerifyStep
from console.planning.variables import expand
from tests.contract import samples
from tests.upstream import agreed, source

BACKEND = NemoMultimodalBackend()
ORDER = list(generations.catalog().generations)
HAVING = [name for name in ORDER if generations.has("nemo-multimodal", name)]
NEVA, SALM = samples.multimodal(), samples.salm()
LANGUAGE = samples.nemo_language(path=Path("/models/llama.nemo"))
ENCODED = "openai/clip-vit-large-patch14-336"
OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    **{f"type {kind}": {"model_type": kind} for kind in KINDS if kind != "salm"},
    "llm_model_type": {"llm_model_type": "gptnext"},
    "modality": {"modality": "vision"},
    "model_version": {"model_version": 3},
    "num_gpus": {"num_gpus": 2},
    "dtype": {"dtype": "float16"},
    "max_input_len": {"max_input_len": 5000},
    "max_output_len": {"max_output_len": 20},
    "max_batch_size": {"max_batch_size": 4},
    "max_multimodal_len": {"max_multimodal_len": 1000},
    "vision_max_batch_size": {"vision_max_batch_size": 16},
    "lora_checkpoint_path": {"lora_checkpoint_path": "/l"},
    "use_lora_plugin": {"use_lora_plugin": "bfloat16"},
    "lora_target_modules": {
        "use_lora_plugin": "float16",
        "lora_target_modules": ["attn_q", "mlp_gate"],
    },
    "max_lora_rank": {"max_lora_rank": 32},
}


def deployment(*verify: VerifyCase, **options: Any) -> Deployment:
    return Deployment.model_validate(
        {
            "name": "neva",
            "backend": BACKEND.name,
            "checkpoints": {"model": str(NEVA.path)},
            "options": options,
            "verify": verify,
        }
    )


def call(model: Checkpoint = NEVA, language: Checkpoint | None = None, **given: Any) -> words.Call:
    made = MultimodalOptions.model_validate(given)
    return words.Call(deployment(**given), made, model, place.generation_of(made), language)


def checks(
    model: Checkpoint = NEVA,
    language: Checkpoint | None = None,
    host: Host = samples.GPU_HOST,
    tools: ToolFacts | None = None,
    **options: Any,
) -> list[Verdict]:
    found = {"model": model} | ({"language": language} if language else {})
    return list(BACKEND.checks(deployment(**options), found, host, tools or ToolFacts()))


def failing(found: list[Verdict]) -> dict[str, Verdict]:
    return {v.check: v for v in found if v.level is Level.FAIL}


def gpus(*capabilities: tuple[int, int] | None) -> Host:
    cards = (
        Gpu(n, f"GPU-{n}", "a card", 80 << 30, 0, compute_capability=found)
        for n, found in enumerate(capabilities)
    )
    return replace(samples.GPU_HOST, gpus=tuple(cards))


def plan(
    *verify: VerifyCase,
    model: Checkpoint = NEVA,
    language: Checkpoint | None = None,
    **options: Any,
) -> Plan:
    found = {"model": model} | ({"language": language} if language else {})
    return BACKEND.plan(deployment(*verify, **options), found, samples.GPU_HOST, ToolFacts())


def server(made: Plan) -> ServiceStep:
    return next(step for step in made.steps if isinstance(step, ServiceStep))


def given(argv: tuple[str, ...] | list[str], flag: str) -> str:
    return argv[list(argv).index(flag) + 1]


# ---------------------------------------------------------------------------- command lines


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("generation", HAVING)
@pytest.mark.parametrize("mode", ["serve", "export_mm_to_trtllm"])
def test_a_planned_command_line_is_accepted_or_a_verdict_says_so(
    mode: str, generation: str, option: str
) -> None:
    """Argparse itself judges the words, with the options that this generation's script has."""
    way = {"mode": "serve"} if mode == "serve" else {"mode": "export", "export_with": mode}
    options = {"generation": generation, "form": "script", **way, **OPTIONS[option]}
    made = call(**options)
    parser = parsers.known(made.script, generation)
    told = failing(checks(host=gpus((9, 0), (9, 0)), **options))
    if parser is None:
        assert "upstream-flags" in told and generation in ("nemo-24.07", "ed-0.4")
        return
    agreed(parser, made.argv(), told, {"model-type"})


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("generation", HAVING)
@pytest.mark.parametrize("form", ["api", "neva_export"])
def test_classes_and_hydra_keys_get_every_option_or_a_verdict_says_so(
    form: str, generation: str, option: str
) -> None:
    hydra = {"mode": "export", "export_with": form}
    way = {"form": "api"} if form == "api" else hydra
    told = failing(
        checks(host=gpus((9, 0), (9, 0)), generation=generation, **way, **OPTIONS[option])
    )
    made = call(generation=generation, **way, **OPTIONS[option])
    plain = call(generation=generation, **way)
    if form == "api":
        (said, lacking), (before, _) = made.arguments(), plain.arguments()
        changed = said != before
    else:
        _, lacking = mm_api.split("hydra", words.overrides(made), generation)
        changed = made.argv() != plain.argv()
        if generation.startswith("ed-"):
            assert not made.script or "upstream-flags" in told
            return
    assert bool(lacking) == ("upstream-flags" in told)
    silent = ("nothing", "modality", "type neva", *(("model_version",) if form != "api" else ()))
    assert changed or lacking or option in silent, "an option that says nothing to anybody"


@pytest.mark.parametrize("generation", [name for name in ORDER if name not in HAVING])
def test_a_generation_without_the_route_is_refused_with_what_to_take(generation: str) -> None:
    told = failing(checks(generation=generation, image="nemo:x"))["route-generation"]
    assert "Export-Deploy 0.4" in told.figure and "vllm" in told.fix


@pytest.mark.parametrize("generation", [name for name in ORDER if name.startswith("ed-")])
def test_salm_ends_with_the_scripts_of_nemo(generation: str) -> None:
    told = failing(checks(SALM, generation=generation, image="nemo:x"))["route-generation"]
    assert "25.07" in told.figure and "without its sound inputs" in told.summary


def test_every_parameter_of_the_guide_stands_in_the_words_of_the_default_generation() -> None:
    argv = call(language=LANGUAGE, vision_max_batch_size=8).argv()
    guide = (
        "modality visual_checkpoint llm_checkpoint model_type llm_model_type triton_model_name "
        "triton_model_version triton_port triton_http_address triton_model_repository num_gpus dtype "
        "max_input_len max_output_len max_batch_size max_multimodal_len vision_max_batch_size"
    )
    assert {word for word in argv if word.startswith("--")} == {f"--{n}" for n in guide.split()}
    assert given(argv, "--visual_checkpoint") != given(argv, "--llm_checkpoint")


def test_an_installed_script_counts_before_the_catalog(tmp_path: Path) -> None:
    options = {"place": "environment", "scripts_root": str(tmp_path)}
    path = BACKEND.scripts(deployment(**options))[0]
    parser = parsers.known("scripts/deploy/multimodal/deploy_triton.py", "nemo-25.04")
    assert parser
    changed = source(parser).replace("'--max_multimodal_len'", "'--max_media_len'")
    told = failing(checks(tools=ToolFacts(sources={path: changed}), **options))["upstream-flags"]
    assert "--max_multimodal_len" in told.summary and str(tmp_path) in told.source


# ---------------------------------------------------------------------------- the table of the guide


@pytest.mark.parametrize(
    ("kind", "modality", "batch"),
    [
        *[("neva", "vision", 1), ("video-neva", "vision", 1), ("lita", "vision", 256)],
        *[("vila", "vision", 1), ("vita", "vision", 256), ("salm", "audio", 1)],
    ],
)
def test_modality_and_encoder_batch_follow_the_model_type(
    kind: str, modality: str, batch: int
) -> None:
    made = call(samples.perception() if kind == "salm" else samples.multimodal(kind), LANGUAGE)
    argv = made.argv()
    assert given(argv, "--model_type") == kind
    assert given(argv, "--modality") == modality
    assert given(argv, "--vision_max_batch_size") == str(batch)


def test_a_suggestion_names_the_model_type_so_that_the_form_knows_it() -> None:
    for kind in ("neva", "vita", "video-neva"):
        made = BACKEND.suggest({"model": samples.multimodal(kind)}, samples.HOST)
        assert made.model_dump()["model_type"] == kind
    assert BACKEND.suggest({"model": SALM}, samples.HOST).model_dump()["model_type"] == "salm"


def test_a_model_type_that_a_generation_lacks_is_refused() -> None:
    told = failing(checks(samples.multimodal("vita"), generation="nemo-24.07"))["model-type"]
    assert told.figure == "it has neva, video-neva"
    told = failing(checks(samples.multimodal("vita"), generation="nemo-24.07", form="api"))
    assert "model-type" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model_type": "salm", "modality": "vision"}, "salm has the modality audio"),
        ({"lora_target_modules": ["attn_q"]}, "use_lora_plugin"),
        ({"generation": "nemo-19.01"}, "known are auto, nemo-24.07"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MultimodalOptions.model_validate(options)


def test_a_modality_that_is_not_the_checkpoints_is_refused() -> None:
    told = failing(checks(modality="audio"))["model-type"]
    assert told.summary == "NeVA has the modality vision"


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"mm_cfg": {"llm": {"model_type": "nvgpt"}}}, "gptnext"),
        ({"mm_cfg": {"llm": {"model_type": "mixtral"}}}, "mixtral"),
        ({"mm_cfg": {}, "normalization": "rmsnorm", "activation": "fast-swiglu"}, "llama"),
        ({"mm_cfg": {}}, "llama"),
    ],
)
def test_the_language_models_type_comes_from_the_checkpoint(
    config: dict[str, Any], kind: str
) -> None:
    assert words.llm_type(call(samples.multimodal(**config))) == kind


def test_small_video_batches_and_long_pictures_are_told() -> None:
    found = {v.check: v for v in checks(samples.multimodal("lita"), vision_max_batch_size=1)}
    assert found["vision-batch"].level is Level.WARN and "256" in found["vision-batch"].fix
    found = {v.check: v for v in checks(max_input_len=100)}
    assert found["multimodal-length"].figure == "3072 of 100 tokens"


# ---------------------------------------------------------------------------- checkpoints


def test_a_language_checkpoint_of_its_own_is_the_one_that_is_built() -> None:
    argv = call(language=LANGUAGE).argv()
    assert expand(given(argv, "--llm_checkpoint"), {}) == str(LANGUAGE.path)


def test_early_generations_need_the_language_model_of_video_neva_named() -> None:
    model = samples.multimodal("video-neva")
    argv = call(model, generation="nemo-24.07").argv()
    assert given(argv, "--llm_checkpoint") == given(argv, "--visual_checkpoint")
    assert "--llm_checkpoint" not in call(model, generation="nemo-24.12").argv()


def test_a_language_checkpoint_that_upstream_would_ignore_is_refused() -> None:
    told = failing(checks(language=LANGUAGE, generation="nemo-24.09"))["language-checkpoint"]
    assert "whatever else is named" in told.summary
    assert "language-checkpoint" not in failing(checks(language=LANGUAGE, generation="nemo-24.12"))
    assert "language-checkpoint" in failing(checks(language=NEVA))


def test_a_perception_model_alone_needs_its_language_model() -> None:
    told = failing(checks(samples.perception()))
    assert "language-checkpoint" in told
    assert "language-checkpoint" not in failing(checks(samples.perception(), LANGUAGE))


@pytest.mark.parametrize("kind", ["language", "ctc-bpe", "graph", "nemo-language"])
def test_other_checkpoints_are_refused_with_the_way_to_take(kind: str) -> None:
    told = BACKEND.accepts({"model": samples.ALL[kind]})
    assert told.level is Level.FAIL and told.fix
    assert "vllm" in BACKEND.accepts({"model": samples.language()}).fix


def test_an_exported_folder_is_loaded_and_not_built_again() -> None:
    engines = replace(samples.multimodal_engines(), path=Path("/e"))
    made = BACKEND.suggest({"model": engines}, samples.GPU_HOST).model_dump()
    assert (made["mode"], made["num_gpus"]) == ("load", 1)
    assert "engine-mode" in failing(checks(engines, mode="serve"))
    assert "engine-mode" in failing(checks(mode="load"))
    argv = server(plan(model=engines, **made)).service.process.argv
    assert "--visual_checkpoint" not in argv
    assert given(argv, "--triton_model_repository") == "/e"


@pytest.mark.parametrize(
    ("options", "level"),
    [({}, Level.FAIL), ({"hub_access": True}, Level.WARN), ({"hf_cache": "/cache"}, Level.PASS)],
)
def test_the_vision_encoder_comes_from_hugging_face_only_when_it_may(
    options: dict[str, Any], level: Level
) -> None:
    model = samples.multimodal(mm_cfg={"vision_encoder": {"from_pretrained": ENCODED}})
    found = {v.check: v for v in checks(model, **options)}["vision-encoder"]
    assert (found.level, found.figure) == (level, ENCODED)
    process = server(plan(model=model, **options)).service.process
    assert ("HF_HUB_OFFLINE" in process.env) == ("hub_access" not in options)
    assert process.env.get("HF_HOME", "") == options.get("hf_cache", "")


def test_a_vision_encoder_on_this_disk_is_mounted(tmp_path: Path) -> None:
    model = samples.multimodal(mm_cfg={"vision_encoder": {"from_pretrained": str(tmp_path)}})
    container = server(plan(model=model)).service.process.container
    assert container and str(tmp_path) in {mount.source for mount in container.mounts}
    assert "vision-encoder" not in failing(checks(model))
    gone = samples.multimodal(mm_cfg={"vision_encoder": {"from_pretrained": "/no/such"}})
    assert "vision-encoder" in failing(checks(gone))


def test_an_adapter_is_a_folder_in_late_generations(tmp_path: Path) -> None:
    file = tmp_path / "lora.nemo"
    file.write_text("")
    for generation, refused in (("nemo-25.04", False), ("nemo-25.07", True), ("ed-0.2", True)):
        told = failing(checks(generation=generation, lora_checkpoint_path=str(file)))
        assert ("lora" in told) is refused


# ---------------------------------------------------------------------------- SALM


def test_a_whole_salm_model_is_taken_apart_and_its_lora_merged_first() -> None:
    made = plan(model=replace(SALM, path=Path("/m/speech.v2.nemo")))
    assert [step.id for step in made.steps] == [
        "image-nemo", "workers", "flags", "separate", "merge", "media-0", "service", "verify"
    ]  # fmt: skip
    merge = made.step("merge")
    assert isinstance(merge, CommandStep)
    assert 'lora_model_path="${work}/salm/speech_lora.nemo"' in merge.command.argv
    argv = server(made).service.process.argv
    assert given(argv, "--visual_checkpoint") == "${work}/salm/speech_perception"
    assert given(argv, "--llm_checkpoint") == "${work}/salm/merged.nemo"
    assert given(argv, "--modality") == "audio"


def test_a_lora_is_merged_only_where_there_is_one_and_it_is_wanted() -> None:
    plain = replace(SALM, config={})
    assert "merge" not in {step.id for step in plan(model=plain).steps}
    assert "merge" not in {step.id for step in plan(model=SALM, lora_merge="never").steps}
    made = plan(model=samples.perception(), language=LANGUAGE, lora_file="/lora.nemo")
    assert "separate" not in {step.id for step in made.steps}
    merge = made.step("merge")
    assert isinstance(merge, CommandStep) and 'lora_model_path="/lora.nemo"' in merge.command.argv


def test_an_export_alone_calls_what_the_generation_has() -> None:
    scripts = {
        ("nemo-25.04", "neva"): "neva_export.py",
        ("nemo-25.04", "salm"): "export_mm_to_trtllm.py",
        ("ed-0.3", "neva"): "export_mm_to_trtllm.py",
        ("ed-0.4", "neva"): "nemo_trtllm.py",
    }
    for (generation, kind), script in scripts.items():
        model = SALM if kind == "salm" else NEVA
        made = plan(model=model, mode="export", generation=generation)
        export, proof = made.step("export"), made.step("engine")
        assert isinstance(export, CommandStep) and isinstance(proof, CommandStep)
        assert export.command.argv[1].endswith(script)
        encoder = "perception_engine" if kind == "salm" else "visual_engine"
        assert given(proof.command.argv, "--encoder") == encoder


# ---------------------------------------------------------------------------- GPUs


@pytest.mark.parametrize(
    ("capability", "dtype", "level"),
    [
        ((6, 1), "float16", Level.FAIL),
        ((7, 0), "bfloat16", Level.FAIL),
        ((7, 5), "float16", Level.PASS),
        ((8, 0), "bfloat16", Level.PASS),
        ((9, 0), "bfloat16", Level.PASS),
        ((10, 0), "bfloat16", Level.WARN),
        (None, "bfloat16", Level.UNKNOWN),
    ],
)
def test_gpus_and_precision_are_those_of_the_guides_table(
    capability: tuple[int, int] | None, dtype: str, level: Level
) -> None:
    found = [
        v for v in checks(host=gpus(capability), dtype=dtype) if v.check == "compute-capability"
    ]
    assert [v.level for v in found] == [level]


def test_another_precision_than_the_guides_is_told() -> None:
    told = [v.summary for v in checks(dtype="float16") if v.check == "precision"]
    assert told == ["NeVA is listed with bfloat16 only"]
    told = [v.summary for v in checks(replace(NEVA, dtype="fp32")) if v.check == "precision"]
    assert told == ["the checkpoint is in fp32, and upstream lists bfloat16 checkpoints only"]


# ---------------------------------------------------------------------------- requests


def probe(made: Plan) -> Inference:
    (found,) = next(step for step in made.steps if isinstance(step, VerifyStep)).success
    assert isinstance(found, Inference)
    return found


def test_a_saved_request_has_the_served_tensors_and_the_mark() -> None:
    case = VerifyCase(input="/p.jpg", text="What is this?", expect="a cat")
    made = plan(case, model=samples.multimodal("vila"))
    found = {t.name: t for t in probe(made).inputs}
    assert found["input_text"].values == ("<image>\n What is this?",)
    assert found["input_media"].shape == (1, -1, -1, -1, 3)
    assert found["input_media"].dtype == "UINT8"
    assert probe(made).expect[0].text == "a cat"
    media = made.step("media-0")
    assert isinstance(media, CommandStep)
    assert given(media.command.argv, "--input") == "/p.jpg"
    assert media.outputs == (found["input_media"].file,)
    container = media.command.container
    assert container and "/p.jpg" in {mount.source for mount in container.mounts}


def test_sound_is_two_tensors() -> None:
    found = {t.name: (t.dtype, t.shape) for t in probe(plan(model=SALM)).inputs}
    assert found["input_signal"] == ("FP32", (1, -1))
    assert found["input_signal_length"] == ("INT32", (1, 1))
    assert "input_media" not in found


@pytest.mark.parametrize(
    "case",
    [
        VerifyCase(text="no picture"),
        VerifyCase(input="/p.jpg"),
        VerifyCase(input="/p.jpg", text="Hi", fields={"style": "chat"}),
        VerifyCase(input="/p.jpg", text="Hi", fields={"max_output_len": "257"}),
    ],
)
def test_a_verify_case_that_the_model_cannot_answer_is_refused(case: VerifyCase) -> None:
    with pytest.raises(UsageError, match=r"verify\[0\]"):
        plan(case)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lora_checkpoint_path", {"mode": "load", "lora_checkpoint_path": "/loras/a"}),
        ("max_multimodal_len", {"mode": "load", "max_multimodal_len": 100}),
        ("export_with", {"export_with": "neva_export"}),
        ("export_with", {"mode": "export", "form": "api", "export_with": "neva_export"}),
        ("model_version", {"mode": "export", "model_version": 2}),
        ("lora_merge", {"lora_merge": "never"}),
    ],
)
def test_an_option_that_reaches_nothing_is_told(name: str, options: dict[str, Any]) -> None:
    (told,) = [v for v in checks(**options) if v.option == f"options.{name}"]
    assert told.level is Level.WARN and "does nothing" in told.summary


def test_engines_of_a_language_model_are_not_taken() -> None:
    engine = replace(samples.quantised(), format=Format.TRTLLM_ENGINE)
    assert BACKEND.accepts({"model": samples.multimodal_engines()}).level is Level.PASS
    for model in (samples.quantised(), engine):
        assert BACKEND.accepts({"model": model}).level is Level.FAIL


# ---------------------------------------------------------------------------- the page


def test_the_documented_deployment_and_questions_are_real() -> None:
    page = (Path(__file__).parents[2] / "docs" / "multimodal.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```", page, re.M | re.S)
    made = loads(example, Path("/srv/neva.toml"))
    assert BACKEND.plan(made, {"model": NEVA}, samples.GPU_HOST, ToolFacts()).step("media-0")
    (asked,) = re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S)
    for line in asked.strip().splitlines():
        words = cli._parsed(shlex.split(line, comments=True)[1:])
        assert words.text
    for name, kind in KINDS.items():
        assert f"| {kind.title} | `{name}` |" in page


@pytest.mark.parametrize("kind", ["neva", "salm", "multimodal-engines"])
def test_no_route_for_text_takes_a_model_with_an_encoder(kind: str) -> None:
    takers = [
        name
        for name in registry.names()
        if registry.door(name).accepts({"model": samples.ALL[kind]}).level is not Level.FAIL
    ]
    assert takers == ["nemo-multimodal"]
