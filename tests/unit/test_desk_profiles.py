"""Profiles of the settings: what a new deployment starts with, and errors that say where."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from console import settings
from console.desk.desk import Desk
from console.facts import UsageError

PROFILES = """\
profile = "box"

[profiles.box.server]
http_port = 0
address = "127.0.0.1"

[profiles.box.options]
max_batch_size = 4

[profiles.box.environments.embedded]
python = "/opt/python3.11/bin/python3"

[profiles.lab.server]
http_port = 9000
"""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "XY"]
    made = helper.make_graph([helper.make_node("Relu", ["X"], ["Y"])], "g", [sides[0]], [sides[1]])
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "a.onnx"
    )
    return tmp_path / "a.onnx"


def desk_with(home: Path, text: str, **environ: str) -> Desk:
    (home / "config").mkdir()
    (home / "config" / "settings.toml").write_text(text)
    return Desk(settings.load({"TRITONDECK_HOME": str(home), **environ}))


def test_the_profile_of_the_settings_is_laid_over_a_draft(tmp_path: Path, graph: Path) -> None:
    draft = desk_with(tmp_path, PROFILES).draft(graph)
    assert (draft.profile, draft.server.http_port, draft.server.grpc_port) == ("box", 0, 8001)
    assert draft.options["max_batch_size"] == 4
    assert draft.environments["embedded"].python == "/opt/python3.11/bin/python3"


def test_a_named_profile_and_the_environment_variable_win(tmp_path: Path, graph: Path) -> None:
    desk = desk_with(tmp_path, PROFILES, TRITONDECK_PROFILE="lab")
    assert desk.draft(graph).server.http_port == 9000
    assert desk.draft(graph, profile="box").server.http_port == 0


def test_a_saved_deployment_says_which_profile_it_came_from(tmp_path: Path, graph: Path) -> None:
    desk = desk_with(tmp_path, PROFILES)
    desk.save(desk.draft(graph, name="mine"))
    assert [view.profile for view in desk.deployments()] == ["box"]
    assert desk.open("mine").server.http_port == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[profiles.box.server]\nhttp_port = 70000\n", "line 2, profiles.box.server.http_port"),
        ("\n[profiles.box.options]\nmax_batch_size = -1\n", "line 3, profiles.box.options.max_bat"),
        ("[profiles.box.options]\nmax_bach_size = 1\n", "line 2, profiles.box.options.max_bach"),
        ("[profiles.box.server]\n\nadress = 'x'\n", "line 3, profiles.box.server.adress"),
    ],
)
def test_an_error_in_a_profile_names_file_key_and_line(
    tmp_path: Path, graph: Path, text: str, words: str
) -> None:
    desk = desk_with(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        desk.draft(graph, profile="box")
    assert words in str(caught.value)
    assert str(tmp_path / "config" / "settings.toml") in str(caught.value)


def test_an_unknown_profile_lists_the_known_ones(tmp_path: Path, graph: Path) -> None:
    with pytest.raises(UsageError, match=r"box, lab"):
        desk_with(tmp_path, PROFILES).draft(graph, profile="laptop")


def test_a_wrong_setting_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"line 2, notify\.after"):
        desk_with(tmp_path, "[notify]\nafter = -1\n")
