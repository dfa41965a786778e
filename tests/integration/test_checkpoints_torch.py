"""Files that PyTorch really writes: nothing in them is called unsafe, and what they hold is right."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from console.checkpoints import pickles
from console.checkpoints.source import opened

pytestmark = pytest.mark.integration

WRITE = """
import argparse, collections, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import torch
import torch.distributed.checkpoint as distributed

out = Path(sys.argv[1])
state = collections.OrderedDict(w=torch.zeros(8, 8), b=torch.nn.Parameter(torch.ones(3)))
state = collections.OrderedDict((k, v.to(torch.bfloat16)) for k, v in state.items())
torch.save(state, out / "new.bin")
torch.save(state, out / "old.bin", _use_new_zipfile_serialization=False)
odd = {"sparse": torch.ones(3).to_sparse(), "fp8": torch.ones(4).to(torch.float8_e4m3fn)}
torch.save(odd, out / "odd.bin")
torch.save({"args": argparse.Namespace(layers=2), "checkpoint_version": 3.0}, out / "common.pt")
distributed.save({"w": torch.ones(16, 16)}, checkpoint_id=str(out / "sharded"))
torch.jit.script(torch.nn.Linear(2, 2)).save(str(out / "script.pt"))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, nemo_environment: Path) -> Path:
    folder = tmp_path_factory.mktemp("torch")
    python = nemo_environment / "bin" / "python"
    subprocess.run([str(python), "-c", WRITE, str(folder)], check=True, capture_output=True)
    return folder


def scanned(path: Path) -> pickles.Scan:
    with opened(path) as (source, info):
        return pickles.scan(source, 0, info.st_size, time.thread_time() + 10)


@pytest.mark.parametrize(
    "name", ["new.bin", "old.bin", "odd.bin", "common.pt", "sharded/.metadata", "sharded/__0_0.distcp"]
)  # fmt: skip
def test_what_torch_saves_is_safe(written: Path, name: str) -> None:
    scan = scanned(written / name)
    assert (scan.unsafe, scan.whole) == ((), True)
    assert scan.pickles


def test_dtype_and_parameters_of_a_state_dict(written: Path) -> None:
    scan = scanned(written / "new.bin")
    assert (scan.dtype, scan.parameters) == ("bf16", 67)
    assert scanned(written / "old.bin").dtype == "bf16"


def test_untyped_storages_give_no_figure(written: Path) -> None:
    scan = scanned(written / "odd.bin")
    assert (scan.dtype, scan.parameters) == ("", None)


def test_a_script_archive_carries_code(written: Path) -> None:
    assert scanned(written / "script.pt").scripted
