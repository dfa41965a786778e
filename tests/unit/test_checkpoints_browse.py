"""Listing a folder."""

from __future__ import annotations

import os
from pathlib import Path

import checkpoint_files as files
import pytest

from console.checkpoints import browse as module
from console.checkpoints.browse import browse
from console.checkpoints.model import Format
from console.facts import UsageError


def test_checkpoints_and_folders_are_listed_by_name(tmp_path: Path) -> None:
    files.write_nemo(tmp_path / "B.nemo")
    files.write_gzip_nemo(tmp_path / "a.nemo")
    files.write_hugging_face(tmp_path / "llama")
    (tmp_path / "z-plain").mkdir()
    (tmp_path / "README.md").write_text("no checkpoint")
    (tmp_path / ".hidden.nemo").write_text("")
    found = browse(tmp_path)
    assert [(c.path.name, c.format) for c in found] == [
        ("a.nemo", Format.NEMO),
        ("B.nemo", Format.NEMO),
        ("llama", Format.HUGGING_FACE),
        ("z-plain", Format.UNKNOWN),
    ]
    assert found[-1].task == "folder"
    assert found[1].model_class == "EncDecCTCModelBPE"
    assert found[1].nemo_version == "2.7.3"


def test_a_broken_file_is_listed_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "m.nemo").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (entry,) = browse(tmp_path)
    assert entry.title == "is a Git LFS pointer, not the checkpoint itself"
    assert [r.code for r in entry.risks] == ["unreadable"]


def test_a_dangling_link_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "gone.nemo").symlink_to(tmp_path / "nowhere")
    assert browse(tmp_path) == ()


def test_cancel_keeps_what_was_found(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        files.write_nemo(tmp_path / f"{name}.nemo")
    answers = iter([False, True])
    assert [c.path.name for c in browse(tmp_path, lambda: next(answers))] == ["a.nemo"]


def test_an_unchanged_file_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files.write_nemo(tmp_path / "m.nemo")
    first = browse(tmp_path)
    reads: list[Path] = []
    glance = module.glance
    monkeypatch.setattr(module, "glance", lambda p: reads.append(p) or glance(p))  # type: ignore[func-returns-value]
    assert browse(tmp_path) == first
    assert reads == []
    os.utime(path, ns=(1, 1))
    browse(tmp_path)
    assert reads == [path]


def test_a_changed_configuration_in_a_folder_is_read_again(tmp_path: Path) -> None:
    folder = files.write_hugging_face(tmp_path / "llama")
    assert browse(tmp_path)[0].model_class == "LlamaForCausalLM"
    before = folder.stat().st_mtime_ns
    config = folder / "config.json"
    config.write_text('{"architectures": ["GemmaForCausalLM"]}')
    os.utime(config, ns=(1, 1))
    os.utime(folder, ns=(before, before))
    assert browse(tmp_path)[0].model_class == "GemmaForCausalLM"


@pytest.mark.parametrize("name", ["nowhere", "a\0b"])
def test_a_folder_that_is_not_there_is_an_error_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        browse(tmp_path / name)
