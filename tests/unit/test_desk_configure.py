"""Drafting, opening, saving, listing and forgetting deployments."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from console import settings
from console.desk.desk import Desk
from console.facts import DeckError, Endpoint, Refused, UsageError
from console.planning.deployment import Deployment
from console.services.model import ServiceState, ServiceView
from console.services.store import ServiceStore

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits"


def desk_at(home: Path, **environ: str) -> Desk:
    return Desk(settings.load({"TRITONDECK_HOME": str(home), **environ}))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return desk_at(tmp_path / "home")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    file = tmp_path / "My Model (v2).onnx"
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "XY"]
    made = helper.make_graph([helper.make_node("Relu", ["X"], ["Y"])], "g", [sides[0]], [sides[1]])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]), file)
    return file


def test_a_draft_has_a_safe_name_the_first_accepting_backend_and_valid_options(
    desk: Desk, graph: Path
) -> None:
    draft = desk.draft(graph)
    assert (draft.name, draft.backend) == ("my-model-v2", "onnx")
    assert draft.checkpoints == {"model": str(graph)}
    desk.options(draft)


def test_a_draft_of_the_same_checkpoint_keeps_its_name_and_another_gets_a_free_one(
    desk: Desk, graph: Path, tmp_path: Path
) -> None:
    desk.save(desk.draft(graph))
    assert desk.draft(graph).name == "my-model-v2"
    other = tmp_path / "other"
    other.mkdir()
    (other / graph.name).write_bytes(graph.read_bytes())
    assert desk.draft(other / graph.name).name == "my-model-v2-2"


def test_a_draft_of_a_speech_checkpoint_can_be_saved_and_opened(desk: Desk) -> None:
    draft = desk.draft(DIGITS / "digits.nemo")
    desk.save(draft)
    assert desk.open("digits") == draft


def test_what_no_backend_takes_is_refused_with_each_ones_reason(desk: Desk, tmp_path: Path) -> None:
    model = tmp_path / "llama"
    model.mkdir()
    (model / "config.json").write_text(
        '{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}'
    )
    (model / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    with pytest.raises(Refused, match="onnx: "):
        desk.draft(model)


def test_a_name_that_cannot_be_one_is_wrong_usage(desk: Desk, graph: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a deployment's name"):
        desk.draft(graph, name="../escape")


def test_an_example_file_opens_with_absolute_paths(desk: Desk) -> None:
    opened = desk.open(str(DIGITS / "deployment.toml"))
    assert opened.checkpoints == {"model": str(DIGITS / "digits.nemo")}
    assert opened.verify[0].input == str(DIGITS / "wavs" / "digits_1.wav")


def test_a_wrong_option_names_file_key_line_and_what_was_expected(
    desk: Desk, tmp_path: Path
) -> None:
    file = tmp_path / "d.toml"
    file.write_text(
        'version = 1\nname = "d"\nbackend = "onnx"\n\n[checkpoints]\nmodel = "m.onnx"\n\n'
        '[options]\n# sizes\nmax_batch_size = "many"\nmax_batch = 3\n'
    )
    with pytest.raises(UsageError) as caught:
        desk.open(str(file))
    words = str(caught.value)
    assert str(file) in words
    assert "line 10, options.max_batch_size: Input should be a valid integer" in words
    assert "line 11, options.max_batch: Extra inputs are not permitted" in words


def test_an_unknown_backend_names_its_line_and_the_known_ones(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "d.toml"
    file.write_text('version = 1\nname = "d"\nbackend = "onyx"\n[checkpoints]\nmodel = "m.onnx"\n')
    with pytest.raises(UsageError, match=r"line 3, backend: .*onyx.*onnx"):
        desk.open(str(file))


def test_an_unknown_name_lists_the_saved_ones(desk: Desk, graph: Path) -> None:
    desk.save(desk.draft(graph, name="scorer"))
    with pytest.raises(UsageError, match="scorer"):
        desk.open("scorr")


@given(words=st.text(min_size=1, max_size=40) | st.text("./~\0ab", min_size=1, max_size=9))
def test_no_word_opens_anything_outside_the_saved_ones(
    tmp_path_factory: pytest.TempPathFactory, words: str
) -> None:
    desk = desk_at(tmp_path_factory.getbasetemp() / "empty")
    with pytest.raises(UsageError):
        desk.open(words)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", ".hidden", "", "-rf", "x" * 200, "a\nb", "a\0b"]
)
def test_a_hostile_name_is_never_a_path(desk: Desk, name: str) -> None:
    with pytest.raises(UsageError):
        desk.forget(name)


def test_deployments_are_listed_newest_first_and_a_broken_one_says_why(
    desk: Desk, graph: Path
) -> None:
    import os

    first = desk.save(desk.draft(graph, name="first"))
    second = desk.save(desk.draft(graph, name="second"))
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    broken = second.with_name("broken.toml")
    broken.write_text("name = [")
    listed = desk.deployments()
    assert [view.name for view in listed] == ["broken", "second", "first"]
    assert "not valid TOML" in listed[0].problem
    assert (listed[1].backend, listed[1].checkpoint, listed[1].run) == ("onnx", str(graph), None)


def test_forget_moves_to_the_trash_and_the_name_is_free_again(desk: Desk, graph: Path) -> None:
    file = desk.save(desk.draft(graph, name="scorer"))
    text = file.read_text()
    desk.forget("scorer")
    assert desk.deployments() == ()
    (trash,) = (desk.settings.folders.state / "trash").iterdir()
    assert (trash / "scorer.toml").read_text() == text
    with pytest.raises(UsageError):
        desk.forget("scorer")


@pytest.mark.parametrize("state", ["starting", "running", "restarting", "stopping"])
def test_what_is_served_or_will_be_again_is_not_forgotten(
    desk: Desk, graph: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    file = desk.save(desk.draft(graph, name="scorer"))
    here = file.parent
    endpoint = Endpoint(url="http://127.0.0.1:9")
    served = ServiceView(
        "scorer-1", "scorer", "embedded", ServiceState(state), here, here, endpoint, here, ()
    )
    monkeypatch.setattr(ServiceStore, "views", lambda self: (served,))
    with pytest.raises(Refused, match="is being served"):
        desk.forget("scorer")
    assert file.exists()


def test_a_saved_file_that_names_another_deployment_is_a_problem_in_words(
    desk: Desk, graph: Path
) -> None:
    file = desk.save(desk.draft(graph, name="scorer"))
    file.write_text(file.read_text().replace("scorer", "other"))
    with pytest.raises(UsageError, match="line 2, name: expected scorer"):
        desk.open("scorer")
    (view,) = desk.deployments()
    assert (view.name, bool(view.problem)) == ("scorer", True)
    assert desk.open(str(file)).name == "other"


def test_a_deployment_may_be_called_like_a_file(desk: Desk, graph: Path) -> None:
    draft = desk.draft(graph, name="scorer.toml")
    desk.save(draft)
    assert desk.open("scorer.toml") == draft


def test_state_folders_are_private(desk: Desk, graph: Path) -> None:
    file = desk.save(desk.draft(graph))
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert desk.settings.folders.state.stat().st_mode & 0o777 == 0o700


def test_readonly_refuses_every_change_and_allows_every_look(tmp_path: Path, graph: Path) -> None:
    desk = desk_at(tmp_path / "home", TRITONDECK_READONLY="1")
    draft = desk.draft(graph)
    for change in (
        lambda: desk.save(draft),
        lambda: desk.deploy(draft),
        lambda: desk.forget("a"),
        lambda: desk.cancel("a-1"),
        lambda: desk.retry("a-1"),
        lambda: desk.delete_run("a-1"),
        lambda: desk.stop("a"),
        lambda: desk.create_environment("embedded"),
        lambda: desk.remove_environment("embedded"),
    ):
        with pytest.raises(Refused, match="read-only"):
            change()
    assert desk.deployments() == desk.runs() == desk.services() == ()
    desk.plan(draft)
    assert not (tmp_path / "home").exists()


def test_opening_a_deployment_of_another_version_is_refused_in_words(
    desk: Desk, graph: Path
) -> None:
    file = desk.save(desk.draft(graph, name="old"))
    file.write_text(file.read_text().replace("version = 1", "version = 2"))
    with pytest.raises(DeckError, match="line 1, version"):
        desk.open("old")


def test_a_saved_deployment_is_one_object_however_it_is_made(desk: Desk, graph: Path) -> None:
    draft = desk.draft(graph, name="scorer")
    assert isinstance(draft, Deployment)
    file = desk.save(draft)
    assert desk.open("scorer") == desk.open(str(file)) == draft
