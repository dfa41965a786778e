"""Options: from pydantic declarations to form fields, from typed text to valid values."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from backends.base import BackendOptions
from console.desk import options
from console.facts import UsageError
from console.planning.deployment import Deployment


class Speed(StrEnum):
    SLOW = "slow"
    FAST = "fast"


class Example(BackendOptions):
    precision: Literal["fp32", "fp16"] = Field(
        "fp32",
        title="Precision",
        description="Of the weights.",
        json_schema_extra={"group": "Model"},
    )
    delay: int = Field(
        100,
        ge=0,
        le=10_000,
        json_schema_extra={"group": "Batching", "unit": "µs", "flag": "--delay"},
    )
    speed: Speed = Field(Speed.SLOW, json_schema_extra={"group": "Model"})
    rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    sizes: tuple[int, ...] = (1, 2)
    limit: Annotated[int, Field(ge=1)] | None = None
    verbose: bool = False
    folder: Path = Path("/models")
    note: str = ""
    needed: int


FIELDS = {field.name: field for field in options.fields(Example)}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("precision", "choice"),
        ("delay", "int"),
        ("speed", "choice"),
        ("rate", "float"),
        ("sizes", "int-list"),
        ("limit", "int"),
        ("verbose", "bool"),
        ("folder", "path"),
        ("note", "text"),
    ],
)
def test_the_kind_comes_from_the_type(name: str, kind: str) -> None:
    assert FIELDS[name].kind == kind


def test_bounds_come_from_the_constraints_also_inside_an_optional() -> None:
    assert (FIELDS["delay"].minimum, FIELDS["delay"].maximum) == (0, 10_000)
    assert (FIELDS["rate"].minimum, FIELDS["rate"].maximum) == (0, 1)
    assert (FIELDS["limit"].minimum, FIELDS["limit"].maximum) == (1, None)


def test_choices_come_from_literals_and_enums() -> None:
    assert FIELDS["precision"].choices == ("fp32", "fp16")
    assert FIELDS["speed"].choices == ("slow", "fast")


def test_defaults_are_plain_values_and_a_needed_field_has_none() -> None:
    assert FIELDS["speed"].default == "slow"
    assert FIELDS["folder"].default == "/models"
    assert FIELDS["sizes"].default == (1, 2)
    assert FIELDS["needed"].default is None


def test_title_help_unit_flag_and_group_come_from_the_declaration() -> None:
    delay, precision = FIELDS["delay"], FIELDS["precision"]
    assert (delay.title, delay.unit, delay.flag, delay.group) == (
        "Delay",
        "µs",
        "--delay",
        "Batching",
    )
    assert (precision.title, precision.help) == ("Precision", "Of the weights.")


def test_fields_of_a_group_stand_together_in_the_order_of_declaration() -> None:
    names = [field.name for field in options.fields(Example)]
    assert names[:3] == ["precision", "speed", "delay"]


# ---------------------------------------------------------------------------- the real backend

ONNX = Deployment(name="a", backend="onnx", checkpoints={"model": "/m.onnx"})


def test_text_from_a_form_becomes_typed_values() -> None:
    changed, problems = options.change(
        ONNX, {"max_batch_size": "4", "verbose": "on", "preferred_batch_sizes": "2, 4"}
    )
    assert problems == ()
    assert changed.options == {
        "max_batch_size": 4,
        "verbose": True,
        "preferred_batch_sizes": [2, 4],
    }


def test_a_default_is_not_written_down_unless_it_was_there() -> None:
    default = {
        field.name: field.default for field in options.fields(options.backend("onnx").Options)
    }
    changed, _ = options.change(ONNX, {"opset": str(default["opset"])})
    assert changed.options == {}
    there = ONNX.model_copy(update={"options": {"opset": 18}})
    changed, _ = options.change(there, {"opset": str(default["opset"])})
    assert changed.options == {"opset": default["opset"]}


def test_an_empty_text_means_the_default() -> None:
    there = ONNX.model_copy(update={"options": {"opset": 18}})
    assert options.change(there, {"opset": ""})[0].options == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("max_batch_size", "many"),
        ("max_batch_size", "-1"),
        ("device", "tpu"),
        ("preferred_batch_sizes", "2 x"),
        ("no_such_option", "1"),
    ],
)
def test_a_wrong_value_names_its_field_and_changes_nothing(name: str, text: str) -> None:
    changed, problems = options.change(ONNX, {name: text})
    assert changed is ONNX
    assert problems
    assert problems[0].field.startswith(name)
    assert problems[0].message


def test_bound_options_are_complete() -> None:
    bound = options.bound(ONNX.model_copy(update={"options": {"max_batch_size": 2}}))
    assert bound.model_dump()["max_batch_size"] == 2
    assert set(bound.model_dump()) == {f.name for f in options.fields(type(bound))}


def test_bound_says_which_option_is_wrong() -> None:
    wrong = ONNX.model_copy(update={"options": {"opset": "new"}})
    with pytest.raises(UsageError, match=r"options\.opset"):
        options.bound(wrong)


def test_an_unknown_backend_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match="onnx"):
        options.backend("tensorrt-of-tomorrow")


NAMES = [field.name for field in options.fields(options.backend("onnx").Options)]


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=12), max_size=3))
def test_any_typed_text_is_a_valid_option_or_a_problem_in_words(changes: dict[str, str]) -> None:
    changed, problems = options.change(ONNX, changes)
    if problems:
        assert changed is ONNX
        assert all(problem.field and problem.message for problem in problems)
    else:
        options.bound(changed)
