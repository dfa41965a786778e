"""Scanning a tree for checkpoints."""

from __future__ import annotations

import json
import os
from pathlib import Path

import checkpoint_files as files
import pytest

from console.checkpoints import browse, read
from console.checkpoints.model import Checkpoint, Format
from console.checkpoints.scan import EVERY, scan
from console.cli import main
from console.facts import UsageError


def names(found: list[Checkpoint], root: Path) -> list[str]:
    return [str(c.path.relative_to(root)) for c in found]


def test_every_form_is_found_and_none_is_entered(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    files.write_nemo(tmp_path / "a" / "deep" / "m.nemo")
    files.write_hugging_face(tmp_path / "b" / "llama")
    files.write_nemo(tmp_path / "b" / "llama" / "inside.nemo")
    files.write_nemo2(tmp_path / "c.nemo")
    files.write_engine(tmp_path / "engine")
    (tmp_path / "engine" / "other.plan").write_bytes(files.plan_bytes())
    (tmp_path / "m.plan").write_bytes(files.plan_bytes())
    found = list(scan(tmp_path))
    assert names(found, tmp_path) == ["m.plan", "a/deep/m.nemo", "b/llama", "c.nemo", "engine"]
    assert [c.format for c in found[1:]] == [
        Format.NEMO,
        Format.HUGGING_FACE,
        Format.NEMO2,
        Format.TRTLLM_ENGINE,
    ]


def test_the_folder_itself_may_be_the_checkpoint(tmp_path: Path) -> None:
    folder = files.write_hugging_face(tmp_path / "llama")
    assert [c.path for c in scan(folder)] == [folder]


def test_iterations_of_a_run_are_one_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("iter_0000100", "iter_0000200"):
        (run / name).mkdir(parents=True)
        (run / name / "common.pt").write_bytes(files.torch_zip())
        (run / name / "metadata.json").write_text("{}")
    (run / "latest_checkpointed_iteration.txt").write_text("200")
    (found,) = scan(tmp_path)
    assert found.path == run / "iter_0000200"


def test_any_configuration_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "config.json").write_text('{"port": 80}')
    (tmp_path / ".git").mkdir()
    files.write_nemo(tmp_path / ".git" / "m.nemo")
    assert list(scan(tmp_path)) == []


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    files.write_nemo(tmp_path / "a" / "m.nemo")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to("self")
    assert names(list(scan(tmp_path)), tmp_path) == ["a/m.nemo"]


def test_a_link_to_a_checkpoint_folder_is_one(tmp_path: Path) -> None:
    files.write_hugging_face(tmp_path / "elsewhere" / "llama")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "linked").symlink_to(tmp_path / "elsewhere" / "llama")
    assert names(list(scan(tree)), tree) == ["linked"]


def test_a_folder_that_cannot_be_read_is_said_and_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the system's own refusal; root may read everything, so the call is made to fail."""
    (tmp_path / "closed").mkdir()
    files.write_nemo(tmp_path / "z.nemo")
    real = os.scandir

    def refusing(path: str | Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("console.checkpoints.scan.os.scandir", refusing)
    found = list(scan(tmp_path))
    assert names(found, tmp_path) == ["z.nemo", "closed"]
    assert [r.code for r in found[1].risks] == ["unreadable"]
    assert "Permission denied" in found[1].risks[0].summary


def test_a_broken_checkpoint_is_listed_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "m.nemo").write_bytes(b"")
    (found,) = scan(tmp_path)
    assert (found.format, found.title) == (Format.UNKNOWN, "is empty")


def test_progress_counts_every_entry(tmp_path: Path) -> None:
    for number in range(EVERY + 5):
        (tmp_path / f"{number}.txt").touch()
    counts: list[int] = []
    list(scan(tmp_path, counts.append))
    assert counts == [EVERY, EVERY + 5]


def test_cancel_ends_the_scan(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        files.write_nemo(tmp_path / name / "m.nemo")
    answers = iter([False, False, True])
    assert names(list(scan(tmp_path, cancelled=lambda: next(answers))), tmp_path) == ["a/m.nemo"]


def test_unchanged_checkpoints_come_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files.write_nemo(tmp_path / "m.nemo")
    first = list(scan(tmp_path))
    reads: list[Path] = []
    monkeypatch.setattr(browse, "glance", lambda p: reads.append(p) or read.glance(p))  # type: ignore[func-returns-value]
    assert list(scan(tmp_path)) == first
    assert reads == []
    os.utime(path, ns=(1, 1))
    list(scan(tmp_path))
    assert reads == [path]


@pytest.mark.parametrize("name", ["nowhere", "a\0b"])
def test_a_folder_that_is_not_there_is_an_error_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        list(scan(tmp_path / name))


def test_the_command_line_prints_one_checkpoint_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write_nemo(tmp_path / "a.nemo")
    files.write_hugging_face(tmp_path / "llama")
    assert main(["inspect", "--scan", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert "2 checkpoints" in said.err
    assert main(["inspect", "--scan", "--json", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["checkpoint"]["format"] for line in lines] == ["nemo", "hugging-face"]
