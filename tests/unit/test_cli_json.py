"""The JSON that scripts read: its shape is a promise, its values are JSON for everybody."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.checkpoints.model import Checkpoint, Risk
from console.desk.scaling import ClusterNode, ClusterView, Replica
from console.desk.views import BackendView, DeploymentView, OptionField, RouteView
from console.facts import DeckError, Endpoint, EnvironmentFacts, TensorAnswer, Verdict
from console.planning.parallelism import ParallelismView, RankView
from console.planning.plan import InputFile
from console.runs.model import RunView, StepView
from console.services.model import ServiceView
from console.verbs import output

# What a script may rely on in version 1. Adding a key is fine: add it here. Taking one away or
# changing its meaning is not, without raising `output.JSON_VERSION`.
SHAPES: dict[type, str] = {
    Verdict: "check level summary figure source fix option accepted",
    RunView: "id deployment number state folder steps started elapsed error fix service answer runner_pid",
    StepView: "id title kind state why started elapsed fraction message reason fix log",
    ServiceView: "id deployment launcher state folder log endpoint repository models pid started "
    "uptime exit_status reason",
    Endpoint: "url kind grpc_url metrics_url token_file token_env token_header ca_file ours manage",
    EnvironmentFacts: "name python python_version packages size",
    DeploymentView: "name file checkpoint backend run service problem profile seen trouble",
    OptionField: "name title help group kind default choices minimum maximum unit flag launchers",
    RouteView: "name title verdict origin role",
    BackendView: "name origin",
    Checkpoint: "path format title model_class task size parameters dtype nemo_version speech graph "
    "language engine adapter hub config risks details modified",
    Risk: "code severity summary fix",
    TensorAnswer: "name dtype shape values",
    ClusterView: "status message target replicas nodes age old",
    ClusterNode: "address hostname state head cpus gpus cpu_percent gpu_percent memory_used "
    "memory_total",
    Replica: "id state node",
    ParallelismView: "tensor pipeline nodes gpus split fixed weights cache_a_token activations context "
    "budget tokens length batches ranks choices verdicts formula",
    RankView: "rank node gpu index name tensor pipeline total free",
}


@pytest.mark.parametrize("kind", SHAPES, ids=lambda kind: kind.__name__)
def test_the_keys_of_version_1(kind: type) -> None:
    assert is_dataclass(kind)
    assert [field.name for field in fields(kind)] == SHAPES[kind].split()
    assert output.JSON_VERSION == 1


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Everything:
    path: Path
    colour: Colour
    numbers: tuple[float, ...]
    names: frozenset[str]
    inner: InputFile


def test_every_kind_of_value_becomes_plain_json() -> None:
    value = Everything(
        Path("/a b"), Colour.RED, (1.5, math.nan, -math.inf), frozenset("ba"), InputFile(path="/x")
    )
    assert output.plain(value) == {
        "path": "/a b",
        "colour": "red",
        "numbers": [1.5, None, None],
        "names": ["a", "b"],
        "inner": {"path": "/x"},
    }


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(JSON_LIKE)
def test_any_value_is_strict_json_in_ascii(value: object) -> None:
    text = json.dumps(output.plain(value), allow_nan=False)
    assert text.isascii()
    json.dumps(json.loads(text)).encode("utf-8")


def test_an_error_has_every_key_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    error = DeckError("it broke", why="no space", fix="free some", raw="ENOSPC")
    assert output.show_error(error, as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == {
        "version": 1,
        "error": {
            "title": "it broke",
            "why": "no space",
            "fix": "free some",
            "raw": "ENOSPC",
            "exit_code": 1,
        },
    }


def test_an_error_for_people_is_clean_and_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    error = DeckError("\x1b[31mbroke\x07", why="a\u202eb; c", raw="one\x1b]0;t\x07\ntwo")
    assert output.show_error(error, as_json=False) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "error: broke\n  why: a<U+202E>b\n  why: c\none\ntwo\n"


def test_columns_are_as_wide_as_their_content(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("NAME", "STATE"), [("a-long-name", "running"), ("b", "\x1b[2Jstopped")])
    assert capsys.readouterr().out.splitlines() == [
        "NAME         STATE",
        "a-long-name  running",
        "b            stopped",
    ]
