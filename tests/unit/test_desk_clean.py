"""What takes space: listed with reasons, removed only when it is ours, unused and asked for."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from console import settings, storage
from console.desk.desk import Desk
from console.desk.views import CleanItem
from console.facts import Refused, UsageError
from console.planning.deployment import Deployment
from console.runs.store import RunStore
from console.verbs.clean import age
from tests.processes import executed, plan, shell, until


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return Desk(settings.load({"TRITONDECK_HOME": str(tmp_path / "home")}))


def environment(desk: Desk, name: str, *, finished: bool = True) -> Path:
    folder = desk.settings.folders.environments / name
    (folder / "bin").mkdir(parents=True)
    (folder / "weights").write_bytes(b"x" * 50_000)
    if finished:
        short, _, digest = name.rpartition("-")
        marker = {"name": short, "digest": digest, "python": "3.11.7", "freeze": {}}
        (folder / "tritondeck.json").write_text(json.dumps({**marker, "seconds": 1.0, "size": 1}))
    else:
        (folder / ".incomplete").touch()
    return folder


def runs_made(desk: Desk, count: int) -> list[str]:
    """Runs that were never started: interrupted, and nothing of them runs."""
    store = RunStore(desk.settings)
    return [store.create(plan(shell("work", "true")), "") for _ in range(count)]


def named(items: tuple[CleanItem, ...], *, safe: bool) -> set[str]:
    return {item.name for item in items if item.safe is safe}


def test_nothing_is_removed_unless_asked_for(desk: Desk) -> None:
    folder = environment(desk, "nemo-000000000000")
    report = desk.clean()
    assert named(report.items, safe=True) == {"nemo-000000000000"}
    assert report.removable >= 50_000
    assert (folder.exists(), report.freed) == (True, 0)


def test_old_and_unfinished_environments_go_and_the_named_one_stays(desk: Desk) -> None:
    from backends.environments import environment as spec
    from console.runtimes.environments import Environments

    current = environment(desk, Environments(desk.settings).folder(spec("nemo")).name)
    old = environment(desk, "nemo-000000000000")
    half = environment(desk, "nemo-111111111111", finished=False)
    report = desk.clean(("environments",), remove=True)
    assert (current.exists(), old.exists(), half.exists()) == (True, False, False)
    assert report.freed >= 100_000


def test_an_environment_that_only_a_deployment_names_stays(desk: Desk, tmp_path: Path) -> None:
    from backends.environments import environment as spec
    from console.planning.deployment import EnvironmentChoice
    from console.runtimes.environments import Environments

    (tmp_path / "a.onnx").touch()
    choice = EnvironmentChoice(python="/opt/other/python3")
    made = Deployment(
        name="mine",
        backend="onnx",
        checkpoints={"model": str(tmp_path / "a.onnx")},
        environments={"embedded": choice},
    )
    desk.save(made)
    folder = environment(desk, Environments(desk.settings).folder(spec("embedded", made)).name)
    (item,) = desk.clean(("environments",), remove=True).items
    assert (item.safe, item.reason, folder.exists()) == (False, "used by deployment mine", True)


def test_a_deployment_that_cannot_be_read_keeps_every_finished_environment(desk: Desk) -> None:
    folder = environment(desk, "nemo-000000000000")
    desk.settings.folders.deployments.mkdir(parents=True)
    (desk.settings.folders.deployments / "broken.toml").write_text("name =")
    (item,) = desk.clean(("environments",), remove=True).items
    assert "broken cannot be read" in item.reason and folder.exists()


def test_the_newest_runs_of_each_deployment_stay(desk: Desk) -> None:
    made = runs_made(desk, 5)
    desk.clean(("runs",), keep=2, remove=True)
    assert {run.id for run in desk.runs()} == set(made[-2:])


def test_a_run_that_goes_on_is_never_removed(desk: Desk) -> None:
    store = RunStore(desk.settings)
    run_id = store.create(plan(shell("work", "exec sleep 600")), "")
    store.start(run_id)
    try:
        (item,) = desk.clean(("runs",), keep=0, remove=True).items
        assert (item.name, item.safe) == (run_id, False)
    finally:
        store.cancel(run_id)
        until(lambda: not store.view(run_id).active)


def test_work_of_a_deployment_that_is_gone_goes(desk: Desk) -> None:
    executed(RunStore(desk.settings), shell("work", "echo made > artefact"))
    desk.save(Deployment(name="digits", backend="onnx", checkpoints={}))
    work = desk.settings.folders.work / "digits"
    assert named(desk.clean(("work",)).items, safe=False) == {"digits"}
    desk.settings.folders.deployments.joinpath("digits.toml").unlink()
    assert named(desk.clean(("work",), remove=True).items, safe=True) == {"digits"}
    assert not work.exists()


def test_a_work_folder_that_a_run_holds_stays(desk: Desk) -> None:
    work = desk.settings.folders.work / "digits"
    work.mkdir(parents=True)
    handle = storage.lock(work / ".lock", "held")
    try:
        (item,) = desk.clean(("work",), remove=True).items
    finally:
        os.close(handle)
    assert (item.removed, item.reason) == (False, "stays: a run is working in it")
    assert work.exists()


def test_a_folder_that_is_not_ours_stays(desk: Desk, tmp_path: Path) -> None:
    stranger = desk.settings.folders.work / "photos"
    stranger.mkdir(parents=True)
    (desk.settings.folders.environments / "mine").mkdir(parents=True)
    (desk.settings.folders.work / "linked").symlink_to(tmp_path)
    report = desk.clean(remove=True)
    assert named(report.items, safe=True) == set()
    assert stranger.exists() and (desk.settings.folders.environments / "mine").exists()


def test_a_link_in_the_trash_is_removed_and_not_followed(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    trash = desk.settings.folders.state / "trash"
    trash.mkdir(parents=True)
    (trash / "link").symlink_to(tmp_path / "precious")
    desk.clean(("trash",), remove=True)
    assert not any(trash.iterdir()) and (tmp_path / "precious" / "file").exists()


def test_only_what_is_older_goes(desk: Desk) -> None:
    trash = desk.settings.folders.state / "trash"
    for name, days in (("old", 40), ("new", 1)):
        (trash / name).mkdir(parents=True)
        when = time.time() - days * 86_400
        os.utime(trash / name, (when, when))
    desk.clean(("trash",), older_than=age("30d"), remove=True)
    assert [path.name for path in trash.iterdir()] == ["new"]


def test_the_hub_cache_is_listed_and_never_removed(desk: Desk, tmp_path: Path) -> None:
    model = tmp_path / "hub" / "models--nvidia--parakeet"
    model.mkdir(parents=True)
    (item,) = desk.clean(("hub",), remove=True).items
    assert (item.name, item.safe, model.exists()) == (model.name, False, True)


def test_a_readonly_console_lists_and_removes_nothing(desk: Desk) -> None:
    environment(desk, "nemo-000000000000")
    only = Desk(replace(desk.settings, readonly=True))
    assert len(only.clean().items) == 1
    with pytest.raises(Refused):
        only.clean(remove=True)


@pytest.mark.parametrize("text", ["30", "d", "-1d", "1y"])
def test_an_age_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="30d"):
        age(text)
