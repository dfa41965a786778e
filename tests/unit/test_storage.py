"""Files of ours, written whole."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from console import storage


def test_two_threads_that_write_one_file_leave_one_of_the_two_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of a screen that is no longer wanted may still be writing when the next one does."""
    both, flush = threading.Barrier(2), os.fsync

    def together(handle: int) -> None:
        both.wait(30)
        flush(handle)

    monkeypatch.setattr(os, "fsync", together)
    file = tmp_path / "digits.toml"
    texts = (b"a" * 5000, b"b" * 9000)
    with ThreadPoolExecutor(2) as pool:
        for written in [pool.submit(storage.write_private, file, text) for text in texts]:
            written.result(30)
    assert file.read_bytes() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["digits.toml"]
