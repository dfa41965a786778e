"""Configurations: built as messages, printed, parsed and judged."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.checkpoints.model import GraphFacts
from console.facts import Level, TensorSpec, UsageError
from console.triton import repository
from console.triton.inference import DTYPES
from console.triton.lint import Surroundings, lint
from console.triton.repository import DynamicBatching, Instances, from_text, model_config, to_text

IMAGE = TensorSpec("image", "FP32", (-1, 3, 32, 32))
LENGTH = TensorSpec("length", "INT64", (-1,))
LOGITS = TensorSpec("logits", "FP32", (-1, 10))


def summaries(text: str, **around) -> list[str]:
    return [v.summary for v in lint(from_text(text), Surroundings(**around))]


# ---------------------------------------------------------------------------- building


def test_the_python_form_reads_as_an_operator_would_write_it():
    config = model_config(
        "digits",
        [TensorSpec("WAV", "BYTES", (1,), optional=True)],
        [TensorSpec("TEXT", "BYTES", (-1,))],
        instances=Instances(2, "gpu", (0,)),
        parameters={"device": "cpu"},
    )
    assert to_text(config) == (
        'name: "digits"\n'
        'input {\n  name: "WAV"\n  data_type: TYPE_STRING\n  dims: 1\n  optional: true\n}\n'
        'output {\n  name: "TEXT"\n  data_type: TYPE_STRING\n  dims: -1\n}\n'
        "instance_group {\n  count: 2\n  gpus: 0\n  kind: KIND_GPU\n}\n"
        'parameters {\n  key: "device"\n  value {\n    string_value: "cpu"\n  }\n}\n'
        'backend: "python"\n'
    )


def test_the_server_adds_the_batch_dimension_itself():
    graph = GraphFacts((IMAGE, LENGTH), (LOGITS,), opset=17, ir_version=8)
    config = repository.onnx_config("clip", graph, max_batch_size=8)
    assert config.platform == "onnxruntime_onnx"
    assert [list(t.dims) for t in (*config.input, *config.output)] == [[3, 32, 32], [1], [10]]
    assert config.input[1].HasField("reshape")
    assert list(config.input[1].reshape.shape) == []
    assert lint(config) == ()


def test_without_batching_the_graphs_full_shape_stands_there():
    graph = GraphFacts((IMAGE,), (LOGITS,), opset=17, ir_version=8)
    config = repository.onnx_config("clip", graph)
    assert list(config.input[0].dims) == [-1, 3, 32, 32]


def test_a_fixed_first_dimension_cannot_be_batched():
    with pytest.raises(UsageError, match="cannot be batched"):
        model_config("m", [TensorSpec("x", "FP32", (1, 3))], [LOGITS], max_batch_size=4)


def test_an_unknown_tensor_type_is_refused():
    with pytest.raises(UsageError, match="no tensor type FLOAT8"):
        model_config("m", [TensorSpec("x", "FLOAT8", (1,))], [])


def test_an_unfilled_placeholder_is_named_with_its_place():
    with pytest.raises(UsageError, match=r"r/config\.pbtxt:2:17.*placeholder"):
        from_text('name: "m"\nmax_batch_size: ${size}\n', "r/config.pbtxt")


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
specs = st.builds(
    TensorSpec,
    st.text(min_size=1, max_size=12),
    st.sampled_from(DTYPES),
    st.lists(st.sampled_from([-1, 1, 2, 80]), max_size=4).map(lambda d: (-1, *d)),
    st.booleans(),
)


@settings(deadline=None)
@given(
    names,
    st.lists(specs, min_size=1, max_size=3, unique_by=lambda s: s.name),
    st.integers(0, 64),
    st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3),
    st.builds(Instances, st.integers(1, 4), st.sampled_from(["auto", "cpu", "gpu"])),
    st.booleans(),
    st.lists(st.integers(1, 9), max_size=2).map(tuple),
)
def test_what_is_built_parses_again_to_the_same_and_passes_the_rules(
    name, tensors, batch, parameters, instances, decoupled, versions
):
    config = model_config(
        name,
        tensors,
        tensors,
        max_batch_size=batch,
        dynamic_batching=DynamicBatching(100, tuple({1, max(batch, 1)})),
        instances=instances,
        parameters=parameters,
        decoupled=decoupled,
        versions=versions,
    )
    assert from_text(to_text(config)) == config
    assert lint(config, Surroundings(directory=name, server_version=(2, 51))) == ()


# ---------------------------------------------------------------------------- rules

GOOD = """
name: "m" backend: "python" max_batch_size: 8
input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""


def test_a_good_configuration_breaks_no_rule():
    files = frozenset({"config.pbtxt", "1/model.py"})
    here = {"directory": "m", "files": files, "gpus": 0, "backends": frozenset({"python"})}
    assert summaries(GOOD, **here) == []


@pytest.mark.parametrize(
    ("text", "around", "words"),
    [
        (GOOD, {"directory": "other"}, "called m, its folder other"),
        (GOOD.replace("TYPE_FP32", "TYPE_INVALID", 1), {}, "input X has no data_type"),
        (GOOD.replace("dims: [ 4 ]", ""), {}, "input X has no dims"),
        (GOOD.replace("dims: [ 4 ]", "dims: [ 0 ]"), {}, "dimension 0"),
        (GOOD.replace("size: 8", "size: -1"), {}, "max_batch_size is -1"),
        (
            GOOD + "dynamic_batching { preferred_batch_size: [ 16 ] }",
            {},
            "16 is not within 1 and 8",
        ),
        (
            GOOD.replace("[ 4 ]", "[ 4 ] reshape { shape: [ 3 ] }"),
            {},
            "do not hold the same number of elements",
        ),
        (GOOD + "instance_group { kind: KIND_GPU }", {"gpus": 0}, "this host has no GPU"),
        (GOOD + "instance_group { kind: KIND_GPU gpus: [ 2 ] }", {"gpus": 2}, "GPU 2 is asked for"),
        (
            GOOD.replace('"python"', '"tensorrtllm"'),
            {"backends": frozenset({"python"})},
            "no Triton backend tensorrtllm",
        ),
        (GOOD.replace('backend: "python"', ""), {}, "neither backend nor platform"),
        (GOOD, {"files": frozenset({"config.pbtxt"})}, "no version folder"),
        (GOOD, {"files": frozenset({"v1/model.py"})}, "v1 is not a number"),
        (GOOD, {"files": frozenset({"1/other.py"})}, "waits for it for ever"),
        (
            GOOD + "version_policy { specific { versions: [ 3 ] } }",
            {"files": frozenset({"1/model.py"})},
            "version 3 is asked for",
        ),
        (
            GOOD + 'model_metrics { metric_control { metric_identifier { family: "f" } } }',
            {"server_version": (2, 51)},
            "does not know the field model_metrics",
        ),
    ],
)
def test_what_a_server_refuses_is_a_failure_in_words(text, around, words):
    verdicts = lint(from_text(text), Surroundings(**around))
    (found,) = [v for v in verdicts if words in v.summary]
    assert found.level is Level.FAIL


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("size: 8", "size: 0") + "dynamic_batching { }", "has no effect"),
        (GOOD + 'input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }', "there twice"),
        ('name: "m" backend: "python"', "no input or no output"),
        (GOOD + 'platform: "onnxruntime_onnx"', "does not belong to backend python"),
    ],
)
def test_what_a_server_takes_in_silence_is_a_warning(text, words):
    (found,) = [v for v in lint(from_text(text)) if words in v.summary]
    assert found.level is Level.WARN


def test_a_reshape_may_move_only_ones():
    moved = GOOD.replace("dims: [ 4 ]", "dims: [ 1, 4 ] reshape { shape: [ 4 ] }")
    assert summaries(moved) == []


VISION = GOOD.replace('"m"', '"vision"')
ENSEMBLE = """
name: "e" platform: "ensemble" max_batch_size: 8
input { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }
ensemble_scheduling { step [ {
  model_name: "vision" model_version: -1
  input_map { key: "X" value: "IN" } output_map { key: "Y" value: "OUT" } } ] }
"""


def test_a_wired_ensemble_breaks_no_rule():
    assert summaries(ENSEMBLE, models={"vision": from_text(VISION)}) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"vision"', '"ghost"'), "no such model in the repository"),
        (('key: "X"', 'key: "pixels"'), "has no input pixels"),
        (("max_batch_size: 8", "max_batch_size: 16"), "only up to 8"),
        (("TYPE_FP32", "TYPE_INT32"), "IN is TYPE_INT32, X is TYPE_FP32"),
        (("dims: [ 4 ]", "dims: [ 5 ]"), "IN has shape [-1, 5], X [-1, 4]"),
        (('value: "OUT"', 'value: "LOST"'), "output OUT is written by no step"),
        (('value: "IN"', 'value: "NOWHERE"'), "NOWHERE is read but nothing writes it"),
        (('value: "OUT"', 'value: "IN"'), "IN is written more than once"),
        (('platform: "ensemble"', 'backend: "python"'), "an ensemble has no backend"),
    ],
)
def test_a_badly_wired_ensemble_is_a_failure_in_words(change, words):
    text = ENSEMBLE.replace(*change, 1)
    verdicts = lint(from_text(text), Surroundings(models={"vision": from_text(VISION)}))
    assert [v for v in verdicts if words in v.summary and v.level is Level.FAIL], verdicts
