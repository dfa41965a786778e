"""Dated data with an operator's file over it."""

from __future__ import annotations

import os
from pathlib import Path

from console.triton import releases


def test_two_changes_of_one_moment_are_both_read(tmp_path: Path) -> None:
    """A file's time stands still for some milliseconds, and as long as somebody likes."""
    override = tmp_path / "triton.toml"
    found = []
    for driver in (500, 600):
        override.write_text(f"[drivers]\n12 = {driver}\n")
        os.utime(override, ns=(10**18, 10**18))
        found.append(releases.data(override).drivers["12"])
    assert found == [500, 600]
