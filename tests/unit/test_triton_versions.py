"""Versions on disk: which number a build gets, what is live, what needs what."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.facts import DeckError, UsageError
from console.triton import versions
from console.triton.versions import Version

CONFIG = 'name: "{name}"\nbackend: "python"\n'


def made(number: int, key: str, *models: str) -> Version:
    return Version(number, models or ("m",), key, f"run-{number}", 1.0)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "repository"


def put_model(repository: Path, name: str, text: str = "", version: int = 1) -> None:
    folder = repository / name / str(version)
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG.format(name=name) + text)


def test_the_first_build_is_version_one(tmp_path: Path, repository: Path):
    assert versions.settle(tmp_path, repository, "a") == 1


def test_what_would_be_made_again_keeps_its_number(tmp_path: Path, repository: Path):
    for number, key in ((1, "a"), (2, "b")):
        versions.verified(tmp_path, "d", repository, made(number, key))
    assert [versions.settle(tmp_path, repository, key) for key in "abc"] == [1, 2, 3]


def test_an_attempt_that_was_never_verified_gives_its_number_away(tmp_path: Path, repository: Path):
    versions.verified(tmp_path, "d", repository, made(1, "a"))
    (repository / "m" / "2").mkdir(parents=True)
    assert versions.settle(tmp_path, repository, "b") == 2


def test_numbers_begin_anew_in_another_repository(tmp_path: Path, repository: Path):
    versions.verified(tmp_path, "d", repository, made(1, "a"))
    assert versions.settle(tmp_path, tmp_path / "other", "b") == 1


def test_a_rollback_goes_to_what_was_live_before(tmp_path: Path, repository: Path):
    for number, key in ((1, "a"), (2, "b")):
        now = versions.verified(tmp_path, "d", repository, made(number, key))
    assert (now.live, now.previous) == (2, 1)
    now = versions.now_live(tmp_path, now, 1)
    assert (now.live, now.previous) == (1, 2)
    assert versions.read(tmp_path) == now


def test_verifying_the_live_version_again_keeps_where_a_rollback_goes(
    tmp_path: Path, repository: Path
):
    for number, key in ((1, "a"), (2, "b"), (2, "b")):
        now = versions.verified(tmp_path, "d", repository, made(number, key))
    assert (now.live, now.previous, [one.number for one in now.known]) == (2, 1, [1, 2])


def test_the_policy_names_the_version_and_an_unchanged_file_is_not_touched(repository: Path):
    put_model(repository, "m")
    versions.put(repository, "m", 1)
    file = repository / "m" / "config.pbtxt"
    assert "versions: 1" in file.read_text()
    before = file.stat().st_mtime_ns
    versions.put(repository, "m", 1)
    assert file.stat().st_mtime_ns == before


def test_two_versions_are_named_only_where_both_are_there(repository: Path):
    put_model(repository, "m", version=2)
    versions.put(repository, "m", 2, also=1)
    assert versions.config_of(repository, "m", 2).name == "m"
    policy = (repository / "m" / "config.pbtxt").read_text()
    assert "versions: 2" in policy and "versions: 1" not in policy
    put_model(repository, "m", version=1)
    versions.put(repository, "m", 2, also=1)
    assert "versions: 1" in (repository / "m" / "config.pbtxt").read_text()


def test_a_configuration_that_only_the_server_can_judge_is_left_to_it(repository: Path):
    put_model(repository, "m", "a_field_of_tomorrow: 1\n")
    versions.put(repository, "m", 1)
    text = (repository / "m" / "1" / "config.pbtxt").read_text()
    assert (repository / "m" / "config.pbtxt").read_text() == text


def test_a_version_without_its_configuration_is_said(repository: Path):
    with pytest.raises(DeckError, match="version 3 of m has no configuration"):
        versions.put(repository, "m", 3)


def test_a_model_that_an_ensemble_or_a_parameter_names_is_needed(repository: Path):
    step = 'ensemble_scheduling { step { model_name: "m" model_version: -1 } }'
    parameter = 'parameters { key: "calls" value { string_value: "m" } }'
    told = 'parameters { key: "tritondeck_deployment" value { string_value: "m" } }'
    for name, text in (("m", ""), ("ens", step), ("bls", parameter), ("same", told)):
        put_model(repository, name, text)
        versions.put(repository, name, 1)
    assert versions.needed_by(repository, ["m"]) == {"m": ("bls", "ens")}
    assert versions.needed_by(repository, ["m", "ens", "bls"]) == {}


def test_owners_are_the_deployments_with_models_in_a_repository(tmp_path: Path):
    shared = tmp_path / "a" / "repository"
    for name, place in (("a", shared), ("b", shared), ("c", tmp_path / "c" / "repository")):
        (tmp_path / name).mkdir()
        versions.verified(tmp_path / name, name, place, made(1, "k", f"m-{name}"))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / versions.FILE).write_text('{"version": 1, "live": 1}')
    found = versions.owners(tmp_path, shared)
    assert {name: one.models for name, one in found.items()} == {"a": ("m-a",), "b": ("m-b",)}
    with pytest.raises(DeckError, match="damaged"):
        versions.read(tmp_path / "torn")


def test_an_unknown_version_is_named_with_those_that_there_are(tmp_path: Path, repository: Path):
    now = versions.verified(tmp_path, "d", repository, made(1, "a"))
    with pytest.raises(UsageError, match="no version 7"):
        now.version(7)


@pytest.mark.parametrize(("file", "ours"), [("__pycache__/model.pyc", True), ("model.py", False)])
def test_what_a_server_leaves_in_a_removed_stage_is_no_model(
    repository: Path, file: str, ours: bool
):
    left = repository / "m.next" / "2" / file
    left.parent.mkdir(parents=True)
    left.touch()
    assert versions.staged(repository / "m.next") is ours
