"""The engine's repository against upstream's templates, version by version."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.language import trtllm_plan, trtllm_repository
from backends.language.trtllm_argv import Part
from backends.language.trtllm_catalog import catalog, numbers
from backends.language.trtllm_options import EngineOptions
from backends.language.trtllm_repository import Stages
from console.facts import Level
from console.planning.variables import expand
from console.triton.lint import Surroundings, lint
from console.triton.repository import from_text
from tests.contract import samples

TEMPLATES = json.loads((Path(__file__).parents[1] / "assets" / "trtllm_templates.json").read_text())
VERSIONS = [f"0.{minor}.0" for minor in range(8, 18)] + ["0.18.2", "0.19.0", "1.2.0"]
SHAPES = {
    "triton_backend", "triton_max_batch_size", "decoupled_mode", "max_queue_delay_microseconds",
    "max_queue_size", "preprocessing_instance_count", "postprocessing_instance_count",
    "bls_instance_count",
}  # fmt: skip
"""Placeholders that stand for fields of the configuration itself."""
TYPES = {
    "logits_datatype", "encoder_input_features_data_type", "prompt_embedding_table_data_type",
}  # fmt: skip
"""Placeholders for types of optional tensors, which no stage of ours sends or reads."""
STAGE_PARAMETERS = {
    "preprocessing": {"tokenizer_dir", "add_special_tokens"},
    "postprocessing": {"tokenizer_dir", "skip_special_tokens"},
    "ensemble": set(),
    "tensorrt_llm_bls": {"tensorrt_llm_model_name", "tensorrt_llm_draft_model_name"},
}
ELSEWHERE = {
    "preprocessing": {
        "gpt_model_path", "visual_model_path", "multimodal_model_path", "max_num_images",
        "tokenizer_type",
    },
    "postprocessing": {"tokenizer_type"},
    "tensorrt_llm_bls": {"accumulate_tokens", "multimodal_encoders_name"},
}  # fmt: skip
"""Of images and encoders, or told by the tokenizer's own folder; our stages take text."""
EVERYTHING = EngineOptions(
    max_cache_tokens=4096, max_attention_window=2048, kv_cache_host_memory=1, decoding_mode="top_k"
)


def template(model: str, kind: str, version: str) -> dict[str, Any]:
    """What upstream's template of this version has."""
    at = numbers(version)
    return {
        name: value
        for of, what, name, value, first, before in TEMPLATES["rows"]
        if (of, what) == (model, kind)
        and numbers(first) <= at
        and (not before or at < numbers(before))
    }


def configs(version: str, *, drafted: bool = False) -> dict[str, Any]:
    model = samples.language()
    parts = trtllm_plan.parts_of(EVERYTHING, model, model if drafted else None)
    return trtllm_repository.engine_configs(Stages("m", drafted), parts, version)


def test_a_folder_with_any_name_stands_whole_in_the_configurations() -> None:
    folder = '/models/my "best" model\\2 for $5'
    model = replace(samples.language(), path=Path(folder))
    options = EngineOptions(tokenizer=folder)
    files = trtllm_repository.engine_files(Stages("m"), (Part(options, model),), "1.2.0")
    (text,) = [file.text for file in files if file.path.endswith("m_preprocessing/config.pbtxt")]
    config = from_text(expand(text, {}))
    assert config.parameters["tokenizer_dir"].string_value == folder


@pytest.mark.parametrize("version", VERSIONS)
def test_every_parameter_of_the_engines_template_is_set_or_left_by_intent(version: str) -> None:
    given = trtllm_repository.parameters(Part(EVERYTHING, samples.language()), version)
    known = catalog().parameters
    left = {name for name, one in known.items() if one.left and one.holds(version)}
    assert not set(given) & left
    assert set(given) | left == set(template("tensorrt_llm", "parameters", version))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("model", STAGE_PARAMETERS)
def test_every_parameter_of_the_other_templates_has_an_answer(model: str, version: str) -> None:
    asked = set(template(model, "parameters", version))
    assert asked <= STAGE_PARAMETERS[model] | ELSEWHERE.get(model, set())


@pytest.mark.parametrize("version", VERSIONS)
def test_every_other_placeholder_is_a_field_that_is_written(version: str) -> None:
    for model in ("tensorrt_llm", *STAGE_PARAMETERS):
        values = template(model, "parameters", version).values()
        named = set(template(model, "placeholders", version))
        assert {p for p in named if f"${{{p}}}" not in values} <= SHAPES | TYPES
    texts = [str(config) for config in configs(version, drafted=True).values()]
    assert not any("${" in text for text in texts)


@pytest.mark.parametrize("drafted", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_engines_tensors_are_upstreams_in_name_type_and_shape(
    version: str, drafted: bool
) -> None:
    from console.triton import messages

    types = messages.model_config().DataType
    made = configs(version, drafted=drafted)["m_tensorrt_llm"]
    for kind, tensors in (("inputs", made.input), ("outputs", made.output)):
        theirs = template("tensorrt_llm", kind, version)
        for tensor in tensors:
            assert [types.Name(tensor.data_type), list(tensor.dims)] == theirs[tensor.name]


def test_between_two_known_templates_both_names_are_declared() -> None:
    names = {tensor.name for tensor in configs("1.0.0")["m_tensorrt_llm"].input}
    assert {"seed", "random_seed", "min_tokens", "min_length"} <= names
    (engine,) = [
        step
        for step in configs("1.0.0")["m"].ensemble_scheduling.step
        if step.model_name == "m_tensorrt_llm"
    ]
    assert engine.input_map["seed"] == engine.input_map["random_seed"] == "seed"


@pytest.mark.parametrize("drafted", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_configuration_is_one_that_the_linter_takes(version: str, drafted: bool) -> None:
    made = configs(version, drafted=drafted)
    for name, config in made.items():
        found = lint(config, Surroundings(directory=name, models=made))
        assert [v for v in found if v.level is Level.FAIL] == []


def test_a_draft_model_puts_a_model_of_ours_in_the_ensembles_place() -> None:
    made = configs("1.2.1", drafted=True)
    whole, plain = made["m"], configs("1.2.1")["m"]
    assert [tensor.name for tensor in whole.input] == [tensor.name for tensor in plain.input]
    said = {name: value.string_value for name, value in whole.parameters.items()}
    assert (said["engine"], said["draft"]) == ("m_tensorrt_llm", "m_draft")
    assert "draft_input_ids" in {tensor.name for tensor in made["m_tensorrt_llm"].input}
    assert "draft_input_ids" not in {tensor.name for tensor in made["m_draft"].input}
    fractions = [
        made[name].parameters["kv_cache_free_gpu_mem_fraction"].string_value
        for name in Stages("m", drafted=True).engines
    ]
    assert fractions == ["0.2", "0.9"]
